"""A task of the user's own: two files, and nothing of the package touched."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from mindreel.envs import RenderConfig, Task, WarpEnv, make_env, make_task

ROOT = Path(__file__).parents[2]


def documented(language: str) -> str:
    """What docs/environments.md shows of such a task in this language: readers copy it, so it must work."""
    section = (ROOT / "docs" / "environments.md").read_text().split("\n## A model of your own\n")[1].split("\n## ")[0]
    return section.split(f"```{language}\n")[1].split("```")[0]


MODEL = documented("xml")
TASK = documented("python")
LOG = """
from pathlib import Path

with (Path(__file__).parent / "runs.txt").open("a") as log:
    log.write("run\\n")
"""
BARE = 'XML = "rod.xml"\ndef reward(sim): return sim.qvel[:, 0]\n'
CLASS = """
import torch
from mindreel.envs import Task


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


def written(folder: Path, code: str = TASK, model: str = MODEL) -> str:
    (folder / "rod.xml").write_text(model)
    (folder / "rod.py").write_text(code)
    return str(folder / "rod.py")


def test_names_in_a_file_make_a_task(tmp_path):
    path = written(tmp_path, LOG + TASK)
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
    env = make_env(written(tmp_path, BARE), 2, seed=0)
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
            r"observation's 'observation' should be float32 \(2, n\).*\(2,\)",
        ),
        (BARE + "def terminated(sim): return sim.qpos > 100", r"terminated should be bool \(2,\).*\(2, 1\)"),
        (BARE + "def terminated(sim): return sim.qpos[:, 0]", r"terminated should be bool \(2,\).*float32"),
        (
            'XML = "rod.xml"\ngoal = None\ndef reward(sim): return -(sim.qpos[:, 0] - goal).abs()',
            r"fails where no episode has begun: .*rod.py, line 3: reward fails: TypeError.*sim.data\('userdata'\)",
        ),
        (
            'XML = "rod.xml"\nimport numpy as np\ndef reward(sim): return np.cos(sim.qpos[:, 0].numpy())',
            r"rod.py: its reward should be float32 \(2,\), a torch tensor .* got a numpy.ndarray. Compute it",
        ),
        (
            BARE + "def observation(sim): return [sim.qpos, sim.qvel]",
            r"rod.py: its observation's 'observation' should be float32 .* got a list. Join its parts: torch.cat",
        ),
        (BARE + "def observation(sim): return {}", "observation should be a dict of tensors"),
        (BARE + "def terminated(sim): return False", "terminated should be bool .* got a bool"),
        (
            BARE + "CONTROL_TIMESTEP = 0.025",
            r"of .*rod.xml's physics timestep, 0.01 s, got 0.025 s: 2.5 times",
        ),
        (BARE + "CONTROL_TIMESTEP = 0.004", "got 0.004 s: 0.4 times"),
        (CLASS.replace("time_limit", "control_timestep = 0.015\n    time_limit"), "got 0.015 s"),
        (CLASS + "\nclass Other(Rod): pass", "2 subclasses"),
        (CLASS.replace("behaviours =", "def __init__(self, n): pass\n    behaviours ="), "without arguments"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, code, message):
    with pytest.raises(ValueError, match=message):
        make_env(written(tmp_path, code), 2, observations=("state",))


def test_a_solver_that_warp_lacks_is_named_with_the_file(tmp_path):
    model = MODEL.replace("<option ", '<option solver="PGS" ')
    with pytest.raises(ValueError, match=r"rod.xml: mujoco_warp lacks .*PGS.* solver=\"Newton\""):
        make_env(written(tmp_path, BARE, model), 1, observations=("state",))


def test_a_reset_that_fails_is_named_with_its_line(tmp_path):
    env = make_env(
        written(tmp_path, f"{BARE}\ndef reset(sim, mask, generator):\n    sim.lost"), 1, observations=("state",)
    )
    with pytest.raises(ValueError, match=r"rod.py, line \d+: reset fails: AttributeError: .*'lost'"):
        env.reset()


def test_actuators_without_a_range_are_said_with_the_field_to_set(tmp_path):
    servo = MODEL.replace('<motor joint="swing" gear="2" ctrlrange="-1 1"/>', '<position joint="swing" kp="20"/>')
    assert servo != MODEL
    path = written(tmp_path, BARE, servo)
    with pytest.warns(
        RuntimeWarning, match=r"rod.xml: actuators without ctrlrange .*from -1 to 1.*number 0.*ctrlrange="
    ) as said:
        make_env(path, 1, observations=("state",))
    assert len(said) == 1
    (tmp_path / "rod.xml").write_text(servo.replace('kp="20"', 'kp="20" ctrlrange="-2 2"'))
    env = make_env(path, 1, observations=("state",))
    assert env.action_spec.space.high.item() == 2


NAN_AFTER = """
import torch
def observation(sim):
    late = sim.data("time")[:, None] > {seconds}
    return torch.where(late, torch.nan, sim.qpos)
"""


