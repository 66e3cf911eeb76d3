"""The environment: specs, time, episodes, repeats, seeds, and worlds that leave each other alone."""

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import check_env_specs

from mindreel.envs import TASKS, RenderConfig, WarpEnv, make_env
from mindreel.envs.backends.dm_control import DMControlEnv
from mindreel.envs.warp.graphs import PendingAny

WORLDS = 4


@pytest.fixture(scope="module")
def env() -> WarpEnv:
    return make_env("walker-walk", WORLDS)


def actions(env: WarpEnv, steps: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(steps, env.num_envs, env.action_dim, generator=generator) - 1


def play(env: WarpEnv, actions: torch.Tensor, root: TensorDictBase | None = None) -> TensorDictBase:
    """Transitions (T, B) of the given actions (T, B, A), episodes starting anew where they end."""
    root = env.reset() if root is None else root
    steps = []
    for action in actions:
        step, root = env.step_and_maybe_reset(root.set("action", action))
        steps.append(step.clone())
    return torch.stack(steps)


def assert_same(one: TensorDictBase, two: TensorDictBase) -> None:
    for key in one.keys(True, True):
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=0, msg=str(key))


def test_specs(env):
    check_env_specs(env)
    assert len(env.state_names) == env.observation_spec["state"].shape[-1]
    assert env.state_names[:2] == ("orientations[0]", "orientations[1]")


def test_time_rule():
    """(obs[t], action[t]) -> reward[t], obs[t+1]: the step's own reward and the observation after it."""
    env = make_env("cartpole-balance", WORLDS, observations=("state",))
    steps = play(env, actions(env, 5))
    assert torch.equal(steps["next", "state"][:-1], steps["state"][1:])
    one = TASKS["cartpole-balance"]()
    env.sim.qpos.zero_()
    env.sim.qvel.zero_()
    env.sim.forward()
    at_rest = env.observe()
    push = torch.tensor([[1.0], [0.0], [-1.0], [0.5]])
    after = env.step(at_rest.set("action", push))["next"]
    cart_velocity = after["state"][:, 3]
    assert (cart_velocity.sign() == push[:, 0].sign()).all()  # this action has already moved the cart
    torch.testing.assert_close(after["reward"][:, 0], 2 * one.reward(env.sim), atol=1e-2, rtol=0)
    assert after["reward"][1] == pytest.approx(2.0, abs=1e-4)  # upright, still and centred, twice


@pytest.mark.parametrize("name", ["cartpole-swingup", "reacher-easy", "walker-walk"])
def test_a_decision_is_dm_controls_steps_summed(name):
    env, reference = (
        make_env(name, 1, observations=("state",), action_repeat=3),
        DMControlEnv(name, action_repeat=3),
    )
    reference.reset()
    env.reset()
    physics = reference.physics
    physics.data.qpos[:] = env.sim.qpos[0]
    physics.data.qvel[:] = env.sim.qvel[0]
    fixed = np.flatnonzero(env.task.model.geom_bodyid == 0)
    physics.model.geom_pos[fixed] = env.sim.data("geom_xpos")[0, fixed]
    physics.forward()
    root = env.observe()
    for action in actions(env, 4):
        step, root = env.step_and_maybe_reset(root.set("action", action))
        state, reward, _ = reference.step(action[0].numpy())
        np.testing.assert_allclose(step["next", "state"][0], state, atol=1e-3)
        assert step["next", "reward"].item() == pytest.approx(reward, abs=1e-3)


def test_an_episode_ends_with_its_own_observation_and_the_next_starts_with_another(env):
    env.episode_steps, whole = 5, env.episode_steps
    steps = play(env, actions(env, 12))
    env.episode_steps = whole
    ends = torch.tensor([4, 9])
    truncated = steps["next", "truncated"][:, :, 0]
    assert truncated.any(1).nonzero()[:, 0].tolist() == ends.tolist()
    assert truncated[ends].all()
    assert not steps["next", "terminated"].any()
    assert (steps["next", "done"][:, :, 0] == truncated).all()
    for key in ("pixels", "state"):
        final, first = steps["next", key][ends], steps[key][ends + 1]
        assert (final.flatten(2) != first.flatten(2)).any(-1).all()
    motion = (steps["next", "state"] - steps["state"])[..., 14].abs()  # torso height: no jump within a step
    assert motion.max() < 0.3


