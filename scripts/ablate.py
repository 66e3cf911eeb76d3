"""Train every combination of listed tasks, encoders, seeds or other fields, and compare them on one page.

python scripts/ablate.py task=walker-walk,reacher-easy encoder=vjepa,random,cnn,state seed=1,2,3 jobs=2
python scripts/ablate.py preset=demo encoder.jepa_coef=0,1 seed=1,2,3 folder=runs/jepa
python scripts/ablate.py report=runs/jepa out=rows.json

Any field of scripts/train.py can be a list. Each combination is a run folder; those that have finished are not
run again, those that were interrupted go on from their checkpoints, so the same command continues a grid. Where several
encoders are pretrained, all get the compute of the first, and what is added later that of the runs in the folder.
"""

import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Literal

from mindreel import cli
from mindreel.devices import check_device
from mindreel.run_config import GROUPS, RunConfig
from mindreel.sweep.equal_compute import equal_compute
from mindreel.sweep.grid import Axes, Cell, begun_runs, combinations, confined, make_cells, read_axes
from mindreel.sweep.launch import ClusterConfig, check_cluster, run_here, run_on_cluster
from mindreel.tables import check_out, print_table, write_rows
from mindreel.viz.sweep.page import write_sweep_page
from mindreel.viz.sweep.results import sweep_rows, read_results


@dataclass(frozen=True)
class AblateConfig(RunConfig):
    """A grid of runs of scripts/train.py."""

    folder: str = "runs/ablation"
    """Folder of the grid: a run folder for each combination, logs/ with what each printed, and ablation.html."""
    jobs: int = 1
    """Runs at a time; they share the threads, and take turns at the GPUs."""
    launcher: Literal["local", "submitit"] = "local"
    """Where they run: processes on this machine, or jobs of a cluster (package submitit)."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """What a cluster gives to each run."""
    report: str = ""
    """Folder of a grid to write the page of, and nothing else."""
    out: str = ""
    """File for the rows, JSON: each run, each encoder on each task, and over all tasks."""
    overwrite: bool = False
    """Replace runs in the folder whose config is another one than asked for."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"jobs={self.jobs}: expected at least one run at a time")


_OWN = {one.name for one in fields(AblateConfig)} - {one.name for one in fields(RunConfig)}
_COLUMNS = {"task": "task", "encoder": "encoder", "variant": "variant", "runs": "runs"}
_COLUMNS |= {"return": "return (IQM)", "low": "95% from", "high": "to", "wall_time_s": "seconds a run"}


def run(config: AblateConfig, axes: Axes) -> None:
    """Trains what is not trained yet; writes the page after each run and the rows at the end."""
    check_out(config.out)
    if config.report:
        report(Path(config.report), config.out)
        return
    folder = Path(config.folder)
    wanted = _of_training(axes)
    kept = [] if config.overwrite else begun_runs(folder)
    cells = make_cells(folder, wanted, config.overwrite, equal_compute(wanted, kept))
    if config.launcher == "submitit":
        check_cluster(config.cluster, config.device)
    else:
        check_device(config.device)
    for key, choices in confined(axes).items():
        print(f"{key} is a field of {', '.join(choices)} alone: the others run without it.")
    for cell in cells:
        cell.plan()
    undone = [cell for cell in cells if not cell.finished()]
    done = len(cells) - len(undone)
    print(f"{len(cells)} runs in {folder}/, {done} of them done. Page: {write_sweep_page(folder)}", flush=True)
    if undone:
        _launch(config, folder, undone)
    report(folder, config.out)
    failed = [cell for cell in cells if not cell.finished()]
    if failed:
        print(f"{len(failed)} of {len(cells)} runs failed; the same command tries them again.", file=sys.stderr)
        sys.exit(1)


def _of_training(axes: Axes) -> Axes:
    """The fields that belong to the runs.

    Raises:
        ValueError: `run` is given, or a list for a field that holds for the whole grid.
    """
    if "run" in axes:
        raise ValueError("each run has its own folder inside folder=FOLDER: leave out run=")
    for key in axes:
        if len(axes[key]) > 1 and key.partition(".")[0] in (*_OWN, "device", "preset"):
            raise ValueError(f"{key} holds for all runs: give it one value")
    return {key: texts for key, texts in axes.items() if key.partition(".")[0] not in _OWN}


def _launch(config: AblateConfig, folder: Path, cells: Sequence[Cell]) -> None:
    count = 0

    def ended(cell: Cell) -> None:
        nonlocal count
        count += 1
        summary = cell.summary()
        outcome = f"failed: {cell.failure.read_text(encoding='utf-8').strip()}" if cell.failure.exists() else ""
        if summary:
            outcome = f"return {summary['eval_return_mean']:.1f}, {summary['wall_time_s']['total'] / 60:.1f} min"
        print(f"[{count}/{len(cells)}] {cell.folder.name}: {outcome}", flush=True)
        write_sweep_page(folder)

    _be_stoppable()
    try:
        if config.launcher == "submitit":
            run_on_cluster(cells, config.jobs, config.cluster, ended)
        else:
            run_here(cells, config.jobs, ended)
    except KeyboardInterrupt:
        write_sweep_page(folder)
        print("Stopped. The same command goes on from the last checkpoints.")
        raise


def _be_stoppable() -> None:
    """SIGINT and SIGTERM stop what was started, in the background too.

    Two that come at once, as from `timeout` and a shell, are one: the second would cut off the stopping itself.
    """
    last = -math.inf

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > 1.0:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def report(folder: Path, out: str) -> None:
    """Writes the page of a grid, however much of it is done, and its rows; prints the rows of several runs."""
    cells = read_results(folder)
    rows = sweep_rows(cells)
    page = write_sweep_page(folder)
    print(f"{sum(cell.status == 'done' for cell in cells)} of {len(cells)} runs are done.")
    if rows:
        print_table([row for row in rows if row["level"] != "run"], _COLUMNS)
    write_rows(out, rows)
    print(f"Page: {page}")


def main(arguments: Sequence[str]) -> None:
    """Reads the command line; help, and mistakes in names, are those of the grid's first run."""
    axes = read_axes(arguments)

    def run_grid(config: AblateConfig) -> None:
        run(config, axes)

    cli.main(run_grid, AblateConfig, GROUPS, argv=combinations(axes)[0])


if __name__ == "__main__":
    main(sys.argv[1:])
