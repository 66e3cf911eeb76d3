"""What a sweep shows of its runs while they work."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mindreel.run_config import TrainConfig
from mindreel.runs.progress import stage_bar
from mindreel.sweep.sweep_runs import SweepRun
from mindreel.sweep.terminal_lines import ProgressLines, last_value


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def run_named(folder: Path, name: str) -> SweepRun:
    place = folder / name
    place.mkdir()
    run = SweepRun(place, replace(TrainConfig(), run=str(place)), ())
    run.log.parent.mkdir(exist_ok=True)
    run.log.touch()
    return run


def print_bar(run: SweepRun, stage: str, done: int, total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws a bar into a run's log, as its process does."""
    with run.log.open("a") as log, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", log)
        bar = stage_bar(stage, total)
        bar.update(done)
        bar.refresh()
        bar.close()


def shown(run: SweepRun, stream: io.StringIO, seconds: list[float], lines: ProgressLines) -> str:
    stream.seek(0)
    stream.truncate()
    seconds[0] += 100
    lines.update([run])
    return stream.getvalue()


def test_a_line_says_stage_percent_and_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, stream, seconds = run_named(tmp_path, "walker-walk-vjepa-mpc-1"), io.StringIO(), [0.0]
    print_bar(run, "train", 3, 4, monkeypatch)  # of an earlier process
    lines = ProgressLines(stream, clock=lambda: seconds[0])
    lines.update([run])
    assert stream.getvalue() == ""  # it is not time yet
    assert shown(run, stream, seconds, lines) == "  walker-walk-vjepa-mpc-1  starting\n"
    print_bar(run, "collect", 10, 10, monkeypatch)
    print_bar(run, "pretrain", 5, 20, monkeypatch)
    assert shown(run, stream, seconds, lines).split() == ["walker-walk-vjepa-mpc-1", "pretrain", "25%"]
    rows = [{"stage": "train", "episode_return": 12.5}, {"stage": "train", "episode_return": 31.25}, {"stage": "eval"}]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"stage": "tra')
    print_bar(run, "train", 7, 10, monkeypatch)
    assert shown(run, stream, seconds, lines).split()[1:] == ["train", "70%", "return", "31.2"]
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write(f'\n{{"stage": "train", "updates": {int(0.85 * run.config.loop.updates)}}}\n')
    assert shown(run, stream, seconds, lines).split()[1:] == ["train", "85%", "return", "31.2"]
    assert shown(run, stream, seconds, lines) == ""  # elsewhere than on a terminal, only what has changed


def test_lines_on_a_terminal_are_redrawn_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")
    runs = [run_named(tmp_path, f"a-run-whose-name-is-longer-than-the-line-{index}") for index in range(6)]
    stream, seconds = Terminal(), [0.0]
    lines = ProgressLines(stream, clock=lambda: seconds[0])
    seconds[0] = 2.0
    lines.update(runs)
    drawn = stream.getvalue().splitlines()
    assert len(drawn) == 4 and all(len(line) < 40 for line in drawn) and drawn[-1].strip() == "and 3 more"
    seconds[0] = 4.0
    lines.update(runs[:1])
    assert stream.getvalue().split("\x1b[4A\x1b[J")[1].count("\n") == 1  # up four lines, and one in their place
    lines.clear()
    assert stream.getvalue().endswith("\x1b[1A\x1b[J")
    lines.clear()
    assert stream.getvalue().count("\x1b[J") == 2  # nothing is left to erase


def test_a_run_without_episodes_has_no_return(tmp_path: Path) -> None:
    assert last_value(tmp_path / "metrics.jsonl", "episode_return") is None
    (tmp_path / "metrics.jsonl").write_text('[1]\nnot JSON\n{"stage": "pretrain"}\n')
    assert last_value(tmp_path / "metrics.jsonl", "episode_return") is None
