"""VICReg on an agent's rollouts: two views of a clip get similar embeddings, whose features vary and do not correlate.

Bardes et al. 2022. Each view is the clip shifted by a few random pixels and made brighter or darker. The features learn
to ignore whatever differs between the views: shifts, for example, cost the exact position of a body. With `moments` the
second view is the clip K actions later, and the features learn to ignore what changes quickly.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.frames import shifted
from mindreel.encoders.objectives.auxiliary import covariance_loss, variance_loss
from mindreel.encoders.objectives.video_encoder import Batch, VideoConfig, VideoEncoder


@dataclass(frozen=True)
class VICRegConfig(VideoConfig):
    """VICReg: two views of a clip get similar embeddings."""

    invariance_coef: Annotated[float, Ge(0)] = 25.0
    """Weight of the squared difference between the views."""
    variance_coef: Annotated[float, Ge(0)] = 25.0
    """Weight of the hinge that keeps each feature's standard deviation above 1."""
    covariance_coef: Annotated[float, Ge(0)] = 1.0
    """Weight of the squared covariances between features."""
    expander_dim: Annotated[int, Ge(1)] = 512
    """Width of the space in which the three losses act."""
    shift: Annotated[int, Ge(0)] = 2
    """Pixels by which a view is shifted at most, up or down and left or right."""
    brightness: Annotated[float, Ge(0)] = 0.2
    """Fraction by which a view is made brighter or darker at most."""
    moments: bool = False
    """Use the clip K actions later as the second view, and neither shift nor brighten the two."""


class VICReg(VideoEncoder):
    """The video transformer with VICReg's objective on its embedding, behind an expander."""

    needs_embedding = True
    config: VICRegConfig

    def __init__(self, config: VICRegConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        width = config.expander_dim
        self.expander = nn.Sequential(
            nn.Linear(config.embedding_dim, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
        )

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """Invariance, variance and covariance of the two views' expanded embeddings."""
        config = self.config
        if config.moments:
            embeddings = batch.embedding, batch.embedding_after
        else:
            embeddings = tuple(self.embed(self.vit(self._view(batch.clip))) for _ in range(2))
        one, two = (self.expander(embedding) for embedding in embeddings)  # (B, E) each
        return {
            "vicreg_invariance_loss": config.invariance_coef * F.mse_loss(one, two),
            "vicreg_variance_loss": config.variance_coef * (variance_loss(one) + variance_loss(two)) / 2,
            "vicreg_covariance_loss": config.covariance_coef * (covariance_loss(one) + covariance_loss(two)),
        }

    def _view(self, clip: Tensor) -> Tensor:
        """Clips (B, F, 3, H, W) shifted and brightened at random, all frames of a clip alike."""
        config = self.config
        spread = config.brightness * (2 * torch.rand(len(clip), 1, 1, 1, 1, device=clip.device) - 1)
        # Brightness scales the original pixels, so the mean frame is added before.
        return shifted(clip + spread * (clip + self.mean_frame / self.pixel_std), config.shift)
