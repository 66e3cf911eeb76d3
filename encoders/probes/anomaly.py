"""Anomaly: do impossible movies surprise an encoder's predictor more than possible ones? (IntPhys, Riochet et al. 2018)

Surprise is the squared error of the dynamics probe's predictor in the encoder's features, divided by the error that is
expected at that moment. Some moments are harder to predict than others, and where little moves every predictor has
small errors: by the plain error a limb that freezes would be less surprising than the undisturbed world.
"""

import torch
from torch import Tensor, nn

from mindreel.encoders.probes.dynamics import unroll
from mindreel.encoders.probes.regression import ProbeConfig, train_probe


def movie_starts(episodes: int, steps: int, count: int) -> tuple[Tensor, Tensor]:
    """Where movies begin: indices of episodes and steps, (M,) each, without repetition, the same for every encoder.

    Args:
        episodes: number of episodes, over which movies are spread evenly.
        steps: number of steps in each episode at which a movie can begin; 0 or less for none.
        count: movies wanted; M is smaller where there are fewer beginnings.
    """
    steps = max(0, steps)
    order = torch.rand(episodes, steps, generator=torch.Generator().manual_seed(0)).argsort(1)
    index = torch.arange(min(count, episodes * steps))
    episode = index % episodes
    return episode, order[episode, index // episodes]


class Expectation(nn.Module):
    """Features z and an action to the squared error that the predictor is expected to make there.

    It stays within the range of the errors seen in training, since it cannot extrapolate to unfamiliar features.

    Args:
        error: errors of the predictor, (N,), which set the range and the initial expectation.
        dim: number of features, D.
        action_dim: number of action dimensions, A.
        hidden: width of the network.
    """

    bounds: Tensor

    def __init__(self, error: Tensor, dim: int, action_dim: int, hidden: int):
        super().__init__()
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, float(error.mean().clamp(min=1e-12).log()))
        self.net = nn.Sequential(nn.Linear(dim + action_dim, hidden), nn.LayerNorm(hidden), nn.SiLU(), last)
        ends = error.quantile(torch.tensor([0.01, 0.99], device=error.device))
        self.register_buffer("bounds", ends.clamp(min=1e-12).log())

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Features (..., D) and actions (..., A) to expected errors (...)."""
        return self.log_error(z, action).clamp(self.bounds[0], self.bounds[1]).exp()

    def log_error(self, z: Tensor, action: Tensor) -> Tensor:
        """Logarithm of the expected error, without bounds."""
        return self.net(torch.cat([z, action], -1)).squeeze(-1)


def fit_expectation(config: ProbeConfig, predictor: nn.Module, z: Tensor, action: Tensor) -> Expectation:
    """Trains an expectation on the predictor's errors in M episodes of features z (M, T + 1, D) and actions (M, T, A).

    It maximises the likelihood of normally distributed errors with one variance in all directions.
    """
    error = _error(predictor, z, action).flatten()
    seen, acted = z[:, :-1].flatten(0, 1), action.flatten(0, 1)
    few = error[:: max(1, len(error) // 10**6)]  # torch.quantile takes 2^24 at most
    expectation = Expectation(few, z.shape[-1], action.shape[-1], config.hidden).to(z.device)

    def loss(rows: Tensor) -> Tensor:
        log_error = expectation.log_error(seen[rows], acted[rows])
        return (error[rows] * (-log_error).exp() + log_error).mean()

    train_probe(config, expectation, len(error), loss)
    return expectation.eval()


@torch.no_grad()
def surprise(predictor: nn.Module, expectation: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Largest surprise in each movie with features z (M, T + 1, D) and actions (M, T, A): (M,)."""
    return (_error(predictor, z, action) / expectation(z[:, :-1], action)).amax(1)


@torch.no_grad()
def surprise_across(predictor: nn.Module, expectation: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Surprise at the last of features z (M, T + 1, D), predicted from the first and the actions (M, T, A): (M,).

    Features in between, which show a screen, are not used: the predictor is unrolled from before the screen until
    after it. Both movies of a pair begin with equal features, and so have the same expectation; dividing by it makes
    movies of different pairs comparable.
    """
    predicted = unroll(predictor, z[:, 0], action)[:, -1]
    return (predicted - z[:, -1]).pow(2).sum(-1) / expectation(z[:, 0], action[:, 0])


@torch.no_grad()
def _error(predictor: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Squared errors one step ahead, summed over features: (M, T)."""
    return (predictor(z[:, :-1], action) - z[:, 1:]).pow(2).sum(-1)


def pairwise_accuracy(possible: Tensor, impossible: Tensor) -> Tensor:
    """1 where the impossible movie of a pair is more surprising, 0.5 for a tie, else 0: (M,), (M,) -> (M,)."""
    return (impossible > possible).float() + 0.5 * (impossible == possible).float()


def auroc(possible: Tensor, impossible: Tensor, weight: Tensor | None = None) -> Tensor:
    """Probability that an impossible movie is more surprising than a possible one, ties counting half: scalar.

    Args:
        possible: surprise of the possible movies, (M,).
        impossible: surprise of the impossible ones, (M,), in the same order of pairs.
        weight: how often each pair counts, (M,).
    """
    weight = torch.ones_like(possible) if weight is None else weight
    above = (impossible[:, None] > possible[None]).float() + 0.5 * (impossible[:, None] == possible[None]).float()
    return weight @ above @ weight / weight.sum().pow(2)
