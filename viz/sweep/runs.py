"""The cells of a grid, read from their run folders however far each of them got."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mindreel.viz.run_data import RunFolder, interval, number, read_run
from mindreel.viz.sweep.statistics import iqm, iqm_interval

FAILURE_FILE = "failure.txt"
"""What a cell that failed holds: one sentence that says why."""

# What does not make two runs different in kind.
_NOT_VARIANTS = {"task", "seed", "run", "device", "encoder.name"}


@dataclass
class Cell:
    """One run of a grid."""

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
    """In what it differs from other cells with its encoder, besides task and seed: "encoder.jepa_coef=0"."""
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
        """What is compared: the encoder, with the cell's variant."""
        return f"{self.encoder}, {self.variant.replace('encoder.', '')}" if self.variant else self.encoder

    @property
    def score(self) -> float | None:
        """Mean return of the evaluation; None until the cell has finished."""
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


def read_grid(folder: Path | str) -> list[Cell]:
    """Every run in the folder `folder`, by name.

    Raises:
        ValueError: when `folder` is not a folder or holds no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"Expected the folder of a grid, got {folder}, which is not a folder.")
    cells = [_cell(path.parent) for path in sorted(folder.glob("*/config.yaml"))]
    if not cells:
        raise ValueError(f"Expected runs in {folder}, found none: a run is a folder with a config.yaml.")
    _name_variants(cells)
    return cells


def _cell(path: Path) -> Cell:
    run: RunFolder = read_run(path)
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
    return Cell(run.name, flat(settings), run.summary, run.metrics, failure, notes=notes)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as dotted ones."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _name_variants(cells: Sequence[Cell]) -> None:
    """Gives each cell the fields in which cells with its encoder differ on one task."""
    kin = defaultdict(list)
    for cell in cells:
        kin[cell.encoder].append(cell)
    for own in kin.values():
        keys = dict.fromkeys(key for cell in own for key in cell.settings if key not in _NOT_VARIANTS)
        varied = [key for key in keys if _varies(key, own)]
        for cell in own:
            pairs = [f"{key.removesuffix('.name')}={cell.settings[key]}" for key in varied if key in cell.settings]
            cell.variant = ", ".join(pairs)


def _varies(key: str, cells: Sequence[Cell]) -> bool:
    """Whether a field differs among cells of one task; a group's field, among those of one choice of the group."""
    values = defaultdict(set)
    for cell in cells:
        if key in cell.settings:
            choice = None if key.endswith(".name") else cell.settings.get(f"{key.partition('.')[0]}.name")
            values[cell.task, choice].add(repr(cell.settings[key]))
    return any(len(found) > 1 for found in values.values())


def by_task(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Task -> its finished cells."""
    found = defaultdict(list)
    for cell in cells:
        if cell.score is not None:
            found[cell.task].append(cell)
    return dict(sorted(found.items()))


def by_arm(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """What is compared -> its cells."""
    found = defaultdict(list)
    for cell in cells:
        found[cell.arm].append(cell)
    return dict(sorted(found.items()))


def pooled(cells: Sequence[Cell]) -> tuple[float, tuple[float, float] | None]:
    """IQM of the finished cells' returns, and its 95% interval, stratified by task."""
    strata = [[cell.score or 0.0 for cell in own] for own in by_task(cells).values()]
    return float(iqm(np.concatenate(strata))), iqm_interval(strata)


def grid_rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Flat rows: one for each finished run, then for each arm one a task and, of several tasks, one for all.

    A run's `return` is the mean of its evaluation episodes, with their 95% interval as `low` and `high`. The
    others have the IQM of their runs with its bootstrap interval, null with one run only. The other numbers are means
    over runs, null where none has them: returns without planning and by random actions, mean R2 over the targets of
    the linear and the MLP probe, what the encoder's own training took, and costs.
    """
    done = [cell for cell in cells if cell.score is not None]
    rows = [_row("run", cell.task, [cell]) for cell in done]
    several = len({cell.task for cell in cells}) > 1
    for own in by_arm(done).values():
        rows += [_row("task", task, runs) for task, runs in by_task(own).items()]
        rows += [_row("all", "all", own)] if several else []
    return rows


def _row(level: str, task: str, cells: Sequence[Cell]) -> dict[str, Any]:
    first = cells[0]
    if level == "run":
        score, ends = first.score, interval(first.summary.get("eval_return_ci95"))
    else:
        score, ends = pooled(cells)
    low, high = ends or (None, None)
    row = {"level": level, "task": task, "encoder": first.encoder, "variant": first.variant}
    row |= {"seed": first.seed if level == "run" else None, "tasks": len(by_task(cells)), "runs": len(cells)}
    row |= {"return": score, "low": low, "high": high}
    for key, (read, digits) in _MEANS.items():
        found = [value for value in map(read, cells) if value is not None]
        row[key] = round(float(np.mean(found)), digits) if found else None
    return row


_MEANS: dict[str, tuple[Callable[[Cell], float | None], int | None]] = {
    "no_planning_return": (lambda cell: cell.total("no_planning_return_mean"), 1),
    "random_return": (lambda cell: cell.total("random_return_mean"), 1),
    "linear_r2": (lambda cell: cell.probed("linear"), 3),
    "mlp_r2": (lambda cell: cell.probed("mlp"), 3),
    "tflop": (lambda cell: cell.of_encoder("tflop"), 2),
    "clips_per_s": (lambda cell: cell.of_encoder("clips_per_s"), 0),
    "updates": (lambda cell: cell.total("updates"), None),
    "env_frames": (lambda cell: cell.total("env_frames"), None),
    "wall_time_s": (lambda cell: cell.total("wall_time_s"), 1),
}
"""Column of the rows -> what it is of a run, and the digits kept of its mean."""
