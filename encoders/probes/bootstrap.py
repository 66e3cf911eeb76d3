"""Intervals of scores whose rows come in episodes: rows of one episode are nearly copies of each other."""

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Weights of rows (N,), how often each counts, to scores (K,)."""


def bootstrap(score: Score, episode: Tensor, resamples: int, seed: int = 0) -> Tensor:
    """Scores with 95% percentile intervals (Efron 1979), whole episodes drawn anew with replacement.

    Args:
        score: scores of weighted rows; a score that is not defined for some weights is NaN there.
        episode: which episode each row is of, int (N,).
        resamples: times that episodes are drawn.
        seed: of the draws.

    Returns:
        score, low and high, (3, K). The interval has no width where all rows are of one episode.
    """
    names, index = episode.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(names), (resamples, len(names)), generator=generator)
    counts = torch.zeros(resamples, len(names)).scatter_add_(1, drawn, torch.ones(drawn.shape)).to(episode.device)
    scores = torch.stack([score(count[index]) for count in counts])  # (R, K)
    ends = torch.tensor([0.025, 0.975], device=scores.device)
    return torch.cat([score(torch.ones_like(index, dtype=torch.float32))[None], scores.nanquantile(ends, 0)])


def weighted_mean(values: Tensor) -> Score:
    """The score that is the mean of its rows, NaN if none counts: values (N, K) or (N,)."""
    values = values.float().reshape(len(values), -1)
    return lambda weight: weight @ values / weight.sum()
