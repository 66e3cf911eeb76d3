"""A world that breaks is reset, counted, and harms no other."""

import pytest
import torch

from envs import make_env

WORLDS = 4


def finite(tensordict) -> bool:
    return all(x.isfinite().all() for x in tensordict.values(True, True))


@pytest.mark.parametrize("task", ["cartpole-swingup", "walker-walk"])
def test_a_world_that_is_no_number_is_replaced(task):
    env, healthy = make_env(task, WORLDS), make_env(task, WORLDS)
    root, healthy_root = env.reset(), healthy.reset()
    action = torch.full((WORLDS, env.action_dim), 0.3)
    env.sim.qvel[1] = float("nan")
    env.sim.forward()
    for step in range(5):
        one, root = env.step_and_maybe_reset(root.set("action", action))
        two, healthy_root = healthy.step_and_maybe_reset(healthy_root.set("action", action))
        assert finite(one)
        assert finite(root)
        others = [0, 2, 3]
        for key in ("pixels", "state", "reward", "truncated"):
            assert torch.equal(one["next", key][others], two["next", key][others])
        assert one["next", "truncated"][1].item() == (step == 0)
        assert not one["next", "terminated"].any()
        if step == 0:
            assert one["next", "reward"][1] == 0
            assert torch.equal(one["next", "state"][1], one["state"][1])  # the last good one
            assert torch.equal(one["next", "pixels"][1], one["pixels"][1])
            assert not torch.equal(root["state"][1], one["state"][1])  # and then a new episode
    assert env.counters["repaired_worlds"] == 1
    # Nothing of the broken world stays behind in the buffers: its next steps are those of a healthy one.
    for sim in (env.sim, healthy.sim):
        sim.load_state({name: x[:1].expand(x.shape).clone() for name, x in healthy.sim.state().items()})
    for _ in range(20):
        env.sim.step()
        healthy.sim.step()
        assert torch.equal(env.sim.qpos, healthy.sim.qpos)
        assert torch.equal(env.sim.qpos[0], env.sim.qpos[1])


def test_a_world_without_room_for_its_contacts_is_replaced():
    env = make_env("walker-stand", WORLDS, observations=("state",), max_constraints=6)
    root = env.reset()
    high = torch.zeros(env.task.model.nq)
    high[0] = 5.0  # metres above the floor
    env.sim.qpos.copy_(high)
    env.sim.qpos[2] = torch.tensor([-1.2, 0, 1.5, 0, 0, 0, 0, 0, 0])  # lying on it: many contacts
    env.sim.qvel.zero_()
    env.sim.forward()
    step, root = env.step_and_maybe_reset(env.observe().set("action", torch.zeros(WORLDS, env.action_dim)))
    assert step["next", "truncated"][:, 0].tolist() == [False, False, True, False]
    assert step["next", "reward"][2] == 0
    assert finite(step)
    assert finite(root)
    assert env.counters["repaired_worlds"] == 1


def test_actions_that_are_no_numbers_are_refused_on_the_cpu():
    env = make_env("cartpole-swingup", WORLDS, observations=("state",))
    action = torch.zeros(WORLDS, 1)
    action[2] = float("nan")
    with pytest.raises(ValueError, match=r"\[2\]"):
        env.step(env.reset().set("action", action))
