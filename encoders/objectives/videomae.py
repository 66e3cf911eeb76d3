"""VideoMAE on an agent's rollouts: predict the pixels of the hidden nine tenths of a clip.

Tong et al. 2022 (VideoMAE), Feichtenhofer et al. 2022. Whole tubes of a clip are hidden, the transformer encodes the
few visible tokens, and a light decoder predicts the pixels of the hidden ones, each patch normalised to zero mean and
unit variance.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.backbone.masks import sample_tubes, show_only
from mindreel.encoders.backbone.predictor import TokenPredictor
from mindreel.encoders.backbone.vit import ViTConfig, gather_tokens
from mindreel.encoders.objectives.video_encoder import Batch, VideoConfig, VideoEncoder

_STILL = 1e-4  # variance below which a patch counts as still; the pixels of all frames have variance 1


@dataclass(frozen=True)
class VideoMAEConfig(VideoConfig):
    """VideoMAE: hidden pixels are predicted from the visible tenth of a clip."""

    hidden: float = 0.9
    """Fraction of a frame's places that is hidden, in every frame of the clip (in the paper 0.9 to 0.95)."""
    decoder_dim: Annotated[int, Ge(1)] = 64
    """Width of the decoder."""
    decoder_depth: Annotated[int, Ge(1)] = 2
    """Transformer blocks of the decoder (in the paper 4, half as wide as the encoder)."""

    def __post_init__(self):
        if not 0 < self.hidden < 1:
            raise ValueError(f"encoder.hidden must be between 0 and 1, got {self.hidden}.")


class VideoMAE(VideoEncoder):
    """The video transformer with VideoMAE's objective.

    Hidden pixels are set to zero before the stem, since a convolutional stem sees a few pixels beyond each patch and
    its norms the whole picture. So nothing of them reaches a visible token.
    """

    config: VideoMAEConfig

    def __init__(self, config: VideoMAEConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        vit = config.vit
        pixels = vit.tubelet * vit.patch**2 * 3
        self.decoder = TokenPredictor(vit, config.decoder_dim, config.decoder_depth, vit.dim, pixels)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error at the hidden tokens."""
        vit, clip = self.config.vit, batch.clip
        visible, hidden = sample_tubes(self.config.hidden, len(clip), vit, clip.device)
        context = self.vit(show_only(clip, visible, vit), visible)  # (B, V, D)
        predicted = self.decoder(context, visible, hidden)[:, visible.shape[1] :]  # (B, M, P)
        return {"videomae_loss": F.mse_loss(predicted, gather_tokens(patches(clip, vit), hidden))}


def patches(clip: Tensor, vit: ViTConfig) -> Tensor:
    """The pixels of each token, every colour normalised to zero mean and unit variance: (B, F, 3, H, W) -> (B, N, P).

    P = tubelet * patch * patch * 3. A patch that equals the mean frame stays zero; its rounding errors do not explode.
    """
    x = rearrange(
        clip,
        "b (time tubelet) c (rows p) (columns q) -> b (time rows columns) (tubelet p q) c",
        tubelet=vit.tubelet,
        p=vit.patch,
        q=vit.patch,
    )
    x = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + _STILL).sqrt()
    return rearrange(x, "b n pixels c -> b n (pixels c)")
