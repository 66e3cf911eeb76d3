"""Bars: what they show, and when there are none."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from fcntl import ioctl
from pathlib import Path

import pytest

from mindreel.runs.progress import RunProgress, progress_bar

ROOT = Path(__file__).parents[2]


class Clock:
    """Seconds that stand still unless a test moves them."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def played(progress: RunProgress, stage: str, steps: int, clock: Clock, seconds: float) -> list[str]:
    """What stands beside the bar before each step of a stage."""
    shown = []
    for _ in progress(range(steps), stage, 0, steps):
        shown.append(progress._text(progress._running[-1]))
        clock.now += seconds
    return shown


def test_the_runs_time_left_adds_up_the_stages() -> None:
    clock = Clock()
    progress = RunProgress(clock)
    progress.plan({"collect": 10, "pretrain": 20}, {})
    shown = played(progress, "collect", 5, clock, 2.0)
    assert shown[0] == "" and shown[4] == "run 00:02+"  # one step is to come
    progress.plan({"collect": 10, "pretrain": 20, "train": 100}, {"pretrain": 3.0})
    shown = played(progress, "collect", 10, clock, 2.0)
    assert shown[0] == "run 01:20+"  # 20 steps of 3 s, 10 of 2 s
    assert shown[-1] == "run 01:02+"
    progress.plan({"pretrain": 20, "train": 100}, {"train": 1.0})
    assert played(progress, "pretrain", 20, clock, 3.0)[-1] == "run 01:43"
    progress.plan({"train": 100}, {})
    assert played(progress, "train", 100, clock, 1.0)[-1] == "", "the bar's own time left is the run's"


def test_a_stage_inside_another_does_not_slow_it_down() -> None:
    clock = Clock()
    progress = RunProgress(clock)
    progress.plan({"train": 10, "refresh": 8}, {})
    for step in progress(range(10), "train", 0, 10):
        if step == 4:  # six steps of 2 s are to come, and five of the eight of 10 s
            assert played(progress, "refresh", 4, clock, 10.0)[-1] == "run 01:02"
        if step == 5:  # five of 2 s, and the other four of 10 s
            assert progress._text(progress._running[-1]) == "run 00:50"
        clock.now += 2.0


def test_return_and_loss_stand_beside_the_bar() -> None:
    progress = RunProgress()
    steps = progress(range(3), "train", 0, 3)
    next(steps)
    progress.show(loss=0.123456)
    progress.show(episode_return=151.26)
    assert progress._text(progress._running[-1]) == "return 151.3, loss 0.1235"
    assert list(steps) == [1, 2]
    other = progress(range(1), "refresh", 0, 1)
    next(other)
    assert progress._text(progress._running[-1]) == "return 151.3", "another stage has another loss"


def test_a_stage_that_is_over_has_no_bar(capsys: pytest.CaptureFixture) -> None:
    assert list(RunProgress()(range(5, 5), "collect", 5, 5)) == []
    assert capsys.readouterr().err == ""
    assert list(RunProgress()(range(4, 5), "collect", 4, 5)) == [4]
    assert "collect" in capsys.readouterr().err


def test_bars_start_no_thread() -> None:
    before = set(threading.enumerate())
    for _ in progress_bar(range(2), "test", 0, 2):
        assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("columns", [0, 60, 200])
def test_bars_are_seen_whatever_the_terminal_says_of_its_width(columns: int) -> None:
    code = "import time; from mindreel.runs.progress import progress_bar\n"
    code += "for _ in progress_bar(range(3), 'test', 0, 3): time.sleep(0.3)"
    own, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(own, 4096):
            shown += part
    except OSError:  # as a terminal ends on Linux
        pass
    assert process.wait() == 0
    lines = [line for line in re.split(r"[\r\n]+", shown.decode()) if line.strip("\x1b[A ")]
    assert lines[0].startswith("     test:   0%|") and "| 0/3 " in lines[0]
    assert lines[-1].startswith("     test: 100%|") and " left" in lines[-1]
    assert len(lines[-1]) <= (columns or 100)
