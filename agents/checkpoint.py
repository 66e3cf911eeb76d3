"""Checkpoints: written whole or not at all, read without executing anything in them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mindreel.files import replacing
from mindreel.torch_files import UnreadableTorchFileError, is_truncated, read_torch_file, values_in

FORMAT = "mindreel-checkpoint-1"
_MISFITS = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError)
"""Raised where a part of a checkpoint is put in the place of another."""


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
        ValueError: it is truncated, something else than a checkpoint of Mindreel, or its counters make no sense.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    try:
        state = read_torch_file(path, device)
    except UnreadableTorchFileError as error:
        kind = "truncated" if is_truncated(path) else "not a checkpoint of Mindreel"
        raise ValueError(f"{path} cannot be read: it is {kind} ({error}).") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is a PyTorch file, but not a checkpoint of Mindreel (expected {FORMAT}).")
    wrong = _wrong_number(state)
    if wrong:
        raise ValueError(f"{path} is damaged: its {wrong}, where numbers count up from 0.")
    return state


def _wrong_number(state: dict) -> str:
    """The first number that no run counts to, by its name; empty if there is none. A loop might never reach its end."""
    for name, value in values_in(state):
        counter = name.startswith("counters.") and isinstance(value, int | float) and ".recent_returns" not in name
        if isinstance(value, int) and value < 0 or counter and not 0 <= value < math.inf:
            return f"{name} is {value}"
        if name in ("replay.written", "replay.episode") and isinstance(value, torch.Tensor) and value.lt(0).any():
            return f"{name} is negative"
    return ""


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Where the parts of a checkpoint are put into a run's: says plainly that they are another run's.

    Raises:
        ValueError: a part is missing or of another shape.
    """
    try:
        yield
    except _MISFITS as error:
        # torch names the module in the first line and what is wrong with it in the second.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        of_module = len(lines) > 1 and lines[0].startswith("Error(s) in loading")
        reason = lines[1] if of_module else lines[0]
        raise ValueError(
            f"{path} was saved by a run with another config: {reason.rstrip('.')}. Use the config.yaml that "
            "was saved with it."
        ) from error


def random_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    """The state of the random numbers that a run on this device draws."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, torch.Tensor | None], device: torch.device) -> None:
    """The inverse of `random_state`; the device may be another one."""
    assert state["torch"] is not None
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
