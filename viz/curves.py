"""The lines of metrics.jsonl as charts."""

import re
from collections.abc import Sequence
from typing import Any

from mindreel.viz.chart import Level, Series, line_chart, running_mean, thinned
from mindreel.viz.run_files import RunFiles, number

# What runs along x, in order of preference, for each stage.
_X_KEYS = {"pretrain": ("step", "updates", "env_frames"), "train": ("env_frames", "updates", "step")}
_X_LABELS = {"env_frames": "environment frames", "updates": "updates", "step": "steps"}
_NOT_CURVES = {"stage", "env_frames", "updates", "step", "seed", "wall_s", "episode_return"}
_Y_LABELS = {
    "effective_rank": "dimensions in use",
    "feature_std": "mean over features",
    "updates_per_s": "updates per second",
    "frames_per_s": "frames per second",
    "episode_length": "steps",
}
_WORDS = {"vjepa": "V-JEPA", "r2": "R²", "std": "standard deviation", "mlp": "MLP", "ema": "EMA", "lr": "lr"}
_MEAN_OF_EPISODES = 10
_SMOOTHED_FROM = 60


def learning_curve(run: RunFiles) -> str | None:
    """Return against environment frames, with that of random actions as a line; None when no episode has ended."""
    series = []
    x, y = _points(run.metrics, "train", "episode_return", "env_frames")
    if x:
        mean = running_mean(y, _MEAN_OF_EPISODES)
        series.append(Series("episode while training", *_every(x, y), color=1, kind="dots"))
        series.append(Series(f"mean of {_MEAN_OF_EPISODES} episodes", *thinned(x, mean), color=1))
    x, y = _points(run.metrics, "eval", "eval_return_mean", "env_frames")
    if x:
        series.append(Series("evaluation", x, y, color=2, kind="marks"))
    if not series:
        return None
    random_return = number(run.summary.get("random_return_mean"))
    levels = [] if random_return is None else [Level("random actions", random_return)]
    return line_chart(
        "Learning curve",
        series,
        "environment frames",
        "return of an episode",
        levels=levels,
        from_zero=True,
        tall=True,
    )


def stage_charts(run: RunFiles, stage: str, *, losses: bool | None = None) -> list[str]:
    """A chart for each scalar in the lines of `stage`; with `losses`, only the losses or only the rest."""
    rows = [row for row in run.metrics if row.get("stage") == stage]
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in _NOT_CURVES))
    x_key = _x_key(rows, stage)
    charts = []
    for key in keys:
        if losses is not None and _is_loss(key) != losses:
            continue
        x, y = _points(rows, stage, key, x_key)
        if len(x) > 1:
            charts.append(_small_chart(key, x, y, _X_LABELS.get(x_key, "lines logged")))
    return charts


def _small_chart(key: str, x: list[float], y: list[float], x_label: str) -> str:
    words = [_WORDS.get(word.lower(), word) for word in re.split(r"[_/.\s]+", key) if word]
    title = " ".join(words)
    title = title[:1].upper() + title[1:]
    unit = "R²" if "r2" in key.lower() else "loss" if _is_loss(key) else _Y_LABELS.get(key, "value")
    series = [Series(title, *thinned(x, y), color=3 if _is_loss(key) else 4)]
    if len(x) > _SMOOTHED_FROM:  # an update's loss is noisy: show where it goes
        smooth = running_mean(y, len(y) // 20)
        series = [
            Series("logged", *_every(x, y), color=series[0].color, kind="dots"),
            Series("running mean", *thinned(x, smooth), color=series[0].color),
        ]
    return line_chart(title, series, x_label, unit, legend=False)


def _is_loss(key: str) -> bool:
    return key == "loss" or key.endswith("_loss") or key.startswith("loss_")


def _x_key(rows: Sequence[dict[str, Any]], stage: str) -> str:
    """The key that most rows of a stage count with; "" when none does."""
    order = _X_KEYS.get(stage, ("env_frames", "step", "updates"))
    counts = [sum(number(row.get(key)) is not None for row in rows) for key in order]
    return order[counts.index(max(counts))] if rows and max(counts) else ""


def _points(rows: Sequence[dict[str, Any]], stage: str, key: str, x_key: str) -> tuple[list[float], list[float]]:
    """The finite values of `key` in the lines of `stage`, with their places along x, rising."""
    x, y, offset, last = [], [], 0.0, 0.0
    for index, row in enumerate(row for row in rows if row.get("stage") == stage):
        value = number(row.get(key))
        place = float(index) if not x_key else number(row.get(x_key))
        if value is None or place is None:
            continue
        if stage == "pretrain" and place < last:  # a second round of pretraining counts from 0
            offset += last
        last = place
        x.append(place + offset)
        y.append(value)
    order = sorted(range(len(x)), key=x.__getitem__)
    return [x[i] for i in order], [y[i] for i in order]


def _every(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """At most 400 of the points, for dots, whose means would hide how far they scatter."""
    stride = -(-len(x) // 400)
    return x[::stride], y[::stride]
