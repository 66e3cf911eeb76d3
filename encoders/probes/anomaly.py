"""Anomaly: is an encoder's predictor more surprised by what cannot happen? (IntPhys, Riochet et al. 2018)

Surprise is the squared error of the dynamics probe's predictor, in the encoder's own features, as a multiple of what
is expected there: some moments are harder to foresee than others, and where little moves any predictor errs little.
A plain error would call what slows the world down, a limb that freezes, less surprising than the world as it is.
"""

import torch
from torch import Tensor, nn

from mindreel.encoders.probes.dynamics import unroll
from mindreel.encoders.probes.regression import ProbeConfig, descend


def movie_starts(episodes: int, steps: int, count: int) -> tuple[Tensor, Tensor]:
    """Where movies begin: numbers of episodes and steps (M,), all different, the same for every encoder.

    Args:
        episodes: how many there are; movies are spread evenly over them.
        steps: those of each episode that are not too late; there may be none.
        count: movies wanted, M where there are so many.
    """
    steps = max(0, steps)
    order = torch.rand(episodes, steps, generator=torch.Generator().manual_seed(0)).argsort(1)
    index = torch.arange(min(count, episodes * steps))
    episode = index % episodes
    return episode, order[episode, index // episodes]


class Expectation(nn.Module):
    """Features z and an action to the squared error that the predictor usually makes from there.

    Never outside the range of errors seen, though: from features that are like no others it would be a guess.
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
        """(..., D), (..., A) -> (...)."""
        return self.log_error(z, action).clamp(self.bounds[0], self.bounds[1]).exp()

    def log_error(self, z: Tensor, action: Tensor) -> Tensor:
        """The same as a logarithm, without bounds."""
        return self.net(torch.cat([z, action], -1)).squeeze(-1)


def fit_expectation(config: ProbeConfig, predictor: nn.Module, z: Tensor, action: Tensor) -> Expectation:
    """What errors to expect, learned from episodes of features z (E, T + 1, D) and actions (E, T, A).

    It maximises the likelihood of errors that are normal, with one variance in all directions.
    """
    error = _error(predictor, z, action).flatten()
    seen, acted = z[:, :-1].flatten(0, 1), action.flatten(0, 1)
    few = error[:: max(1, len(error) // 10**6)]  # torch's quantiles take no more than 2^24
    expectation = Expectation(few, z.shape[-1], action.shape[-1], config.hidden).to(z.device)

    def loss(rows: Tensor) -> Tensor:
        log_error = expectation.log_error(seen[rows], acted[rows])
        return (error[rows] * (-log_error).exp() + log_error).mean()

    descend(config, expectation, len(error), loss)
    return expectation.eval()


@torch.no_grad()
def surprise(predictor: nn.Module, expectation: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """The most surprising moment of movies with features z (M, T + 1, D) and actions (M, T, A): (M,)."""
    return (_error(predictor, z, action) / expectation(z[:, :-1], action)).amax(1)


@torch.no_grad()
def surprise_across(predictor: nn.Module, expectation: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Surprise at the last of features z (M, T + 1, D) for who has seen the first and done the actions: (M,).

    What lies between is not looked at: the predictor has no memory, so it has to carry what it saw before a screen
    came in its own predictions until the screen is gone. Both movies of a pair start from the same, so that the
    expectation is theirs alike; it makes movies of different pairs comparable.
    """
    carried = unroll(predictor, z[:, 0], action)[:, -1]
    return (carried - z[:, -1]).pow(2).sum(-1) / expectation(z[:, 0], action[:, 0])


@torch.no_grad()
def _error(predictor: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """One step ahead, summed over features: (E, T)."""
    return (predictor(z[:, :-1], action) - z[:, 1:]).pow(2).sum(-1)


def pairwise_accuracy(possible: Tensor, impossible: Tensor) -> Tensor:
    """Whether the impossible movie of each pair is the more surprising, a half for a tie: (M,), (M,) -> (M,)."""
    return (impossible > possible).float() + 0.5 * (impossible == possible).float()


def auroc(possible: Tensor, impossible: Tensor, weight: Tensor | None = None) -> Tensor:
    """Chance that an impossible movie is more surprising than any possible one, a half for a tie: ().

    Args:
        possible: surprise (M,).
        impossible: surprise (M,), pair by pair with `possible`.
        weight: how often each pair counts, (M,).
    """
    weight = torch.ones_like(possible) if weight is None else weight
    above = (impossible[:, None] > possible[None]).float() + 0.5 * (impossible[:, None] == possible[None]).float()
    return weight @ above @ weight / weight.sum().pow(2)
