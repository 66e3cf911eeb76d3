"""Time and memory of calls."""

import gc
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds_per_call(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Mean seconds of a call, over `seconds`, after two calls that are not counted: those compile and record."""
    for _ in range(2):
        work()
    _wait(device)
    start = time.perf_counter()
    for calls in itertools.count(1):
        work()
        if calls % 4 == 0 or device.type == "cpu":
            _wait(device)
            if time.perf_counter() - start >= seconds:
                return (time.perf_counter() - start) / calls
    raise AssertionError


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_used(device: torch.device) -> float:
    """Megabytes in use: on a GPU, by all processes; else by this one and those that it started by multiprocessing."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 1e6
    ours = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    pages = [int(Path(f"/proc/{one}/statm").read_text(encoding="utf-8").split()[1]) for one in ours]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_free(device: torch.device) -> float:
    """Megabytes that are free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e6
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 1e3
    return float("inf")
