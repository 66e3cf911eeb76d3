"""A world that breaks is reset, counted, and harms no other."""

import pytest
import torch

from mindreel.envs import WarpEnv, make_env

WORLDS = 4
STEPS = 60


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
    env.reset()
    high = torch.zeros(env.task.model.nq)
    high[0] = 5.0  # metres above the floor
    env.sim.qpos.copy_(high)
    env.sim.qpos[2] = torch.tensor([-1.2, 0, 1.5, 0, 0, 0, 0, 0, 0])  # lying on it: many contacts
    env.sim.qvel.zero_()
    env.sim.forward()
    action = torch.zeros(WORLDS, env.action_dim)
    with pytest.warns(RuntimeWarning, match=r"Raise max_constraints \(env.max_constraints\), which is 6 a world"):
        step, root = env.step_and_maybe_reset(env.observe().set("action", action))
    assert step["next", "truncated"][:, 0].tolist() == [False, False, True, False]
    assert step["next", "reward"][2] == 0
    assert finite(step)
    assert finite(root)
    assert env.counters["repaired_worlds"] == env.counters["overflowed_worlds"] == 1
    env.sim.qpos[1] = torch.tensor([-1.2, 0, 1.5, 0, 0, 0, 0, 0, 0])
    env.sim.forward()
    env.step_and_maybe_reset(env.observe().set("action", action))  # says nothing more: warnings fail here
    assert env.counters["overflowed_worlds"] == 2


def test_a_full_buffer_of_contacts_restarts_all_who_share_it():
    env = make_env("walker-stand", WORLDS, observations=("state",), max_contacts=1)
    env.reset()
    env.sim.qpos.copy_(torch.tensor([-1.2, 0, 1.5, 0, 0, 0, 0, 0, 0]).expand(WORLDS, -1))  # lying on the floor
    env.sim.qvel.zero_()
    env.sim.forward()
    with pytest.warns(RuntimeWarning, match=r"Raise max_contacts \(env.max_contacts\), which is 1 a world"):
        step, root = env.step_and_maybe_reset(env.observe().set("action", torch.zeros(WORLDS, env.action_dim)))
    assert step["next", "truncated"].all()
    assert finite(step)
    assert finite(root)
    assert env.counters["overflowed_worlds"] == WORLDS


def test_actions_that_are_no_numbers_are_refused_on_the_cpu():
    env = make_env("cartpole-swingup", WORLDS, observations=("state",))
    action = torch.zeros(WORLDS, 1)
    action[1], action[2] = float("inf"), float("nan")  # an infinite one is clipped
    with pytest.raises(ValueError, match=r"\[2\] are NaN"):
        env.step(env.reset().set("action", action))


def adversary(env: WarpEnv, steps: int) -> torch.Tensor:
    """Actions (T, B, A): random ones, from one bound to the other, far out of them, infinite."""
    generator = torch.Generator().manual_seed(0)
    actions = 2 * torch.rand(steps, env.num_envs, env.action_dim, generator=generator) - 1
    kind = torch.randint(4, (steps, env.num_envs, 1), generator=generator)
    return torch.where(kind == 0, actions, torch.tensor([1.0, 1.0, 1e30, float("inf")])[kind] * actions.sign())


@pytest.mark.parametrize(("name", "worlds", "steps"), [("dog-run", 4, 200), ("stacker-stack_4", 8, 120)])
def test_there_is_room_for_what_a_hostile_agent_does(name, worlds, steps):
    """The guess from the model is too small for these actions; an overflow warns, and warnings fail here."""
    env = make_env(name, worlds, observations=("state",))
    root = env.reset()
    for action in adversary(env, steps):
        _, root = env.step_and_maybe_reset(root.set("action", action))
    assert env.counters["overflowed_worlds"] == 0


def test_a_world_that_is_no_number_is_no_fault_of_the_task():
    env = make_env("cartpole-swingup", WORLDS, observations=("state",))
    root = env.reset()
    env.sim.qvel[1] = float("nan")
    env.step(root.set("action", torch.zeros(WORLDS, 1)))  # a warning would name the task, and fails here
    assert env.counters["repaired_worlds"] == 1


# One of each kind of world that may break; scripts/endurance.py plays them all, for longer.
@pytest.mark.parametrize("name", ["acrobot-swingup", "finger-spin", "fish-swim", "point_mass-hard", "reacher-easy"])
def test_no_action_breaks_a_world_for_long_nor_its_neighbour(name):
    env, undisturbed = (make_env(name, WORLDS, observations=("state",)) for _ in range(2))
    env.episode_steps = undisturbed.episode_steps = STEPS // 2
    actions = adversary(env, STEPS)
    calm = actions.clamp(-1, 1) * torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None]
    calm[:, 1:] = 0.1
    actions[:, 0] = calm[:, 0]
    root, other = env.reset(), undisturbed.reset()
    ended = 0
    for action, quiet in zip(actions, calm, strict=True):
        step, root = env.step_and_maybe_reset(root.set("action", action))
        alike, other = undisturbed.step_and_maybe_reset(other.set("action", quiet))
        assert finite(step.exclude("action"))
        assert torch.equal(step["next", "state"][0], alike["next", "state"][0])
        ended += int(step["next", "truncated"].sum())
    assert ended - 2 * WORLDS <= env.counters["repaired_worlds"] <= ended