def play_until_it_stops(env, steps: int) -> None:
    root = env.reset()
    for _ in range(steps):
        step, root = env.step_and_maybe_reset(root.set("action", torch.zeros(2, 1)))
        assert step["next", "state"].isfinite().all() and root["state"].isfinite().all()
        assert torch.equal(env.broken, step["next", "truncated"][:, 0] & (step["next", "reward"][:, 0] == 0))


@pytest.mark.filterwarnings("ignore:The task")
def test_a_task_that_is_no_number_for_long_is_kept_apart_and_then_stops(tmp_path):
    code = BARE + NAN_AFTER.format(seconds=0.01)
    env = make_env(written(tmp_path, code), 2, observations=("state",), action_repeat=2)
    play_until_it_stops(env, 40)
    assert env.counters["faulty_decisions"] == 80 == env.counters["repaired_worlds"] and env.broken.all()
    with pytest.raises(ValueError, match=r"The task .*rod.py gave numbers .* in 100 of 100 decisions, in: observation"):
        play_until_it_stops(env, 20)


@pytest.mark.filterwarnings("ignore:The task")
def test_a_task_that_is_seldom_no_number_goes_on(tmp_path):
    code = BARE + NAN_AFTER.format(seconds=0.39)  # in one of 20 decisions
    env = make_env(written(tmp_path, code), 2, observations=("state",), action_repeat=2)
    play_until_it_stops(env, 1200)
    assert env.counters["faulty_decisions"] == 120


def test_a_task_that_starts_with_no_number_stops_at_once(tmp_path):
    code = BARE + NAN_AFTER.format(seconds=-1)
    with pytest.raises(
        ValueError, match=r"The task .*rod.py starts with a state .* in its worlds \[0, 1\], in: observation"
    ):
        make_env(written(tmp_path, code), 2, observations=("state",)).reset()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("reward(sim): return sim.qvel[:, 0].sqrt()", "reward"),
        ("observation(sim): return torch.cat([sim.qpos, sim.qvel.sqrt()], 1)", r"observation\[1\]"),
    ],
)
def test_a_task_whose_numbers_are_not_finite_is_named_once(tmp_path, function, name):
    """One world turns backwards, where there is no square root."""
    env = make_env(written(tmp_path, f"import torch\n{BARE}def {function}\n"), 2, observations=("state",))
    env.sim.qvel.fill_(5.0)
    env.sim.qvel[1] = -5.0
    env.sim.forward()
    action = torch.zeros(2, 1)
    with pytest.warns(
        RuntimeWarning, match=rf"The task .*rod.py gave numbers that are not finite .* in: {name}\."
    ) as said:
        after = env.step(env.observe().set("action", action))["next"]
    assert len(said) == 1
    assert after["truncated"][:, 0].tolist() == [False, True] and after["reward"][1] == 0
    env.sim.qvel[1] = -5.0
    env.step(env.observe().set("action", action))  # says nothing more: warnings fail here
    assert env.counters["repaired_worlds"] == 2


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
    path, run = written(tmp_path, LOG + TASK), tmp_path / "run"
    arguments = f"preset=smoke task={path} run={run} encoder=state loop.updates=20 decoder_steps=0".split()
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "train.py"), *arguments])
    runpy.run_path(sys.argv[0], run_name="__main__")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["task"] == path and 0 < summary["random_return_mean"] < 200
    assert (tmp_path / "runs.txt").read_text() == "run\n"


def test_an_episode_that_ends_within_an_action_earns_nothing_more(tmp_path):
    code = 'XML = "rod.xml"\ndef reward(sim): return torch.ones(sim.num_worlds)\n'
    code = "import torch\n" + code + "def terminated(sim): return sim.data('time') % 1 < 0.015\n"  # true for one step
    task = written(tmp_path, code)
    for repeat, ended, reward in ((1, True, 1.0), (3, True, 1.0)):
        env = make_env(task, 2, observations=("state",), action_repeat=repeat)
        root = env.reset()
        after = env.step(root.set("action", torch.zeros(2, 1)))["next"]
        assert after["terminated"].all() == ended and (after["reward"] == reward).all()


def test_numbers_of_its_own_are_saved_with_the_worlds(tmp_path):
    code = (
        'import torch\nXML = "rod.xml"\n'
        "def reset(sim, mask, generator):\n"
        "    goal = sim.data('userdata')\n"
        "    goal.copy_(torch.where(mask[:, None], generator.uniform(1).to(goal), goal))\n"
        "def reward(sim): return -(sim.qpos[:, 0] - sim.data('userdata')[:, 0]).abs()\n"
    )
    model = MODEL.replace("<worldbody>", '<size nuserdata="1"/><worldbody>', 1)
    task = written(tmp_path, code, model)

    def rewards(env: WarpEnv) -> torch.Tensor:
        return env.step(env.observe().set("action", torch.zeros(3, 1)))["next"]["reward"]

    env, other = (make_env(task, 3, seed=seed, observations=("state",)) for seed in (0, 1))
    env.reset()
    saved = env.worlds_state()
    first = rewards(env)
    assert len(first.unique()) == 3
    other.reset()
    env.load_worlds_state(saved)
    assert torch.equal(rewards(env), first)  # the other's reset changed nothing
    other.load_worlds_state(saved)
    assert torch.equal(rewards(other), first)
