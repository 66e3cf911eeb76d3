"""A task of the user's own: two files, and nothing of the package touched."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from envs import RenderConfig, Task, WarpEnv, make_env, make_task

ROOT = Path(__file__).parents[2]

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="0 0 0.1" pos="0 0 -1"/>
    <camera name="front" pos="0 -3 0.5" xyaxes="1 0 0 0 0 1"/>
    <body>
      <joint name="swing" type="hinge" axis="0 1 0" damping="0.05"/>
      <geom name="rod" type="box" size="0.05 0.05 0.4" pos="0 0 0.4" rgba="1 0.5 0 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="swing" gear="2" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
TASK = """
from pathlib import Path

import torch

with (Path(__file__).parent / "runs.txt").open("a") as log:
    log.write("run\\n")

XML = "rod.xml"
TIME_LIMIT = 4.0
CONTROL_TIMESTEP = 0.02


def reset(sim, mask, generator):
    angle = 3 + 0.2 * generator.uniform(1)
    sim.qpos.copy_(torch.where(mask[:, None], angle.to(sim.device), sim.qpos))


def observation(sim):
    return torch.cat([sim.qpos.cos(), sim.qpos.sin(), sim.qvel], -1)


def reward(sim):
    return (1 + sim.qpos[:, 0].cos()) / 2
"""
CLASS = """
import torch
from envs import Task


class Rod(Task):
    xml = "rod.xml"
    time_limit = 1.0
    behaviours = ("a rod up", "a rod down")

    def reset(self, sim, mask, generator):
        sim.qpos.masked_fill_(mask[:, None], 0.5)

    def observation(self, sim):
        return {"angle": sim.qpos, "speed": sim.qvel}

    def reward(self, sim):
        return sim.qpos[:, 0]

    def behaviour(self, sim):
        return (sim.qpos[:, 0].cos() < 0).long()
"""


def written(folder: Path, code: str = TASK, name: str = "rod.py") -> str:
    (folder / "rod.xml").write_text(MODEL)
    (folder / name).write_text(code)
    return str(folder / name)


def test_names_in_a_file_make_a_task(tmp_path):
    path = written(tmp_path)
    env = make_env(path, 3, render=RenderConfig(camera="front"), seed=1)
    assert isinstance(env, WarpEnv)
    assert (env.episode_steps, env.action_dim, env.decision_seconds) == (100, 1, pytest.approx(0.04))
    assert env.state_names == tuple(f"observation[{i}]" for i in range(3))
    root = env.reset()
    assert (env.sim.qpos >= 3).all() and (env.sim.qpos < 3.2).all() and len(env.sim.qpos.unique()) == 3
    after = env.step(root.set("action", torch.zeros(3, 1)))["next"]
    assert (after["reward"] < 0.1).all() and after["pixels"].float().std() > 1
    make_env(path, 1, observations=("state",))
    make_task(str(tmp_path / ".." / tmp_path.name / "rod.py"))
    assert (tmp_path / "runs.txt").read_text() == "run\n"  # whatever the file does, it did once


def test_a_bare_file_has_positions_velocities_and_the_models_first_state(tmp_path):
    env = make_env(written(tmp_path, 'XML = "rod.xml"\ndef reward(sim): return sim.qvel[:, 0]\n'), 2, seed=0)
    assert env.state_names == ("position[0]", "velocity[0]") and env.episode_steps == 1000
    assert (env.reset()["state"] == 0).all()


def test_a_subclass_of_task(tmp_path):
    env = make_env(written(tmp_path, CLASS), 2, observations=("state", "behaviour"))
    assert env.state_names == ("angle[0]", "speed[0]") and env.episode_steps == 50
    root = env.reset()
    assert (root["state"][:, 0] == 0.5).all() and root["behaviour"].tolist() == [0, 0]
    assert env.behaviours[0] == "a rod up" and isinstance(env.task, Task)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "defines no XML"),
        ('XML = "rod.xml"', "defines no reward"),
        ('XML = "rod.xml"\nimport not_there', "not_there"),
        ("def reward(sim)", "SyntaxError"),
        ('XML = "rod.xml"\ndef reward(sim): return sim.qpos', r"reward should be float32 \(2,\).*\(2, 1\)"),
        ('XML = "rod.xml"\ndef reward(sim): return 1.0', r"reward should be float32 \(2,\)"),
        (
            'XML = "rod.xml"\ndef reward(sim): return sim.qpos[:, 0]\ndef observation(sim): return sim.qpos[:, 0]',
            r"observation's 'observation' should be",
        ),
        (CLASS + "\nclass Other(Rod): pass", "2 subclasses"),
        (CLASS.replace("behaviours =", "def __init__(self, n): pass\n    behaviours ="), "without arguments"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, code, message):
    with pytest.raises(ValueError, match=message):
        make_env(written(tmp_path, code), 2, observations=("state",))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.py"):
        make_env(str(tmp_path / "nowhere.py"), 1)
    path = written(tmp_path, 'XML = "rood.xml"\ndef reward(sim): return sim.qpos[:, 0]\n')
    with pytest.raises(FileNotFoundError, match="rood.xml"):
        make_env(path, 1)
    with pytest.raises(ValueError, match="backend=warp"):
        make_env(path, 1, backend="dm_control")


@pytest.mark.timeout(600)  # it may have to compile kernels
def test_it_trains_by_its_path(tmp_path, monkeypatch):
    path, run = written(tmp_path), tmp_path / "run"
    arguments = f"preset=smoke task={path} run={run} encoder=state loop.updates=20 decoder_steps=0".split()
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "train.py"), *arguments])
    runpy.run_path(sys.argv[0], run_name="__main__")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["task"] == path and 0 < summary["random_return_mean"] < 200
    assert (tmp_path / "runs.txt").read_text() == "run\n"