def test_worlds_end_and_reset_alone(env):
    play(env, actions(env, 1))
    before = env.observe()
    mask = torch.tensor([[False], [True], [False], [False]])
    after = env.reset(before.clone().set("_reset", mask))
    for key in ("pixels", "state"):
        changed = (after[key].flatten(1) != before[key].flatten(1)).any(-1)
        assert changed.tolist() == mask[:, 0].tolist()


def test_a_settling_world_moves_no_other():
    env = make_env("cheetah-run", WORLDS, observations=("state",))
    play(env, actions(env, 3))
    before = env.sim.state()
    env.reset(env.observe().set("_reset", torch.tensor([[False], [True], [False], [False]])))
    others = [0, 2, 3]
    for name, value in env.sim.state().items():
        assert torch.equal(value[others], before[name][others]), name
    assert env.sim.data("time")[1] == 0
    assert env.sim.qvel[1].abs().max() < 2  # it fell for two seconds and rests


def test_worlds_are_independent(env):
    one, two = actions(env, 20), actions(env, 20)
    two[:, 3] = -one[:, 3]
    env.set_seed(1)
    first = play(env, one)
    env.set_seed(1)
    second = play(env, two)
    assert_same(first[:, :3], second[:, :3])
    assert (first["next", "state"][:, 3] != second["next", "state"][:, 3]).any()


def test_a_seed_gives_one_rollout(env):
    other = make_env("walker-walk", WORLDS, seed=7)
    env.set_seed(7)
    moves = actions(env, 10)
    rollout = play(env, moves)
    assert_same(rollout, play(other, moves))
    env.set_seed(8)
    assert (play(env, moves)["state"] != rollout["state"]).any()


def test_actions_are_clipped(env):
    moves = torch.full((1, WORLDS, env.action_dim), 1.0)
    rollouts = []
    for scale in (1.0, 50.0, float("inf")):
        env.set_seed(0)
        rollouts.append(play(env, moves * scale).exclude("action"))
    assert_same(*rollouts[:2])
    assert_same(*rollouts[1:])


@pytest.mark.parametrize("task", ["cartpole-swingup", "ball_in_cup-catch"])
def test_resets_are_torchrls_own(task):
    """What a step asks early, whether any world is done, leads to the same worlds as torchrl's question after it."""
    ours, theirs = (make_env(task, WORLDS, seed=3) for _ in range(2))
    theirs.maybe_reset = lambda tensordict: EnvBase.maybe_reset(theirs, tensordict)
    ours.episode_steps = theirs.episode_steps = 7
    moves, rollouts = actions(ours, 20), []
    for env in (ours, theirs):
        first = play(env, moves[:10])
        env.sim.qvel[1] = float("nan")  # breaks, and from then on ends at other times than the rest
        rollouts.append(torch.cat([first, play(env, moves[10:], env.observe())]))
    assert_same(*rollouts)
    ends = rollouts[0]["next", "truncated"][:, :, 0]
    assert ends[:, 0].nonzero()[:, 0].tolist() == [6, 13] and ends[:, 1].nonzero()[:, 0].tolist() == [6, 10, 17]


def test_a_step_is_asked_once_and_early_whether_a_world_is_done(monkeypatch):
    asked = []
    env = make_env("cartpole-swingup", WORLDS, time_limit=3, observations=("state",))
    late = env.any_done
    monkeypatch.setattr(env, "any_done", lambda tensordict: asked.append(tensordict) or late(tensordict))
    play(env, actions(env, 6))
    assert len(asked) == 2  # at the ends, where there is something to reset, and not after every step


def test_a_question_is_answered_as_it_was_when_asked():
    mask = torch.tensor([False, True])
    some, none = PendingAny(mask), PendingAny(~mask & mask)
    mask.zero_()
    assert some.read() and not none.read()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "cartpole-swingpu"}, "cartpole-swingup"),
        ({"device": "cuda:99"}, "device=cuda:99: .*CUDA device"),
        ({"device": "gpu"}, "gpu"),
        ({"device": "mps"}, "mps"),
        ({"observations": ("pixel",)}, "pixels"),
        ({"observations": ()}, "pixels"),
        ({"observations": "pixels"}, r"\('pixels',\), got 'pixels'"),
        ({"num_envs": 0}, "num_envs"),
        ({"action_repeat": 0}, "action_repeat"),
        ({"render": RenderConfig(camera="front")}, "lookatcart"),
        ({"render": RenderConfig(camera=7)}, "lookatcart"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_env(**({"num_envs": 1} | wrong))
