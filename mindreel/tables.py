"""Rows of measurements, as flat JSON objects in a file and as a table on the screen."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mindreel.files import write_text

Row = Mapping[str, Any]

_LONGEST_NAME = 240  # bytes; file systems allow 255, and a file is written under a longer name first


def with_list(arguments: Sequence[str], field: str = "task") -> list[str]:
    """The arguments with task=NAME,NAME written as task=[NAME,NAME], the notation of a list."""
    start = f"{field}="
    return [
        f"{start}[{one.removeprefix(start)}]" if one.startswith(start) and "[" not in one else one for one in arguments
    ]


def check_out(out: str, field: str = "out") -> None:
    """Checks before the work that a file can be written after it; nothing is checked if `out` is empty.

    Raises:
        ValueError: `out` is a folder, its name is too long, or its folder cannot be made or written to.
    """
    if not out:
        return
    path = Path(out)
    if len(path.name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"{field}: a file's name has at most {_LONGEST_NAME} bytes, this one {len(path.name.encode())}"
        )
    if path.is_dir():
        raise ValueError(f"{field}={out} is a folder: name a file in it, as in {field}={out.rstrip('/')}/FILE")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir():
        raise ValueError(f"{field}={out} cannot be written: {there} is a file, not a folder.")
    if not os.access(path if path.exists() else there, os.W_OK):
        raise ValueError(f"{field}={out} cannot be written: you may not write to {path if path.exists() else there}.")


def write_rows(out: str, rows: Sequence[Row]) -> None:
    """Writes a JSON array with one flat object a line, and its folder; nothing if `out` is empty."""
    if not out:
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(dict(row)) for row in rows)
    write_text(path, f"[\n{lines}\n]\n" if rows else "[]\n")
    print(f"Rows: {path}")


def print_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Prints rows under headings; a value that a row lacks is left blank.

    Args:
        rows: what to print.
        columns: key of a row -> heading.
    """
    lines = [list(columns.values())] + [[_text(row.get(key)) for key in columns] for row in rows]
    numbers = [any(isinstance(row.get(key), int | float) for row in rows) for key in columns]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numbers, strict=True)
        )
        print("  " + "  ".join(padded).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
        return f"{value:,.{digits}f}"
    return str(value)
