"""Runs the cells of a grid: as processes on this machine, or as jobs of a cluster."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from mindreel.sweep.grid import Cell

_TRAIN = Path(__file__).parents[1] / "scripts" / "train.py"
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0  # an interrupted run ends its step and saves

Ended = Callable[[Cell], None]
"""Called with each cell that has finished or failed."""


@dataclass(frozen=True)
class ClusterConfig:
    """What the cluster gives to each cell, in submitit's words."""

    name: str = ""
    """Scheduler that submitit talks to (slurm, or local for a trial); the one that is there if empty."""
    partition: str = ""
    """Slurm partition; the cluster's default if empty."""
    timeout_min: int = 1440
    """Minutes that a job may last; what it leaves unfinished goes on when the grid is run again."""
    cpus_per_task: int = 8
    """Processor cores."""
    gpus_per_node: int = 0
    """GPUs; 1 for device=cuda."""
    mem_gb: int = 16
    """Memory."""


def run_here(cells: Sequence[Cell], jobs: int, ended: Ended) -> None:
    """Runs `jobs` cells at a time, the threads shared out between them, until each has finished or failed.

    A cell that another process is at work on is waited for. However this ends, no process is left running.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background; children would ignore it as well
        signal.signal(signal.SIGINT, signal.default_int_handler)
    jobs = min(jobs, len(cells))
    waiting, running = deque(cells), dict[int, tuple[Cell, subprocess.Popen]]()
    try:
        while waiting or running:
            for slot in [slot for slot in range(jobs) if slot not in running][: len(waiting)]:
                cell = waiting.popleft()
                log = cell.lock()
                if log is None:
                    waiting.append(cell)
                    continue
                with log:
                    if cell.finished():
                        ended(cell)
                    else:
                        running[slot] = (cell, _start(cell, log, _environment(cell.config.device, slot, jobs)))
            time.sleep(_POLL_SECONDS)
            for slot, (cell, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    _note_failure(cell, process.returncode, cell.log)
                    ended(cell)
    finally:
        _stop([process for _, process in running.values()])


def _start(cell: Cell, log: IO[bytes], environment: dict[str, str]) -> subprocess.Popen:
    cell.failure.unlink(missing_ok=True)
    # A group of its own, so that Ctrl-C reaches it once, from here.
    return subprocess.Popen(
        [sys.executable, os.path.relpath(_TRAIN), *cell.command()],  # as the run will record its command
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        process_group=0,
    )


def _environment(device: str, slot: int, jobs: int) -> dict[str, str]:
    """This process' environment with a share of the threads and, of several GPUs, with one."""
    environment = dict(os.environ)
    # MKL, and with it torch, goes by this as well, unless MKL_NUM_THREADS says otherwise.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
    if device == "cuda":
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _note_failure(cell: Cell, code: int, log: Path) -> None:
    """Writes into the cell's folder why it failed, if it did: the last thing printed into `log`."""
    if code == 0 and cell.finished():
        return
    printed = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.rpartition("\r")[2].strip() for line in reversed(printed) if line.strip()), "")
    reason = f"ended by {signal.Signals(-code).name}" if code < 0 else last.removeprefix("error: ")
    cell.folder.mkdir(parents=True, exist_ok=True)
    cell.failure.write_text(f"{reason or 'it printed nothing'} ({log})\n", encoding="utf-8")


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Interrupts processes as Ctrl-C does, and kills those that do not end soon."""
    try:
        for process in processes:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    finally:  # a second Ctrl-C does not wait
        for process in processes:
            process.kill()
            process.wait()


class Job:
    """What the cluster runs: one cell, from its start or from its checkpoint on."""

    def __init__(self, cell: Cell):
        self.cell = cell

    def __call__(self) -> None:
        run_here([self.cell], 1, lambda cell: None)

    def checkpoint(self):
        """What submitit queues again when the job is preempted or runs out of time."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def check_cluster(cluster: ClusterConfig, device: str) -> None:
    """Makes sure that submitit is there, and that the jobs get the device that they are to run on.

    Raises:
        ValueError: submitit is not installed, or the jobs would have no GPU.
    """
    if device.startswith("cuda") and not cluster.gpus_per_node:
        raise ValueError(f"device={device}, but the jobs get no GPU: add cluster.gpus_per_node=1.")
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ValueError('launcher=submitit needs the package submitit: pip install "mindreel[cluster]"') from error


def run_on_cluster(cells: Sequence[Cell], jobs: int, cluster: ClusterConfig, ended: Ended) -> None:
    """Submits a job for each cell, `jobs` to run at a time, and waits for them; cancels them if interrupted."""
    import submitit

    # The jobs read this class, and what belongs to it, from the files here.
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    executor = submitit.AutoExecutor(cells[0].log.parent / "cluster", cluster=cluster.name or None)
    executor.update_parameters(
        name="mindreel",
        timeout_min=cluster.timeout_min,
        cpus_per_task=cluster.cpus_per_task,
        gpus_per_node=cluster.gpus_per_node,
        mem_gb=cluster.mem_gb,
        slurm_array_parallelism=jobs,
    )
    if cluster.partition:
        executor.update_parameters(slurm_partition=cluster.partition)
    with executor.batch():
        submitted = [executor.submit(Job(cell)) for cell in cells]
    waiting = list(zip(cells, submitted, strict=True))
    try:
        while waiting:
            for cell, job in list(waiting):
                if job.done():
                    waiting.remove((cell, job))
                    if not cell.failure.exists():  # else the job said why; without it, it did not get so far
                        _note_failure(cell, 0, job.paths.stderr)
                    ended(cell)
            time.sleep(_POLL_SECONDS)
    finally:
        for _, job in waiting:
            job.cancel()
