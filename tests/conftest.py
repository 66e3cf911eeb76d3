"""What every test relies on."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
# Scripts are run by path, which puts their folder first; tests of what they share do the same. It
# goes last here, so that no script's name hides a library's.
sys.path.append(str(ROOT / "scripts"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers whichever tests run before."""
    torch.manual_seed(0)
