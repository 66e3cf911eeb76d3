"""What every test relies on."""

import os
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side with others: before torch counts the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

ROOT = Path(__file__).parents[1]
# Scripts are run by path, which puts their folder first; tests of what they share do the same. It
# goes last here, so that no script's name hides a library's.
sys.path.append(str(ROOT / "scripts"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers whichever tests run before."""
    torch.manual_seed(0)
