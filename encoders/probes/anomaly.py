"""Anomaly: is an encoder's predictor more surprised by what cannot happen? (IntPhys, Riochet et al. 2018)

Surprise is the error of the dynamics probe's predictor, one step ahead, in the encoder's own features. A movie
is as surprising as its most surprising moment.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def surprise(predictor: nn.Module, z: Tensor, action: Tensor) -> Tensor:
    """Of movies with features z (M, T + 1, D) and actions (M, T, A): (M,)."""
    return (predictor(z[:, :-1], action) - z[:, 1:]).pow(2).sum(-1).amax(1)


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
