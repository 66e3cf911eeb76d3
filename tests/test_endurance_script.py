"""The endurance script as a user runs it, and every domain under hostile actions for a few steps."""

import json

import pytest
import torch

from mindreel.envs import TASKS, WarpEnv
from mindreel.scripts.endurance import EnduranceConfig, play
from mindreel.tables import with_list

pytestmark = pytest.mark.timeout(600)  # the first of them may have to compile kernels

DOMAINS = {name.partition("-")[0]: name for name in TASKS}


def test_tasks_are_named_with_commas_and_each_leaves_a_row(call_script, capsys, tmp_path):
    out = tmp_path / "rows.json"
    assert (
        call_script("endurance", "task=pendulum-swingup,cartpole-balance", "steps=20", "num_envs=3", f"out={out}") == 0
    )
    rows = json.loads(out.read_text())
    assert [row["task"] for row in rows] == ["pendulum-swingup", "cartpole-balance"]
    clean = {"steps": 20, "repaired": 0, "overflowed": 0, "not_finite": 0, "touched": 0}
    assert all({key: row[key] for key in clean} == clean for row in rows)
    assert "neighbour touched" in capsys.readouterr().out


def test_one_task_needs_no_brackets_and_an_unknown_one_is_named(call_script, capsys):
    assert with_list(["task=walker-walk", "steps=2"]) == ["task=[walker-walk]", "steps=2"]
    assert with_list(["task=[a,b]", "worlds=1,2"], "worlds") == ["task=[a,b]", "worlds=[1,2]"]
    assert call_script("endurance", "task=walker-wlk") == 2
    assert "walker-walk" in capsys.readouterr().err


def test_a_neighbour_that_is_touched_shows_in_the_exit_status(call_script, monkeypatch, tmp_path):
    step = WarpEnv._step

    def leaking(self: WarpEnv, tensordict):
        after = step(self, tensordict)
        if self.num_envs > 1:
            after["state"][0] += 1e-3  # of the first world
        return after

    monkeypatch.setattr(WarpEnv, "_step", leaking)
    out = tmp_path / "rows.json"
    assert call_script("endurance", "task=pendulum-swingup", "steps=5", "num_envs=2", f"out={out}") == 1
    assert json.loads(out.read_text())[0]["touched"] == 5


@pytest.mark.parametrize("task", DOMAINS.values(), ids=DOMAINS)
def test_hostile_actions_harm_no_domain(task):
    row = play(EnduranceConfig(steps=12, num_envs=3), task)
    assert row["not_finite"] == row["touched"] == 0
    assert torch.tensor([row["repaired"], row["overflowed"]]).max() <= 12 * 2  # counted, world 0 never among them
