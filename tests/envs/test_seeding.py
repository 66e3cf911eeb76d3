"""A seed gives one rollout, and no world knows how many others there are."""

import numpy as np
import pytest
import torch
from scipy import stats

from mindreel.envs import WarpEnv, make_env
from mindreel.envs.generator import WorldGenerator

STEPS, EPISODE = 50, 30


def rollout(env: WarpEnv, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """What world 0 sees, on actions that are the same whatever the number of worlds."""
    env.episode_steps = EPISODE
    generator = torch.Generator().manual_seed(0)
    root, seen = env.reset(), []
    for _ in range(steps):
        action = 2 * torch.rand(1, env.action_dim, generator=generator) - 1
        seen.append(root)
        _, root = env.step_and_maybe_reset(root.set("action", action.expand(env.num_envs, -1).clone()))
    return {name: torch.stack([one[name][0] for one in seen]) for name in env.observations}


# Their resets draw once, twice, again where the ball touches the cup, and until nothing touches at all; the last one's
# solver is that of models with many joints.
@pytest.mark.parametrize("task", ["cartpole-swingup", "reacher-easy", "ball_in_cup-catch", "finger-spin", "dog-stand"])
def test_the_number_of_worlds_does_not_change_the_first(task):
    alone, among = (make_env(task, num, seed=5, observations=("state",)) for num in (1, 8))
    one, eight = rollout(alone)["state"], rollout(among)["state"]
    assert torch.equal(one, eight)
    assert (one[0] != one[EPISODE]).any()  # the second episode starts elsewhere


def test_neither_do_worlds_that_end_at_other_times():
    env, undisturbed = (make_env("cartpole-swingup", 3, seed=5, observations=("state",)) for _ in range(2))
    action = torch.full((3, 1), 0.2)
    root, other = env.reset(), undisturbed.reset()
    starts: list[tuple[torch.Tensor, torch.Tensor]] = []
    env.episode_steps = undisturbed.episode_steps = EPISODE
    for step in range(EPISODE + 5):
        if step in (3, 10, EPISODE - 1):
            env.sim.qvel[2] = float("nan")  # breaks, and starts afresh
        _, root = env.step_and_maybe_reset(root.set("action", action))
        _, other = undisturbed.step_and_maybe_reset(other.set("action", action))
        starts.append((root["state"], other["state"]))
    one, two = (torch.stack(x) for x in zip(*starts, strict=True))
    assert env.counters["repaired_worlds"] == 3
    assert torch.equal(one[:, :2], two[:, :2])
    assert (one[5, 2] != two[5, 2]).any()


def test_the_picture_of_the_first_world_does_not_change_either():
    alone, among = (make_env("walker-walk", num, seed=2, observations=("pixels",)) for num in (1, 4))
    assert torch.equal(rollout(alone, 8)["pixels"], rollout(among, 8)["pixels"])


def test_resets_one_after_another_differ_and_come_again_with_the_seed():
    env = make_env("pendulum-swingup", 4, seed=1, observations=("state",))
    first, second = env.reset()["state"], env.reset()["state"]
    assert (first != second).any(-1).all()
    assert len(first.unique(dim=0)) == 4
    env.set_seed(1)
    assert torch.equal(env.reset()["state"], first)
    assert torch.equal(env.reset()["state"], second)
    env.set_seed(2)
    assert (env.reset()["state"] != first).any(-1).all()


def test_draws_are_distributed_as_they_should():
    generator = WorldGenerator(0, 500)
    over_time = []
    for _ in range(40):
        generator.advance()
        over_time.append(generator.uniform())
    samples = {
        "draws": generator.uniform(40),
        "decisions": torch.stack(over_time, 1),
        "seeds": torch.cat([WorldGenerator(seed, 40).uniform(1) for seed in range(500)], 1).T,
    }
    for name, x in samples.items():
        assert x.shape == (500, 40)
        assert stats.kstest(x.flatten().numpy(), "uniform").pvalue > 1e-3, name
        related = np.corrcoef(x.numpy(), rowvar=False) - np.eye(40)
        assert abs(related).max() < 5 / np.sqrt(500), name
    assert stats.kstest(generator.normal(10, 4).flatten().numpy(), "norm").pvalue > 1e-3
    counts = torch.bincount(generator.integers(5, 40).flatten(), minlength=5)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_branches_draw_other_numbers_and_shift_nobody():
    one, two = WorldGenerator(3, 4), WorldGenerator(3, 4)
    branches = [one.branch(i).uniform(2) for i in range(3)]
    assert torch.equal(one.uniform(2), two.uniform(2))
    drawn = torch.stack([*branches, WorldGenerator(3, 4).uniform(2)])
    assert len(drawn.unique()) == drawn.numel()


def test_a_generator_continues_where_it_was_saved():
    one, two = WorldGenerator(-7, 3), WorldGenerator(0, 3)
    one.advance()
    one.start()
    two.load_state(one.state())
    assert torch.equal(one.normal(5), two.normal(5))
    with pytest.raises(ValueError, match="3 int64"):
        two.load_state(torch.Generator().get_state())
