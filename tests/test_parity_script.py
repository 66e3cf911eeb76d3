"""The parity script as a user runs it: table, rows, document, pictures, and an exit status that means something."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from mindreel.envs import TASKS
from mindreel.envs.checks import parity
from mindreel.envs.tasks.pendulum import Pendulum

pytestmark = pytest.mark.timeout(600)

SMALL = ("states=16", "resets=100", "pictures=2")


@pytest.mark.skipif(
    os.environ["MUJOCO_GL"] == "disable", reason="no GL library here"
)  # set where dm_control is imported
def test_equal_tasks_exit_with_0_and_leave_rows_table_and_pictures(call_script, capsys, tmp_path):
    out, doc, sheet = tmp_path / "rows.json", tmp_path / "doc.md", tmp_path / "sheet.png"
    start, end = "<!-- parity: scripts/parity.py writes from here -->", "<!-- parity: to here -->"
    doc.write_text(f"Before.\n\n{start}\nan old table\n{end}\n\nAfter.\n")
    tasks = "task=cartpole-swingup,cartpole-balance"
    assert call_script("parity", tasks, *SMALL, f"out={out}", f"doc={doc}", f"sheet={sheet}") == 0
    output = capsys.readouterr().out
    assert "2 of 2 tasks are equal" in output
    rows = json.loads(out.read_text())
    assert [row["task"] for row in rows] == ["cartpole-swingup", "cartpole-balance"]
    for row in rows:
        assert row["equal"] is True and row["why"] == ""
        assert 0 <= row["reward_error"] <= 1e-5 and 0 <= row["observation_error"] <= 1e-5
        assert row["physics_error"] <= 1e-4 and row["physics_share"] == 1 and 0.001 <= row["reset_p_value"] <= 1
        assert 0 < row["picture_error"] <= parity.PICTURE_BOUND
        assert 0 < row["moving_picture_error"] <= parity.MOVING_PICTURE_BOUND
    text = doc.read_text()
    assert text.startswith("Before.\n") and text.endswith("\nAfter.\n") and "an old table" not in text
    assert "| cartpole-swingup |" in text and start in text and end in text
    picture = np.asarray(Image.open(sheet).convert("RGB"))
    assert picture.shape[0] > 96 and picture.shape[1] > 192 and picture.std() > 20


def test_without_a_gl_library_pictures_are_not_compared_and_nothing_is_equal(
    call_script, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    out = tmp_path / "rows.json"
    assert call_script("parity", "task=cartpole-swingup", *SMALL, f"out={out}") == 1
    output = capsys.readouterr().out
    assert "Pictures are not compared, so no task counts as equal" in output and "0 of 1 tasks are equal" in output
    row = json.loads(out.read_text())[0]
    assert row["equal"] is False and row["why"] == "pictures not compared"
    assert row["picture_error"] is row["moving_picture_error"] is None
    assert row["reward_error"] <= 1e-5 and row["physics_share"] == 1 and row["reset_p_value"] >= 0.001


def test_unequal_and_missing_tasks_exit_with_1_and_say_why(call_script, monkeypatch, capsys, tmp_path):
    class Late(Pendulum):
        time_limit = 19.0

    monkeypatch.setitem(TASKS, "pendulum-swingup", Late)
    monkeypatch.delitem(TASKS, "walker-run")
    out = tmp_path / "rows.json"
    assert call_script("parity", "task=pendulum-swingup,walker-run", *SMALL, f"out={out}") == 1
    output = capsys.readouterr().out
    assert "0 of 2 tasks are equal" in output and "Missing: walker-run" in output
    pendulum, walker = json.loads(out.read_text())
    assert "episode length: 950, not 1000" in pendulum["why"] and not pendulum["equal"]
    assert walker == dict.fromkeys(pendulum) | {"task": "walker-run", "equal": False, "why": "missing"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("task=walker-wlk",), "walker-walk"),
        (("states=1", "task=walker-walk"), "at least 16"),
        (("doc=/nowhere/environments.md",), "expected a file with one line"),
        (("out=/tmp",), "is a folder"),
        (("sheets=x.png",), "did you mean 'sheet'"),
    ],
)
def test_mistakes_are_named(call_script, capsys, arguments, said):
    assert call_script("parity", *arguments) == 2
    assert said in capsys.readouterr().err
