"""The table of `parity` on the screen and in a Markdown file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mindreel.files import write_text
from mindreel.tables import print_table

_COLUMNS = {
    "task": "task",
    "reward_error": "reward",
    "observation_error": "observation",
    "next_reward_error": "reward after",
    "next_observation_error": "observation after",
    "physics_error": "physics",
    "physics_share": "within",
    "reset_p_value": "resets p",
    "picture_error": "picture",
    "moving_picture_error": "of what moves",
    "equal": "equal",
    "why": "why not",
}
_START, _END = "<!-- parity: scripts/parity.py writes from here -->", "<!-- parity: to here -->"


def print_parity(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the rows of `mindreel.envs.checks.parity.compare`, and how to have pictures drawn where they were not."""
    print_table([_formatted(row) for row in rows], _COLUMNS)
    if any(row["picture_error"] is None and row["why"] != "missing" for row in rows):
        print(
            "Pictures are not compared, so no task counts as equal: dm_control needs EGL or OSMesa to draw "
            "(on Debian: apt-get install libegl1)."
        )


def _formatted(row: Mapping[str, Any]) -> dict[str, str]:
    """The row as text; a dash where nothing was measured."""
    formats = {"_error": "{:.1e}", "_share": "{:.1%}", "_value": "{:.2g}"}
    shown = {}
    for key, value in row.items():
        form = next((form for end, form in formats.items() if key.endswith(end)), "{}")
        form = "{:.1f}" if key.endswith("picture_error") else form
        shown[key] = (
            "-" if value is None else {True: "yes", False: "no"}[value] if key == "equal" else form.format(value)
        )
    return shown


def check_document(doc: Path) -> None:
    """Raises ValueError unless the file has the two lines between which `write_document` writes."""
    _split(doc)


def write_document(doc: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the table between the two marker lines of a Markdown file.

    Raises:
        ValueError: the file lacks them.
    """
    before, after = _split(doc)
    lines = [" | ".join(_COLUMNS.values()), " | ".join("---" for _ in _COLUMNS)]
    lines += [" | ".join(_formatted(row)[key] for key in _COLUMNS) for row in rows]
    table = "\n".join(f"| {line} |" for line in lines)
    write_text(doc, f"{before}{_START}\n\n{table}\n\n{_END}{after}")
    print(f"Table: {doc}")


def _split(doc: Path) -> tuple[str, str]:
    """The text before the first marker line and the text after the second."""
    text = doc.read_text(encoding="utf-8") if doc.is_file() else ""
    if text.count(_START) != 1 or text.count(_END) != 1:
        raise ValueError(f"doc={doc}: expected a file with one line {_START} and one line {_END}")
    return text.partition(_START)[0], text.partition(_END)[2]
