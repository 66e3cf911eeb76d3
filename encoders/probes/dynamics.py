"""Dynamics: how well a small action-conditioned predictor predicts an encoder's features."""

import torch
from torch import Tensor, nn

from mindreel.encoders.probes.regression import ProbeConfig, train_probe

HORIZONS = (1, 5, 15)
"""Steps ahead at which the error is measured."""
_COMPONENTS = 128  # principal components that wider features are reduced to
_UNROLLED = 5  # steps over which the predictor is unrolled in training


class Components(nn.Module):
    """The first principal components of features, scaled together to unit mean variance.

    One scale for all keeps their proportions: components that hardly vary weigh little in the errors.

    Args:
        features: rows (N, D).
        count: number of components at most.
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
        """Features (..., D) to components (..., C)."""
        return (features.float() - self.mean) @ self.axes


class DynamicsPredictor(nn.Module):
    """Features z and an action to the features one step later: z plus a change predicted by an MLP.

    Untrained, it predicts no change.

    Args:
        dim: number of features, D.
        action_dim: number of action dimensions, A.
        hidden: width of the MLP.
    """

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
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Features (..., D) and actions (..., A) to features (..., D)."""
        return z + self.net(torch.cat([z, action], -1))


def unroll(predictor: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Predicted features (B, T, D) from features z (B, D) and actions (B, T, A)."""
    predicted = []
    for t in range(action.shape[1]):
        z = predictor(z, action[:, t])
        predicted.append(z)
    return torch.stack(predicted, 1)


def fit_predictor(config: ProbeConfig, z: Tensor, action: Tensor) -> DynamicsPredictor:
    """Trains a predictor on features z (M, T + 1, D) and actions (M, T, A) of M episodes, unrolled a few steps."""
    episodes, steps = action.shape[:2]
    length = min(_UNROLLED, steps)
    predictor = DynamicsPredictor(z.shape[-1], action.shape[-1], 2 * config.hidden).to(z.device)
    offsets = torch.arange(length + 1, device=z.device)
    starts = steps - length + 1

    def loss(rows: Tensor) -> Tensor:
        episode, when = (rows // starts)[:, None], (rows % starts)[:, None] + offsets  # (B, 1), (B, length + 1)
        seen = z[episode, when]
        predicted = unroll(predictor, seen[:, 0], action[episode, when[:, :-1]])
        return (predicted - seen[:, 1:]).pow(2).mean()

    train_probe(config, predictor, episodes * starts, loss)
    return predictor.eval()


@torch.no_grad()
def prediction_errors(predictor: nn.Module, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared errors at `HORIZONS`, from every step of episodes z (M, T + 1, D) with actions (M, T, A).

    Returns:
        errors of the predictor and of predicting no change, summed over features, (N, number of horizons) each, and the
        episode of each row, (N,). Horizons longer than the episodes are left out.
    """
    horizons = [h for h in HORIZONS if h <= action.shape[1]]
    starts = torch.arange(action.shape[1] - horizons[-1] + 1, device=z.device)
    when = starts[:, None] + torch.arange(horizons[-1] + 1, device=z.device)  # (S, longest + 1)
    errors, still = [], []
    for seen, acted in zip(z, action, strict=True):
        truth = seen[when]
        predicted = unroll(predictor, truth[:, 0], acted[when[:, :-1]])
        errors.append(torch.stack([(predicted[:, h - 1] - truth[:, h]).pow(2).sum(-1) for h in horizons], 1))
        still.append(torch.stack([(truth[:, 0] - truth[:, h]).pow(2).sum(-1) for h in horizons], 1))
    return torch.cat(errors), torch.cat(still), torch.arange(len(z), device=z.device).repeat_interleave(len(starts))
