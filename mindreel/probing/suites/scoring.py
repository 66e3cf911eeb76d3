"""Rows from scores, with intervals."""

from torch import Tensor

from mindreel.encoders.probes.bootstrap import Score, bootstrap
from mindreel.probing.probe_data import ProbeData

FAR = 10**6
"""Between the numbers of one task's episodes and those of the next, where a suite scores several tasks."""
_FEWEST_EPISODES = 3


def rows_of(probe: str, targets: list[str], scores: Tensor, episode: Tensor) -> list[dict]:
    """Rows with `probe`, `target`, `score`, and its interval from `low` to `high`.

    Args:
        probe: what scored.
        targets: names of the K scores.
        scores: scores, lows and highs, (3, K).
        episode: which episode each scored row comes from, (N,); one or two of them give no interval.
    """
    few = len(episode.unique()) < _FEWEST_EPISODES
    rows = []
    for target, (score, low, high) in zip(targets, scores.T.tolist(), strict=True):
        ends = {"low": None, "high": None} if few else {"low": low, "high": high}
        rows.append({"probe": probe, "target": target, "score": score} | ends)
    return rows


def scored(data: ProbeData, probe: str, targets: list[str], score: Score, episode: Tensor) -> list[dict]:
    """Rows of K scores with 95% intervals by bootstrap over episodes; `episode` (N,) are those of the scored rows."""
    return rows_of(probe, targets, bootstrap(score, episode.to(data.device), data.config.resamples), episode)
