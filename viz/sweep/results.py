"""The runs of a sweep, read from their folders, finished or not."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mindreel.viz.run_files import RunFiles, episode_interval, number, read_run
from mindreel.viz.sweep.statistics import iqm, iqm_interval

FAILURE_FILE = "failure.txt"
"""File in the folder of a run that failed: one sentence that says why."""

# Runs that differ in these alone are of one kind.
_NOT_VARIANTS = {"task", "seed", "run", "device", "encoder.name"}


@dataclass
class RunResult:
    """One run of a sweep, as its folder shows it."""

    name: str
    """Name of its folder."""
    settings: dict[str, Any]
    """Its config.yaml: dotted field -> value."""
    summary: dict[str, Any]
    """Its summary.json; empty until it has finished."""
    metrics: list[dict[str, Any]]
    """The lines of its metrics.jsonl."""
    failure: str = ""
    """Why it failed, if it did."""
    variant: str = ""
    """Fields, besides task and seed, in which it differs from other runs with its encoder: "encoder.jepa_coef=0"."""
    notes: list[str] = field(default_factory=list)
    """One sentence for each thing that could not be read."""

    @property
    def task(self) -> str:
        return str(self.settings.get("task", "?"))

    @property
    def encoder(self) -> str:
        return str(self.settings.get("encoder.name", "?"))

    @property
    def seed(self) -> int | None:
        seed = number(self.settings.get("seed"))
        return None if seed is None else int(seed)

    @property
    def arm(self) -> str:
        """Name of what is compared: the encoder, with the run's variant."""
        return f"{self.encoder}, {self.variant.replace('encoder.', '')}" if self.variant else self.encoder

    @property
    def score(self) -> float | None:
        """Mean return of the evaluation; None until the run has finished."""
        return number(self.summary.get("eval_return_mean"))

    @property
    def status(self) -> str:
        """done, failed, unfinished (it runs, or was stopped) or not started."""
        if self.score is not None:
            return "done"
        return "failed" if self.failure else "unfinished" if self.metrics else "not started"

    def total(self, key: str) -> float | None:
        """A number of the summary; of `wall_time_s` its total."""
        value = self.summary.get(key)
        return number(value.get("total") if isinstance(value, dict) else value)

    def of_encoder(self, key: str) -> float | None:
        """A number of the encoder's own training: "tflop" or "clips_per_s"."""
        known = self.summary.get("throughput")
        return number(known.get(key)) if isinstance(known, dict) else None

    def probed(self, probe: str) -> float | None:
        """Mean R2 over the targets of a probe of this run's encoder."""
        rows = [row for row in self.summary.get("probes") or () if isinstance(row, dict)]
        own = [row for row in rows if (row.get("encoder"), row.get("probe")) == (self.encoder, probe)]
        scores = [score for score in (number(row.get("r2")) for row in own) if score is not None]
        return float(np.mean(scores)) if scores else None

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Environment frames and the return of the training episodes that ended by then, (P,) each."""
        rows = [row for row in self.metrics if row.get("stage") == "train"]
        pairs = [(number(row.get("env_frames")), number(row.get("episode_return"))) for row in rows]
        points = np.array(sorted((x, y) for x, y in pairs if x is not None and y is not None)).reshape(-1, 2)
        return points[:, 0], points[:, 1]


def read_results(folder: Path | str) -> list[RunResult]:
    """Every run in the folder `folder`, by name.

    Raises:
        ValueError: when `folder` is not a folder or holds no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"Expected the folder of a sweep, got {folder}, which is not a folder.")
    runs = [_read_result(path.parent) for path in sorted(folder.glob("*/config.yaml"))]
    if not runs:
        raise ValueError(f"Expected runs in {folder}, found none: a run is a folder with a config.yaml.")
    _name_variants(runs)
    return runs


