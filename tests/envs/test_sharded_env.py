"""Worlds shared out to processes are those of one process, to the bit."""

import multiprocessing
import os
import signal

import gymnasium
import pytest
import torch
from safetensors.torch import load, save
from torchrl.envs.utils import check_env_specs

from mindreel.envs import RandomizeConfig, RenderConfig, WarpEnv, Worlds, make_env

WORLDS = 5  # which two processes share unevenly
SETTINGS = {
    "seed": 3,
    "time_limit": 4,
    "observations": ("pixels", "state", "behaviour"),
    "render": RenderConfig(height=16, width=16),
    "randomize": RandomizeConfig(preset="dynamics", latency=2, background="noise"),
}


@pytest.fixture(scope="module")
def split():
    env = make_env("walker-walk", WORLDS, workers=2, **SETTINGS)
    yield env
    env.close()


def alone(**changes) -> WarpEnv:
    env = make_env("walker-walk", WORLDS, **(SETTINGS | changes))
    assert isinstance(env, WarpEnv)
    return env


def same(env: Worlds, other: Worlds, steps: int) -> None:
    """Plays both alike, over the ends of episodes, and compares all that they show."""
    moves = 2 * torch.rand(steps, WORLDS, env.action_dim, generator=torch.Generator().manual_seed(0)) - 1
    root, other_root = env.observe(), other.observe()
    for move in moves:
        step, root = env.step_and_maybe_reset(root.set("action", move))
        expected, other_root = other.step_and_maybe_reset(other_root.set("action", move))
        for key in expected.keys(True, True):
            assert torch.equal(step[key], expected[key]), key
        assert torch.equal(root["pixels"], other_root["pixels"])
    assert env.counters == other.counters


def test_the_same_worlds_in_two_processes(split):
    env = alone()
    for name in ("state_names", "action_dim", "episode_steps", "behaviours", "task_name", "decision_seconds"):
        assert getattr(split, name) == getattr(env, name), name
    for spec in ("observation_spec", "action_spec", "reward_spec", "done_spec"):
        assert getattr(split, spec) == getattr(env, spec), spec
    check_env_specs(split)
    for worlds in (split, env):
        worlds.set_seed(8)
        worlds.reset()
    before = split.counters["env_frames"] - env.counters["env_frames"]
    env._env_frames += before  # what checking the specs played
    same(split, env, 6)
    root = split.reset(split.observe().set("_reset", torch.tensor([0, 1, 0, 0, 0], dtype=torch.bool)[:, None]))
    expected = env.reset(env.observe().set("_reset", torch.tensor([0, 1, 0, 0, 0], dtype=torch.bool)[:, None]))
    assert torch.equal(root["pixels"], expected["pixels"]) and torch.equal(root["state"], expected["state"])
    same(split, env, 2)


def test_saved_worlds_go_on_in_any_number_of_processes(split):
    split.set_seed(1)
    split.reset()
    saved = save(split.worlds_state())
    env = alone(seed=9)
    env.load_worlds_state(load(saved))
    moves = torch.zeros(WORLDS, env.action_dim)
    for _ in range(3):
        split.step(split.observe().set("action", moves))
    env_saved = env.worlds_state()
    split.load_worlds_state(env_saved)
    for name, x in split.worlds_state().items():
        assert torch.equal(x, env_saved[name]), name
    same(split, env, 6)
    with pytest.raises(ValueError, match="they are not 5 worlds"):
        split.load_worlds_state(make_env("walker-walk", 2, **SETTINGS).worlds_state())
    with pytest.raises(ValueError, match="they are not 5 worlds"):
        split.load_worlds_state({k: v for k, v in env_saved.items() if k != "generator"})
    with pytest.raises(ValueError, match="do not fit: 'qpos'"):  # said by the processes, which go on
        split.load_worlds_state(env_saved | {"sim.qpos": torch.zeros(WORLDS, 1)})
    same(split, env, 1)


def test_actions_that_are_no_numbers_name_their_worlds(split):
    action = torch.zeros(WORLDS, split.action_dim)
    action[3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"worlds \[3\] are NaN"):
        split.step(split.observe().set("action", action))


def test_an_interrupt_leaves_them_to_whoever_saves_them(split):
    """Ctrl-C reaches every process of a terminal."""
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
    assert len(split.worlds_state()["episode_step"]) == WORLDS


def test_what_a_process_warns_of_is_heard_once():
    env = make_env("walker-stand", 2, observations=("state",), max_constraints=2, workers=4)
    assert len(env._worlds) == 2  # no more than there are worlds
    root = env.reset()
    with pytest.warns(RuntimeWarning, match="Raise max_constraints") as heard:
        for _ in range(20):
            _, root = env.step_and_maybe_reset(root.set("action", torch.zeros(2, env.action_dim)))
    assert len(heard) <= 2  # one of each process
    assert env.counters["overflowed_worlds"] > 1
    env.close()
    assert not env._shards.close.alive


def test_gymnasium_and_mistakes():
    worlds = gymnasium.make_vec(
        "mindreel.envs:mindreel/cartpole-swingup-v0", num_envs=3, workers=2, autoreset_mode="Disabled"
    )
    seen, _ = worlds.reset()
    assert seen.shape == (3, 5)
    worlds.close()
    with pytest.raises(ValueError, match="workers should be at least 0.*got -1"):
        make_env("cartpole-swingup", 3, workers=-1)
    with pytest.raises(ValueError, match="camera"):
        make_env("cartpole-swingup", 3, workers=2, render=RenderConfig(camera="nowhere"))
