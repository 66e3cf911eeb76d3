"""Runs of a sweep as processes on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import torch

from mindreel.files import write_text
from mindreel.sweep.sweep_runs import SweepRun

_TRAIN = (Path(__file__).parents[1] / "scripts" / "train.py").resolve()
_PATIENCE_SECONDS = 60.0  # an interrupted run ends its step and saves
POLL_SECONDS = 0.2

Ended = Callable[[SweepRun], None]
"""Called with each run that has finished or failed."""
Watch = Callable[[Sequence[SweepRun]], None]
"""Called several times a second with the runs under way."""


def run_here(runs: Sequence[SweepRun], jobs: int, ended: Ended, watch: Watch = lambda under_way: None) -> None:
    """Runs `jobs` of them at a time, the threads divided among them, until each has finished or failed.

    A run that another process works on is waited for. However this ends, no process is left running.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background; children would ignore it as well
        signal.signal(signal.SIGINT, signal.default_int_handler)
    jobs = min(jobs, len(runs))
    waiting, running = deque(runs), dict[int, tuple[SweepRun, subprocess.Popen]]()
    try:
        while waiting or running:
            for slot in [slot for slot in range(jobs) if slot not in running][: len(waiting)]:
                run = waiting.popleft()
                log = run.lock()
                if log is None:
                    waiting.append(run)
                    continue
                with log:
                    if run.finished():
                        ended(run)
                    else:
                        running[slot] = (run, _start(run, log, _environment(run.config.device, slot, jobs)))
            watch([run for run, _ in running.values()])
            time.sleep(POLL_SECONDS)
            for slot, (run, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    note_failure(run, process.returncode, run.log)
                    ended(run)
    finally:
        _stop([process for _, process in running.values()])


def _start(run: SweepRun, log: IO[bytes], environment: dict[str, str]) -> subprocess.Popen:
    run.failure.unlink(missing_ok=True)
    # A group of its own, so that Ctrl-C reaches it once, from here.
    return subprocess.Popen(
        [sys.executable, os.path.relpath(_TRAIN), *run.command()],  # as the run will record its command
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        process_group=0,
    )


def _environment(device: str, slot: int, jobs: int) -> dict[str, str]:
    """This process' environment with a fraction of the threads and, of several GPUs, with one."""
    environment = dict(os.environ)
    # MKL, and with it torch, goes by this as well, unless MKL_NUM_THREADS says otherwise.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
    if device == "cuda":
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def note_failure(run: SweepRun, code: int, log: Path) -> None:
    """Writes into the run's folder why it failed, if it did: the last line of `log`."""
    if code == 0 and run.finished():
        return
    printed = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.rpartition("\r")[2].strip() for line in reversed(printed) if line.strip()), "")
    reason = f"ended by {signal.Signals(-code).name}" if code < 0 else last.removeprefix("error: ")
    run.folder.mkdir(parents=True, exist_ok=True)
    write_text(run.failure, f"{reason or 'it printed nothing'} ({log})\n")


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Interrupts processes as Ctrl-C does, and kills those that do not end soon."""
    try:
        for process in processes:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:  # a second Ctrl-C does not wait
        for process in processes:
            process.kill()
            process.wait()
