"""Saved worlds continue to the bit in a fresh environment."""

import pytest
import torch
from safetensors.torch import load, save
from tensordict import TensorDictBase

from mindreel.envs import WarpEnv, make_env

WORLDS, STEPS = 4, 50


def play(env: WarpEnv, actions: torch.Tensor) -> TensorDictBase:
    root, steps = env.observe(), []
    for action in actions:
        step, root = env.step_and_maybe_reset(root.set("action", action))
        steps.append(step.clone())
    return torch.stack(steps)


@pytest.mark.parametrize("task", ["cartpole-swingup", "walker-walk", "reacher-easy", "ball_in_cup-catch"])
def test_fifty_steps_after_a_restore_are_the_same_fifty(task):
    env, fresh = make_env(task, WORLDS, seed=3), make_env(task, WORLDS, seed=4)
    env.episode_steps = fresh.episode_steps = 30  # an episode ends within the fifty steps
    actions = 2 * torch.rand(10 + STEPS, WORLDS, env.action_dim, generator=torch.Generator().manual_seed(0)) - 1
    env.reset()
    play(env, actions[:10])
    saved = save(env.worlds_state())  # through safetensors, as a checkpoint would
    expected = play(env, actions[10:])
    fresh.load_worlds_state(load(saved))
    found = play(fresh, actions[10:])
    assert expected["next", "truncated"].any()
    for key in expected.keys(True, True):
        assert torch.equal(expected[key], found[key]), key
    assert env.counters == fresh.counters


def test_foreign_worlds_are_refused():
    env = make_env("cartpole-swingup", WORLDS, observations=("state",))
    for other in (
        make_env("cartpole-swingup", 2, observations=("state",)),
        make_env("reacher-easy", WORLDS, observations=("state",)),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            env.load_worlds_state(other.worlds_state())
    with pytest.raises(ValueError, match="generator"):
        env.load_worlds_state({k: v for k, v in env.worlds_state().items() if k != "generator"})
