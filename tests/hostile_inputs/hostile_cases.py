"""The table that hostile inputs are added to."""

import io
import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

CASES: dict[str, tuple[str, Callable[[Path], Path | None]]] = {}
"""Name -> the reader, and what writes the input into an empty folder and returns its path (that folder if None)."""
MARK = f"/tmp/mindreel-hostile-mark-{os.getpid()}"
"""What an input leaves behind that is executed."""


def add(reader: str, name: str, make: Callable[[Path], Path | None]) -> None:
    assert name not in CASES, name
    CASES[name] = reader, make


def each(reader: str, make: Callable, **values: object) -> None:
    """One input a value: `make(folder, value)`."""
    for name, value in values.items():
        add(reader, f"{reader} {name}", lambda folder, value=value: make(folder, value))


class Trap:
    """Unpickled, it calls a function that leaves a file behind."""

    def __init__(self, call: Callable, *arguments: object):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()
