"""VideoMAE on an agent's rollouts: draw the hidden nine tenths of a clip from the rest.

Tong et al. 2022 (VideoMAE), Feichtenhofer et al. 2022. Whole tubes of a clip are hidden, the transformer sees the
few visible tokens alone, and a light decoder predicts the pixels of the hidden ones, each patch brought to zero
mean and unit variance.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.backbone.masks import sample_tubes, show_only
from mindreel.encoders.backbone.predictor import TokenPredictor
from mindreel.encoders.backbone.vit import ViTConfig, gather_tokens
from mindreel.encoders.objectives.video_encoder import Batch, VideoConfig, VideoEncoder

_STILL = 1e-4  # variance, of pixels of unit variance, below which a patch counts as still


@dataclass(frozen=True)
class VideoMAEConfig(VideoConfig):
    """VideoMAE: hidden pixels predicted from the visible tenth of a clip."""

    hidden: float = 0.9
    """Share of the places of a frame that are hidden, through the whole clip (the paper's: 0.9 to 0.95)."""
    decoder_dim: int = 64
    """Width of the decoder."""
    decoder_depth: int = 2
    """Transformer blocks of the decoder (the paper's has 4, of half the encoder's width)."""

    def __post_init__(self):
        if not 0 < self.hidden < 1:
            raise ValueError(f"hidden is a share between 0 and 1, got {self.hidden}.")


class VideoMAE(VideoEncoder):
    """The video transformer with VideoMAE's objective.

    A convolutional stem sees a few pixels beyond each patch, and its norm the whole picture. So hidden pixels
    are zeroed before the stem: nothing of them reaches a visible token.
    """

    config: VideoMAEConfig

    def __init__(self, config: VideoMAEConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        vit = config.vit
        pixels = vit.tubelet * vit.patch**2 * 3
        self.decoder = TokenPredictor(vit, config.decoder_dim, config.decoder_depth, vit.dim, pixels)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """Squared error at the hidden tokens alone."""
        vit, clip = self.config.vit, batch.clip
        visible, hidden = sample_tubes(self.config.hidden, len(clip), vit, clip.device)
        context = self.vit(show_only(clip, visible, vit), visible)  # (B, V, D)
        predicted = self.decoder(context, visible, hidden)[:, visible.shape[1] :]  # (B, M, P)
        return {"videomae_loss": F.mse_loss(predicted, gather_tokens(patches(clip, vit), hidden))}


def patches(clip: Tensor, vit: ViTConfig) -> Tensor:
    """The pixels of each token, every colour at zero mean and unit variance: (B, F, 3, H, W) -> (B, N, P).

    A patch on which nothing differs from the mean frame stays zero, instead of having its rounding errors blown up.
    """
    time, rows, columns = vit.grid
    sizes = (-1, time, vit.tubelet, 3, rows, vit.patch, columns, vit.patch)
    x = clip.reshape(sizes).permute(0, 1, 4, 6, 2, 5, 7, 3)  # (B, time, rows, columns, tubelet, patch, patch, 3)
    x = x.flatten(4, 6).flatten(1, 3)  # (B, N, pixels, 3)
    x = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + _STILL).sqrt()
    return x.flatten(2)
