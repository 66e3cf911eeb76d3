"""What every test relies on."""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side with others: before torch counts the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as under `make test &`: what tests start would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers whichever tests run before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def call_script() -> Callable[..., int]:
    """Runs scripts/NAME.py with arguments in this process, which has imported everything; returns its exit status."""

    def call(name: str, *arguments: str) -> int:
        path = str(ROOT / "scripts" / f"{name}.py")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [path, *arguments])
            try:
                runpy.run_path(path, run_name="__main__")
            except SystemExit as leaving:
                return int(leaving.code or 0)
        return 0

    return call
