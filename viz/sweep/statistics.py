"""Scores of few runs on several tasks: the interquartile mean and its stratified bootstrap interval.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021.
"""

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 10_000


def iqm(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis: at each end a quarter of the scores, rounded down, is left out."""
    ordered = np.sort(scores, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def iqm_interval(strata: Sequence[Sequence[float]], level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the IQM over all scores, each task's runs resampled among themselves.

    Args:
        strata: the scores of each task's runs; tasks may have different numbers of runs.
        level: fraction of the resamples that lie inside.
        seed: seed of the resampling: equal scores give equal intervals.

    Returns:
        (low, high), or None where no task has two runs, since nothing then shows how much runs scatter.
    """
    if max((len(scores) for scores in strata), default=0) < 2:
        return None
    random = np.random.default_rng(seed)
    drawn = [random.choice(scores, (_RESAMPLES, len(scores))) for scores in strata if len(scores)]
    low, high = np.quantile(iqm(np.concatenate(drawn, 1)), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