def _read_result(path: Path) -> RunResult:
    run: RunFiles = read_run(path)
    try:
        settings = yaml.safe_load(run.config)
    except yaml.YAMLError:
        settings = None
    if not isinstance(settings, dict):
        run.notes.append("config.yaml is not a readable config.")
        settings = {}
    reason = path / FAILURE_FILE
    failure = reason.read_text(encoding="utf-8", errors="replace").strip() if reason.is_file() else ""
    notes = [f"{run.name}: {note}" for note in run.notes]
    return RunResult(run.name, flat(settings), run.summary, run.metrics, failure, notes=notes)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as dotted ones."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _name_variants(runs: Sequence[RunResult]) -> None:
    """Sets each run's `variant`: the fields in which runs with its encoder differ on one task."""
    by_encoder = defaultdict(list)
    for run in runs:
        by_encoder[run.encoder].append(run)
    for own in by_encoder.values():
        keys = dict.fromkeys(key for run in own for key in run.settings if key not in _NOT_VARIANTS)
        varied = [key for key in keys if _varies(key, own)]
        for run in own:
            pairs = [f"{key.removesuffix('.name')}={run.settings[key]}" for key in varied if key in run.settings]
            run.variant = ", ".join(pairs)


def _varies(key: str, runs: Sequence[RunResult]) -> bool:
    """Whether a field differs among runs of one task; a group's field, among those of one choice of the group."""
    values = defaultdict(set)
    for run in runs:
        if key in run.settings:
            choice = None if key.endswith(".name") else run.settings.get(f"{key.partition('.')[0]}.name")
            values[run.task, choice].add(repr(run.settings[key]))
    return any(len(found) > 1 for found in values.values())


def by_task(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Task -> its finished runs."""
    found = defaultdict(list)
    for run in runs:
        if run.score is not None:
            found[run.task].append(run)
    return dict(sorted(found.items()))


def by_arm(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Arm -> its runs."""
    found = defaultdict(list)
    for run in runs:
        found[run.arm].append(run)
    return dict(sorted(found.items()))


def pooled(runs: Sequence[RunResult]) -> tuple[float, tuple[float, float] | None]:
    """IQM of the finished runs' returns, and its 95% interval, stratified by task."""
    strata = [[run.score or 0.0 for run in own] for own in by_task(runs).values()]
    return float(iqm(np.concatenate(strata))), iqm_interval(strata)


def sweep_rows(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Flat rows: one for each finished run; then, for each arm, one for each task and, of several tasks, one for all.

    A run's `return` is the mean of its evaluation episodes, with their 95% interval as `low` and `high`, null with one
    or two episodes. The other rows hold the IQM of their runs with its bootstrap interval, null with one run only. All
    other numbers are means over runs, null where none has them: returns without planning and of random actions, mean
    R2 over the targets of the linear and the MLP probe, and costs.
    """
    done = [run for run in runs if run.score is not None]
    rows = [_row("run", run.task, [run]) for run in done]
    several = len({run.task for run in runs}) > 1
    for own in by_arm(done).values():
        rows += [_row("task", task, runs) for task, runs in by_task(own).items()]
        rows += [_row("all", "all", own)] if several else []
    return rows


def _row(level: str, task: str, runs: Sequence[RunResult]) -> dict[str, Any]:
    first = runs[0]
    if level == "run":
        score, ends = first.score, episode_interval(first.summary, "eval_return")
    else:
        score, ends = pooled(runs)
    low, high = ends or (None, None)
    row = {"level": level, "task": task, "encoder": first.encoder, "variant": first.variant}
    row |= {"seed": first.seed if level == "run" else None, "tasks": len(by_task(runs)), "runs": len(runs)}
    row |= {"return": score, "low": low, "high": high}
    for key, (read, digits) in _MEANS.items():
        found = [value for value in map(read, runs) if value is not None]
        row[key] = round(float(np.mean(found)), digits) if found else None
    return row


_MEANS: dict[str, tuple[Callable[[RunResult], float | None], int | None]] = {
    "no_planning_return": (lambda run: run.total("no_planning_return_mean"), 1),
    "random_return": (lambda run: run.total("random_return_mean"), 1),
    "linear_r2": (lambda run: run.probed("linear"), 3),
    "mlp_r2": (lambda run: run.probed("mlp"), 3),
    "tflop": (lambda run: run.of_encoder("tflop"), 2),
    "clips_per_s": (lambda run: run.of_encoder("clips_per_s"), 0),
    "updates": (lambda run: run.total("updates"), None),
    "env_frames": (lambda run: run.total("env_frames"), None),
    "wall_time_s": (lambda run: run.total("wall_time_s"), 1),
}
"""Column of the rows -> its value for one run, and the digits kept of its mean."""
