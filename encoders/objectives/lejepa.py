"""LeJEPA on an agent's rollouts: predict the next embedding, and keep embeddings distributed as a standard normal.

Balestriero and LeCun 2025 (LeJEPA, SIGReg); as a world model, LeWorldModel (Maes et al. 2026). There is no teacher and
no stop-gradient: SIGReg alone keeps the embeddings from collapsing. It asks every one-dimensional projection of them to
be normally distributed.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.objectives.auxiliary import mlp
from mindreel.encoders.objectives.video_encoder import Batch, VideoConfig, VideoEncoder


@dataclass(frozen=True)
class LeJEPAConfig(VideoConfig):
    """LeJEPA: the next embedding is predicted from this one and the actions; embeddings are kept normal."""

    sigreg_coef: Annotated[float, Ge(0)] = 0.09
    """Weight of SIGReg; the prediction has weight 1."""
    projections: Annotated[int, Ge(1)] = 1024
    """Directions that embeddings are projected on, drawn at random in each step."""
    knots: Annotated[int, Ge(2)] = 17
    """Points at which the characteristic function of each projection is compared."""
    projector_dim: Annotated[int, Ge(1)] = 192
    """Width of the space in which prediction and SIGReg act."""

    def __post_init__(self):
        if self.projections < 1 or self.knots < 2:
            raise ValueError(
                f"encoder.projections must be 1 or more and encoder.knots 2 or more, got {self.projections} and "
                f"{self.knots}."
            )


class LeJEPA(VideoEncoder):
    """The video transformer with LeJEPA's objective on its embedding, behind a projector with BatchNorm."""

    needs_embedding = True
    config: LeJEPAConfig

    def __init__(self, config: LeJEPAConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        width = config.projector_dim
        self.projector = nn.Sequential(nn.Linear(config.embedding_dim, width), nn.BatchNorm1d(width))
        self.forward_model = mlp(width + action_dim, width, width)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """Squared error of the predicted embedding, and SIGReg of the embeddings before and after the actions."""
        config = self.config
        both = self.projector(torch.cat([batch.embedding, batch.embedding_after]))
        both = rearrange(both, "(two b) e -> two b e", two=2)  # before and after the actions
        predicted = both[0]
        for k in range(batch.action.shape[1]):
            predicted = predicted + self.forward_model(torch.cat([predicted, batch.action[:, k]], -1))
        return {
            "lejepa_loss": F.mse_loss(predicted, both[1]),
            "sigreg_loss": config.sigreg_coef * sigreg(both, config.projections, config.knots),
        }


def sigreg(embeddings: Tensor, projections: int, knots: int) -> Tensor:
    """Distance of embeddings from a standard normal distribution, in random projections.

    Args:
        embeddings: sets of B embeddings, (..., B, E).
        projections: number of directions, drawn uniformly from the sphere.
        knots: points of the integral.

    Returns:
        the mean of `epps_pulley` over sets and directions, a scalar.
    """
    device = embeddings.device
    directions = F.normalize(torch.randn(embeddings.shape[-1], projections, device=device), dim=0)
    with torch.autocast(device.type, enabled=False):  # the statistic is small differences of means near 1
        return epps_pulley(embeddings.float() @ directions, knots).mean()


def epps_pulley(samples: Tensor, knots: int, reach: float = 3.0) -> Tensor:
    """The statistic of Epps and Pulley (1983): B times the squared distance of characteristic functions.

    B times the integral, over t from -reach to reach, of |mean(exp(i t x)) - exp(-t^2 / 2)|^2 exp(-t^2 / 2), by
    the trapezoid rule. For samples of a standard normal its mean is about 1.05, whatever B.

    Args:
        samples: B numbers for each of S tests, (..., B, S).
        knots: points from 0 to `reach`; the integrand is even.

    Returns:
        (..., S).
    """
    t = torch.linspace(0, reach, knots, device=samples.device)
    normal = torch.exp(-(t**2) / 2)
    weight = torch.full_like(t, 2 * reach / (knots - 1))
    weight[[0, -1]] /= 2
    angle = samples.unsqueeze(-1) * t  # (..., B, S, knots)
    real, imaginary = angle.cos().mean(-3), angle.sin().mean(-3)  # (..., S, knots)
    distance = (real - normal) ** 2 + imaginary**2
    return samples.shape[-2] * (distance @ (weight * normal))
