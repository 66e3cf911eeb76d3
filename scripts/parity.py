"""Hold every task against dm_control's own: reward, observation, physics, resets and pictures.

    python scripts/parity.py
    python scripts/parity.py task=cartpole-swingup,walker-walk out=rows.json
    python scripts/parity.py doc=docs/environments.md sheet=docs/environments.png

What is compared, and how equal is equal, stands in docs/environments.md. Exits 0 only if all tasks asked for are equal.
"""

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mindreel import cli
from mindreel.runs.metrics import stage_bar
from mindreel.tables import check_out, print_table, with_list, write_rows

_COLUMNS = {
    "task": "task",
    "reward_error": "reward",
    "observation_error": "observation",
    "physics_error": "physics",
    "physics_share": "within",
    "reset_p_value": "resets p",
    "picture_error": "picture",
    "moving_picture_error": "of what moves",
    "equal": "equal",
    "why": "why not",
}
_START, _END = "<!-- parity: scripts/parity.py writes from here -->", "<!-- parity: to here -->"
_SHEET_COLUMNS = 6
_LABEL, _GAP = 14, 6  # rows of pixels over a pair of pictures, and pixels around it


@dataclass(frozen=True)
class ParityConfig:
    """What is compared, and how much of it."""

    task: tuple[str, ...] = ()
    """Tasks, with commas between them; all of dm_control's if none is named."""
    out: str = ""
    """File for the rows, JSON."""
    doc: str = ""
    """Markdown file in which the table is written anew."""
    sheet: str = ""
    """File for two pictures of every task, ours to the left of dm_control's, PNG."""
    states: int = 256
    """Random states in which reward, observation and the control step that follows are compared."""
    resets: int = 1000
    """Episodes started, here and in dm_control."""
    pictures: int = 4
    """States drawn, here and in dm_control."""
    jobs: int = 1
    """Processes that share out the tasks."""


def run(config: ParityConfig) -> None:
    """Compares and prints; exits with 1 if a task falls short."""
    for file in (config.out, config.sheet):
        check_out(file)
    if config.doc:
        _split(Path(config.doc))  # before an hour of work, not after it
    if min(config.states, config.resets) < 16 or config.pictures < 1:
        raise ValueError("states, resets: at least 16 of each; pictures: at least one.")
    if config.jobs < 1:
        raise ValueError(f"jobs={config.jobs}: expected at least one process")
    tasks = _tasks(config.task)
    rows: list[dict[str, Any]] = []
    drawn: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}  # ours and dm_control's
    with stage_bar("parity", len(tasks)) as bar:
        for task, (row, pictures) in zip(tasks, _compared(config, tasks), strict=True):
            rows.append(row)
            if pictures is not None:
                drawn[task] = pictures.ours, pictures.theirs
            bar.update()
    print_table([_shown(row) for row in rows], _COLUMNS)
    if any(row["picture_error"] is None and row["task"] in drawn for row in rows):
        print(
            "Pictures are not compared, so no task counts as equal: dm_control needs EGL or OSMesa to draw "
            "(on Debian: apt-get install libegl1)."
        )
    write_rows(config.out, rows)
    if config.doc:
        _write_doc(Path(config.doc), rows)
    if config.sheet:
        write_sheet(Path(config.sheet), drawn)
    equal = sum(row["equal"] for row in rows)
    missing = [row["task"] for row in rows if row["task"] not in drawn]
    print(
        f"{equal} of {len(rows)} tasks are equal to dm_control's."
        + (f" Missing: {', '.join(missing)}." if missing else "")
    )
    if equal < len(rows):
        sys.exit(1)


def _compared(config: ParityConfig, tasks: Sequence[str]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Row and pictures of each task, in order."""
    from mindreel.envs.checks.parity import Sizes, compare  # here: importing dm_control takes seconds

    sizes = Sizes(config.states, config.resets, config.pictures)
    if config.jobs == 1:
        yield from map(compare, tasks, repeat(sizes))
        return
    # Spawned: Warp and OpenGL do not outlive a fork.
    with ProcessPoolExecutor(config.jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(compare, tasks, repeat(sizes))


def _tasks(names: Sequence[str]) -> list[str]:
    from mindreel.envs.checks.parity import ALL_TASKS

    for name in names:
        if name not in ALL_TASKS:
            near = ", ".join(difflib.get_close_matches(name, ALL_TASKS, n=3, cutoff=0.0))
            raise ValueError(f"dm_control has no task {name!r}. Nearest: {near}.")
    return list(names or ALL_TASKS)


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    """The row as it is printed; a dash where nothing was measured."""
    formats = {"_error": "{:.1e}", "_share": "{:.1%}", "_value": "{:.2g}"}
    shown = {}
    for key, value in row.items():
        form = next((form for end, form in formats.items() if key.endswith(end)), "{}")
        form = "{:.1f}" if key.endswith("picture_error") else form
        shown[key] = (
            "-" if value is None else {True: "yes", False: "no"}[value] if key == "equal" else form.format(value)
        )
    return shown


# ---- the document ----


def _split(doc: Path) -> tuple[str, str]:
    """What stands before and after the table."""
    text = doc.read_text(encoding="utf-8") if doc.is_file() else ""
    if text.count(_START) != 1 or text.count(_END) != 1:
        raise ValueError(f"doc={doc}: expected a file with one line {_START} and one line {_END}")
    return text.partition(_START)[0], text.partition(_END)[2]


def _write_doc(doc: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    before, after = _split(doc)
    lines = [" | ".join(_COLUMNS.values()), " | ".join("---" for _ in _COLUMNS)]
    lines += [" | ".join(_shown(row)[key] for key in _COLUMNS) for row in rows]
    table = "\n".join(f"| {line} |" for line in lines)
    doc.write_text(f"{before}{_START}\n\n{table}\n\n{_END}{after}", encoding="utf-8")
    print(f"Table: {doc}")


# ---- the pictures ----


def write_sheet(file: Path, drawn: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> None:
    """Writes the second picture of each task (count, 3, H, W), by both renderers, under its name: one PNG."""
    height, width = next(iter(drawn.values()))[0].shape[-2:]
    row, column = height + _LABEL + _GAP, 2 * width + 2 + _GAP
    sheet = Image.new("RGB", (_SHEET_COLUMNS * column + _GAP, -(-len(drawn) // _SHEET_COLUMNS) * row + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (task, both) in enumerate(drawn.items()):
        x, y = _GAP + i % _SHEET_COLUMNS * column, _GAP + i // _SHEET_COLUMNS * row
        pen.text((x, y), task, fill="black")
        for place, pictures in enumerate(both):
            if pictures is not None:
                one = Image.fromarray(np.ascontiguousarray(pictures[min(1, len(pictures) - 1)].transpose(1, 2, 0)))
                sheet.paste(one, (x + place * (width + 2), y + _LABEL))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)
    print(f"Pictures: {file}")


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, ParityConfig, argv=with_list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
