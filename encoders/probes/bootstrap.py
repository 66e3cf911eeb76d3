"""Confidence intervals of scores whose rows come in episodes, and are nearly equal within one."""

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Maps weights of rows (N,), how often each counts, to scores (K,)."""


def bootstrap(score: Score, episode: Tensor, resamples: int, seed: int = 0) -> Tensor:
    """Scores with 95% percentile intervals (Efron 1979), by resampling whole episodes with replacement.

    Args:
        score: scores of weighted rows; NaN where a score is undefined for the weights.
        episode: the episode of each row, int (N,).
        resamples: number of resamples, R.
        seed: seed of the resampling.

    Returns:
        score, low and high, (3, K). If all rows are of one episode the interval has no width.
    """
    names, index = episode.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(names), (resamples, len(names)), generator=generator)
    counts = torch.zeros(resamples, len(names)).scatter_add_(1, drawn, torch.ones(drawn.shape)).to(episode.device)
    scores = torch.stack([score(count[index]) for count in counts])  # (R, K)
    ends = torch.tensor([0.025, 0.975], device=scores.device)
    return torch.cat([score(torch.ones_like(index, dtype=torch.float32))[None], scores.nanquantile(ends, 0)])


def weighted_mean(values: Tensor) -> Score:
    """A score that is the weighted mean of values (N, K) or (N,); NaN if all weights are 0."""
    values = values.float().reshape(len(values), -1)
    return lambda weight: weight @ values / weight.sum()
