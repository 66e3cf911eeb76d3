"""How far the runs of a sweep are, as lines on the terminal."""

import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from mindreel.sweep.sweep_runs import SweepRun

_TAIL_BYTES = 16_384
_BAR = re.compile(r"^\s*([A-Za-z][\w ,-]*?):\s+(\d+)%", re.MULTILINE)  # as `mindreel.runs.metrics` draws them
_MOST_LINES = 8
_TERMINAL_SECONDS, _LINE_SECONDS = 1.0, 60.0


class ProgressLines:
    """A line for each run under way: its stage, how much of the stage is done, the last return.

    On a terminal the lines are redrawn in place every second; elsewhere those that changed are printed once a minute.

    Args:
        stream: where the lines go.
        clock: seconds, rising.
    """

    def __init__(self, stream: TextIO | None = None, clock=time.monotonic):
        self._stream, self._clock = stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._starts: dict[Path, int] = {}  # log -> its length when the run began
        self._drawn, self._last = 0, clock()
        self._printed: dict[str, str] = {}

    def update(self, under_way: Sequence[SweepRun]) -> None:
        """Shows these runs, if it is time to; call it as often as you like."""
        for run in under_way:
            if run.log not in self._starts:
                self._starts[run.log] = run.log.stat().st_size if run.log.is_file() else 0
        if self._clock() - self._last < (_TERMINAL_SECONDS if self._terminal else _LINE_SECONDS):
            return
        self._last = self._clock()
        width = max((len(run.folder.name) for run in under_way), default=0)
        lines = {run.folder.name: f"{run.folder.name:<{width}}  {self._state(run)}" for run in under_way}
        if self._terminal:
            self._redraw(list(lines.values()))
        else:
            changed = [line for name, line in lines.items() if self._printed.get(name) != line]
            self._printed = lines
            self._stream.write("".join(f"  {line}\n" for line in changed))
        self._stream.flush()

    def clear(self) -> None:
        """Removes the lines from the terminal, for something else to be printed there."""
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")  # up to the first of them, and erase from there on
            self._stream.flush()
            self._drawn = 0

    def _redraw(self, lines: list[str]) -> None:
        self.clear()
        columns, rows = shutil.get_terminal_size()
        most = max(1, min(_MOST_LINES, rows - 2))
        if len(lines) > most:
            lines = [*lines[: most - 1], f"and {len(lines) - most + 1} more"]
        self._stream.write("".join(f"  {line}"[: columns - 1] + "\n" for line in lines))
        self._drawn = len(lines)

    def _state(self, run: SweepRun) -> str:
        bars = _BAR.findall(_tail(run.log, self._starts[run.log]).replace("\r", "\n"))
        stage, percent = bars[-1] if bars else ("starting", "")
        metrics = run.folder / "metrics.jsonl"
        if stage == "train":  # bars in a log are seldom drawn
            updates = last_value(metrics, "updates") or 0.0
            percent = str(max(int(percent), int(100 * updates / max(run.config.loop.updates, 1))))
        last = last_value(metrics, "episode_return")
        shown = f"{stage:<9} {percent + '%' if percent else '':>4}"
        return shown.rstrip() if last is None else f"{shown}   return {last:.1f}"


def last_value(metrics: Path, key: str) -> float | None:
    """The last number that a run logged under a name; None if there is none."""
    for line in reversed(_tail(metrics).splitlines()):
        try:
            value = json.loads(line).get(key)
        except (ValueError, AttributeError):  # cut off at either end
            continue
        if isinstance(value, int | float):
            return float(value)
    return None


def _tail(path: Path, start: int = 0) -> str:
    """The last bytes of a file, none of them before `start`; "" if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, 2) - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
