"""Rows of measurements: flat JSON objects in a file, and the same as a table on the screen; what they are of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def with_list(arguments: Sequence[str], field: str = "task") -> list[str]:
    """The arguments with task=NAME,NAME written as task=[NAME,NAME], which is how a list is read."""
    start = f"{field}="
    return [
        f"{start}[{one.removeprefix(start)}]" if one.startswith(start) and "[" not in one else one for one in arguments
    ]


def check_out(out: str) -> None:
    """Says before hours of work, not after them, that the rows could not be written.

    Raises:
        ValueError: `out` is a folder.
    """
    if out and Path(out).is_dir():
        raise ValueError(f"out={out} is a folder: name a file, as in out={out.rstrip('/')}/rows.json")


def write_rows(out: str, rows: Sequence[Row]) -> None:
    """Writes a JSON array with one flat object a line; nothing if `out` is empty."""
    if not out:
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(dict(row)) for row in rows)
    path.write_text(f"[\n{lines}\n]\n" if rows else "[]\n", encoding="utf-8")
    print(f"Rows: {path}")


def print_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Prints rows under headings; a value that a row lacks stays blank.

    Args:
        rows: what to print.
        columns: key of a row -> heading.
    """
    cells = [list(columns.values())] + [[_text(row.get(key)) for key in columns] for row in rows]
    numbers = [any(isinstance(row.get(key), int | float) for row in rows) for key in columns]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        )
        print("  " + "  ".join(padded).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
        return f"{value:,.{digits}f}"
    return str(value)
