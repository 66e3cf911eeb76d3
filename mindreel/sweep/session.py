"""What `ablate` does with the runs of a sweep: checks, starts, shows and compares them."""

import math
import signal
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import FrameType

from mindreel.sweep.arguments import Axes
from mindreel.sweep.cluster import ClusterConfig, run_on_cluster
from mindreel.sweep.launch import run_here
from mindreel.sweep.sweep_runs import SweepRun
from mindreel.sweep.terminal_lines import ProgressLines
from mindreel.tables import print_table, write_rows
from mindreel.viz.sweep.page import write_sweep_page
from mindreel.viz.sweep.results import read_results, sweep_rows

_COLUMNS = {"task": "task", "encoder": "encoder", "variant": "variant", "runs": "runs"}
_COLUMNS |= {"return": "return (IQM)", "low": "95% from", "high": "to", "wall_time_s": "seconds a run"}


def training_axes(axes: Axes, own: Collection[str]) -> Axes:
    """The fields that belong to the runs.

    Args:
        axes: all fields of the command line.
        own: the sweep's own fields.

    Raises:
        ValueError: `run` is given, or a list for a field that holds for the whole sweep.
    """
    if "run" in axes:
        raise ValueError("each run has its own folder inside folder=FOLDER: leave out run=")
    for key in axes:
        if len(axes[key]) > 1 and key.partition(".")[0] in (*own, "device", "preset"):
            raise ValueError(f"{key} holds for all runs: give it one value")
    return {key: texts for key, texts in axes.items() if key.partition(".")[0] not in own}


def train(folder: Path, runs: Sequence[SweepRun], jobs: int, cluster: ClusterConfig | None) -> None:
    """Trains the runs, shows how far each is, and writes the page after each.

    Args:
        folder: the sweep's.
        runs: those that have not finished.
        jobs: how many run at a time.
        cluster: what each gets there; None to run them on this machine.
    """
    lines, count = ProgressLines(), 0

    def ended(run: SweepRun) -> None:
        nonlocal count
        count += 1
        lines.clear()
        print(f"[{count}/{len(runs)}] {run.folder.name}: {_outcome(run)}", flush=True)
        write_sweep_page(folder)

    _be_stoppable()
    try:
        if cluster is not None:
            run_on_cluster(runs, jobs, cluster, ended, lines.update)
        else:
            run_here(runs, jobs, ended, lines.update)
    except KeyboardInterrupt:
        lines.clear()
        write_sweep_page(folder)
        print("Stopped. The same command goes on from the last checkpoints.")
        raise
    lines.clear()


def _outcome(run: SweepRun) -> str:
    summary = run.summary()
    if summary:
        return f"return {summary['eval_return_mean']:.1f}, {summary['wall_time_s']['total'] / 60:.1f} min"
    return f"failed: {run.failure.read_text(encoding='utf-8').strip()}" if run.failure.exists() else ""


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
    """Writes the page of a sweep, finished or not, and its rows; prints a table of encoders and tasks."""
    results = read_results(folder)
    rows = sweep_rows(results)
    page = write_sweep_page(folder)
    print(f"{sum(run.status == 'done' for run in results)} of {len(results)} runs are done.")
    if rows:
        print_table([row for row in rows if row["level"] != "run"], _COLUMNS)
    write_rows(out, rows)
    print(f"Page: {page}")
