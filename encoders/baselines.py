"""Encoders to compare with: a convolutional network trained by the agent, and the simulator's state."""

from dataclasses import dataclass

from torch import Tensor, nn

from encoders.base import Encoder


@dataclass(frozen=True)
class CNNConfig:
    """A convolutional network that only the agent's losses train, as in TD-MPC2."""

    image_size: int = 64
    """Height and width of a frame, in pixels."""
    frames: int = 3
    """Frames F stacked into one input."""
    channels: int = 32
    """Channels of every layer."""


class CNNEncoder(Encoder):
    """Four convolutions over stacked frames (Hansen et al. 2024, without the random shift)."""

    training_mode = "cotrain"

    def __init__(self, config: CNNConfig, action_dim: int, state_dim: int):
        super().__init__()
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
            nn.Flatten(),
        )
        side = config.image_size
        for kernel, stride in ((7, 2), (5, 2), (3, 2), (3, 1)):
            side = (side - kernel) // stride + 1
        if side < 1:
            raise ValueError(f"encoder.image_size={config.image_size}: too small for the convolutions, use 32 or more.")
        self.feature_dim = width * side * side

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W) to features (B, feature_dim)."""
        return self.net(observation.flatten(1, 2).float() / 255 - 0.5)


@dataclass(frozen=True)
class StateConfig:
    """The simulator's own state in place of pictures: what a perfect encoder would know."""


class StateEncoder(Encoder):
    """The identity."""

    clip_frames = 0

    def __init__(self, config: StateConfig, action_dim: int, state_dim: int):
        super().__init__()
        self.feature_dim = state_dim

    def forward(self, observation: Tensor) -> Tensor:
        """States (B, n), unchanged."""
        return observation
