"""Hold every task against dm_control's own: reward, observation, physics, resets and pictures.

    python scripts/parity.py
    python scripts/parity.py task=cartpole-swingup,walker-walk out=rows.json
    python scripts/parity.py doc=results/notebook/parity.md sheet=docs/environments.png

docs/environments.md says what is compared, and how equal is equal. Exits 0 only if all tasks asked for are equal.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindreel import cli
from mindreel.env_checks.parity_document import check_document, print_parity, write_document
from mindreel.env_checks.picture_sheet import write_sheet
from mindreel.env_checks.task_comparison import compared, known_tasks
from mindreel.runs.progress import stage_bar
from mindreel.tables import check_out, with_list, write_rows


@dataclass(frozen=True)
class ParityConfig:
    """What is compared, and how much of it."""

    task: tuple[str, ...] = ()
    """Tasks, with commas between them; all of dm_control's if none is named."""
    out: str = ""
    """File for the rows, JSON."""
    doc: str = ""
    """Markdown file whose table is replaced, as results/notebook/parity.md."""
    sheet: str = ""
    """File for two pictures of every task, ours to the left of dm_control's, PNG."""
    states: int = 256
    """Random states in which reward, observation and the control step that follows are compared."""
    resets: int = 1000
    """Episodes started, here and in dm_control."""
    pictures: int = 4
    """States drawn, here and in dm_control."""
    jobs: int = 1
    """Processes that the tasks are divided among."""


def run(config: ParityConfig) -> None:
    """Compares and prints; exits with 1 if a task is not equal."""
    check_out(config.out)
    check_out(config.sheet, "sheet")
    if config.doc:
        check_document(Path(config.doc))
    if min(config.states, config.resets) < 16 or config.pictures < 1:
        raise ValueError("states, resets: at least 16 of each; pictures: at least one.")
    if config.jobs < 1:
        raise ValueError(f"jobs={config.jobs}: expected at least one process")
    tasks = known_tasks(config.task)
    found = compared(tasks, config.states, config.resets, config.pictures, config.jobs)
    rows: list[dict[str, Any]] = []
    drawn: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}  # ours and dm_control's
    with stage_bar("parity", len(tasks)) as bar:
        for task, (row, pictures) in zip(tasks, found, strict=True):
            rows.append(row)
            if pictures is not None:
                drawn[task] = pictures.ours, pictures.theirs
            bar.update()
    print_parity(rows)
    write_rows(config.out, rows)
    if config.doc:
        write_document(Path(config.doc), rows)
    if config.sheet:
        write_sheet(Path(config.sheet), drawn)
    equal = sum(row["equal"] for row in rows)
    missing = ", ".join(task for task in tasks if task not in drawn)
    print(f"{equal} of {len(rows)} tasks are equal to dm_control's." + (f" Missing: {missing}." if missing else ""))
    if equal < len(rows):
        sys.exit(1)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, ParityConfig, argv=with_list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
