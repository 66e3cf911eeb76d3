"""Pretraining in several processes, which torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from mindreel.devices import check_device


def is_first() -> bool:
    """Whether this is the process that prints and writes: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Processes that torchrun started, or 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined_processes(device_name: str) -> Iterator[tuple[int, torch.device]]:
    """Number and device of this process, joined with the others if torchrun started several."""
    device = check_device(device_name)
    if process_count() == 1:
        yield 0, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield distributed.get_rank(), device
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()


def first_decides(late: bool, asked: bool) -> tuple[bool, bool]:
    """What the first process says, for all of them; for `Autosave`."""
    if not distributed.is_initialized():
        return late, asked
    flags = torch.tensor([late, asked])
    distributed.broadcast(flags, 0)
    return bool(flags[0]), bool(flags[1])


def gathered(own: dict) -> list[dict]:
    """What each process has, in their order."""
    if not distributed.is_initialized():
        return [own]
    every = [{}] * distributed.get_world_size()
    distributed.all_gather_object(every, own)
    return every
