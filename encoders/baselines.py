"""Baselines: a convolutional network trained by the agent, principal components of pixels, the simulator's state."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.frames import FrameEncoder, shifted
from mindreel.encoders.backbone.readout import CompressedReadout, fit_readout
from mindreel.encoders.encoder import Encoder, check_frames, check_training_mode


@dataclass(frozen=True)
class CNNConfig:
    """A convolutional network trained by the agent's losses alone, as in TD-MPC2."""

    image_size: int = 64
    """Height and width of a frame, in pixels."""
    frames: int = 3
    """Frames F of a clip, stacked as channels."""
    channels: Annotated[int, Ge(1)] = 32
    """Channels of every layer."""
    random_shift: Annotated[int, Ge(0)] = 3
    """Pixels by which each clip is shifted at most in training, up or down and left or right."""
    training_mode: str = "finetune"
    """finetune (trained by the agent's losses), or frozen (never trained)."""


class CNNEncoder(FrameEncoder):
    """Four convolutions over stacked, randomly shifted frames (Hansen et al. 2024).

    Unlike there, the mean frame is subtracted. Otherwise, where little of a picture moves, an untrained network's
    features are nearly the same for all clips, and the agent's losses soon make them collapse.

    Args:
        config: sizes and training mode.
        action_dim: not used; all encoders are made with the same arguments.
        state_dim: not used either.

    Raises:
        ValueError: fields of the config are out of range.
    """

    def __init__(self, config: CNNConfig, action_dim: int, state_dim: int):
        super().__init__(config.image_size)
        check_training_mode(config.training_mode, ("frozen", "finetune"))
        if config.random_shift < 0:
            raise ValueError(f"encoder.random_shift must be 0 or more, got {config.random_shift}.")
        self.training_mode, self.random_shift = config.training_mode, config.random_shift
        self.clip_frames = config.frames
        width = config.channels
        self.net = nn.Sequential(
            nn.Conv2d(3 * config.frames, width, 7, 2),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, 2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3),
        )
        side = config.image_size
        for kernel, stride in ((7, 2), (5, 2), (3, 2), (3, 1)):
            side = (side - kernel) // stride + 1
        if side < 1:
            raise ValueError(
                f"encoder.image_size={config.image_size}: too small for the convolutions, choose 39 or more."
            )
        self.feature_dim, self.token_grid = width * side * side, (1, side, side)
        self.requires_grad_(self.trained_by_agent)

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W) to features (B, feature_dim)."""
        return rearrange(self._map(observation), "b c h w -> b (c h w)")

    def tokens(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W) to the last feature map as tokens, (B, N, channels)."""
        return rearrange(self._map(observation), "b c h w -> b (h w) c")

    def _map(self, observation: Tensor) -> Tensor:
        check_frames(observation, self.clip_frames, self.image_size, self.image_size)
        clips = self.normalise(observation)
        if self.training and self.random_shift:
            clips = shifted(clips, self.random_shift)
        return self.net(rearrange(clips, "b f c h w -> b (f c) h w"))


@dataclass(frozen=True)
class PixelsConfig:
    """Principal components of downscaled frames, fitted to rollouts, without a network."""

    image_size: int = 64
    """Height and width of a frame, in pixels."""
    frames: int = 4
    """Frames F of a clip."""
    pool: int = 2
    """Pixels, in height and width, that are averaged to one."""
    components: Annotated[int, Ge(1)] = 256
    """Number of principal components that the agent receives, each of unit variance."""

    def __post_init__(self):
        if self.pool < 1 or self.image_size % self.pool:
            raise ValueError(f"image_size ({self.image_size}) must be a multiple of pool ({self.pool}).")


class PixelsEncoder(Encoder):
    """Principal components of downscaled frames. Each frame is one token.

    Args:
        config: sizes.
        action_dim: not used; all encoders are made with the same arguments.
        state_dim: not used either.
    """

    fits_readout = True

    def __init__(self, config: PixelsConfig, action_dim: int, state_dim: int):
        super().__init__()
        self.config = config
        self.clip_frames, self.image_size, self.token_grid = config.frames, config.image_size, (config.frames, 1, 1)
        pixels = 3 * (config.image_size // config.pool) ** 2
        self.readout = CompressedReadout(config.frames, pixels, config.components, 0)
        self.feature_dim = self.readout.feature_dim

    def extra_repr(self) -> str:
        return f"pool={self.config.pool}"

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W) to components (B, feature_dim)."""
        return self.readout(self.tokens(observation))

    def tokens(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W) to downscaled frames as tokens, (B, F, 3 H W / pool^2)."""
        check_frames(observation, self.clip_frames, self.config.image_size, self.config.image_size)
        frames = rearrange(observation, "b f c h w -> (b f) c h w").float() / 255
        small = F.avg_pool2d(frames, self.config.pool)
        return rearrange(small, "(b f) c h w -> b f (c h w)", b=len(observation))

    def fit_readout(self, clips: Tensor) -> None:
        """Fits the components to clips, uint8 (N, F, 3, H, W)."""
        fit_readout(self.readout, self.tokens, clips)


@dataclass(frozen=True)
class StateConfig:
    """The simulator's state instead of pictures, as an upper bound for encoders."""


class StateEncoder(Encoder):
    """Returns states as features.

    Args:
        config: without fields.
        action_dim: not used; all encoders are made with the same arguments.
        state_dim: number of state dimensions.
    """

    clip_frames = 0
    image_size = 0
    token_grid = (1, 1, 1)

    def __init__(self, config: StateConfig, action_dim: int, state_dim: int):
        super().__init__()
        self.feature_dim = state_dim

    def forward(self, observation: Tensor) -> Tensor:
        """States (B, n), unchanged."""
        return observation

    def tokens(self, observation: Tensor) -> Tensor:
        """States (B, n) to one token each, (B, 1, n)."""
        return rearrange(observation, "b n -> b 1 n")
