"""Checkpoints: written whole or not at all, read without executing anything in them."""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mindreel.files import replacing

FORMAT = "mindreel-checkpoint-1"
_UNREADABLE = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, TypeError, ValueError)


def save_checkpoint(path: Path, state: dict) -> None:
    """Writes `state` (nested dicts and lists of tensors, numbers and strings) to `path`.

    A run that is killed in between leaves the last checkpoint untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*.partial"):  # by a run that was killed; it can be large
        left_over.unlink(missing_ok=True)
    with replacing(path) as temporary:
        torch.save({"format": FORMAT, **state}, temporary)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """Reads what `save_checkpoint` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, or something else than a checkpoint of Mindreel.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except _UNREADABLE as error:
        # A ZIP archive ends with its directory: one that lacks it was cut off.
        with path.open("rb") as file:
            truncated = file.read(2) == b"PK" and not zipfile.is_zipfile(path)
        kind = "truncated" if truncated else "not a checkpoint of Mindreel"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read: it is {kind} ({reason}).") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is a PyTorch file, but not a checkpoint of Mindreel (expected {FORMAT}).")
    return state


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Where the parts of a checkpoint are put into a run's: says plainly that they are another run's.

    Raises:
        ValueError: a part is missing or of another shape.
    """
    try:
        yield
    except (RuntimeError, LookupError, ValueError) as error:
        # torch names the module in the first line and what is wrong with it in the second.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        of_module = len(lines) > 1 and lines[0].startswith("Error(s) in loading")
        reason = lines[1] if of_module else lines[0]
        raise ValueError(
            f"{path} was saved by a run with another config: {reason.rstrip('.')}. Use the config.yaml that "
            "was saved with it."
        ) from error
