"""Dynamics: how well a small action-conditioned predictor carries an encoder's features on."""

import torch
from torch import Tensor, nn

from mindreel.encoders.probes.regression import ProbeConfig, descend

HORIZONS = (1, 5, 15)
"""Steps ahead at which the error is measured."""
_COMPONENTS = 128  # principal components of wider features that are predicted
_UNROLLED = 5  # steps of the predictor's training loss


class Components(nn.Module):
    """The first principal components of features, scaled together to unit mean variance.

    Not each on its own: what hardly varies would weigh as much as what does.

    Args:
        features: rows (N, D).
        count: components kept, at most.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, features: Tensor, count: int = _COMPONENTS):
        super().__init__()
        features = features.float()
        rank = min(count, *features.shape)
        _, spread, axes = torch.pca_lowrank(features, q=rank, center=True, niter=4)
        scale = (spread.pow(2).sum() / (len(features) * rank)).sqrt().clamp(min=1e-8)
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("axes", axes / scale)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., components)."""
        return (features.float() - self.mean) @ self.axes


class DynamicsPredictor(nn.Module):
    """Features z and an action to the features one decision later, as z plus a two-layer network's change."""

    def __init__(self, dim: int, action_dim: int, hidden: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim + action_dim, hidden),
            nn.LayerNorm(hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, dim),
        )
        for parameter in self.net[-1].parameters():
            nn.init.zeros_(parameter)  # an untrained predictor predicts no change

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """(..., D), (..., A) -> (..., D)."""
        return z + self.net(torch.cat([z, action], -1))


def unroll(predictor: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Carries z (B, D) on by actions (B, T, A): (B, T, D)."""
    carried = []
    for t in range(action.shape[1]):
        z = predictor(z, action[:, t])
        carried.append(z)
    return torch.stack(carried, 1)


def fit_predictor(config: ProbeConfig, z: Tensor, action: Tensor) -> DynamicsPredictor:
    """A predictor trained on episodes of features z (E, T + 1, D) and actions (E, T, A), unrolled a few steps."""
    episodes, steps = action.shape[:2]
    length = min(_UNROLLED, steps)
    predictor = DynamicsPredictor(z.shape[-1], action.shape[-1], 2 * config.hidden).to(z.device)
    offsets = torch.arange(length + 1, device=z.device)
    starts = steps - length + 1

    def loss(rows: Tensor) -> Tensor:
        episode, when = (rows // starts)[:, None], (rows % starts)[:, None] + offsets  # (B, 1), (B, length + 1)
        seen = z[episode, when]
        carried = unroll(predictor, seen[:, 0], action[episode, when[:, :-1]])
        return (carried - seen[:, 1:]).pow(2).mean()

    descend(config, predictor, episodes * starts, loss)
    return predictor.eval()


@torch.no_grad()
def prediction_errors(predictor: nn.Module, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared errors at `HORIZONS`, from every start of episodes z (E, T + 1, D), actions (E, T, A).

    Returns:
        errors of the predictor and of predicting no change, summed over features, (N, H) each, and the
        episode of each row, (N,). Horizons longer than the episodes are left out.
    """
    horizons = [h for h in HORIZONS if h <= action.shape[1]]
    starts = torch.arange(action.shape[1] - horizons[-1] + 1, device=z.device)
    when = starts[:, None] + torch.arange(horizons[-1] + 1, device=z.device)  # (S, longest + 1)
    errors, still = [], []
    for seen, acted in zip(z, action, strict=True):
        truth = seen[when]
        carried = unroll(predictor, truth[:, 0], acted[when[:, :-1]])
        errors.append(torch.stack([(carried[:, h - 1] - truth[:, h]).pow(2).sum(-1) for h in horizons], 1))
        still.append(torch.stack([(truth[:, 0] - truth[:, h]).pow(2).sum(-1) for h in horizons], 1))
    return torch.cat(errors), torch.cat(still), torch.arange(len(z), device=z.device).repeat_interleave(len(starts))
