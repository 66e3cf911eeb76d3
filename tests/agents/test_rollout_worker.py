"""The one loop of acting: transitions, episodes that end and worlds that go on, and what noise is drawn."""

import pytest
import torch

from mindreel.agents.rollout_worker import RolloutWorker, uniform_policy
from mindreel.encoders import StateConfig, make_encoder
from mindreel.envs import make_env

WORLDS, STEPS = 2, 4


def worlds():
    env = make_env("cartpole-swingup", WORLDS, observations=("state",), seed=3)
    env.episode_steps = STEPS
    return env


def test_an_episode_ends_with_its_own_last_observation_whatever_follows() -> None:
    ended, goes_on = (RolloutWorker(worlds(), make_encoder(StateConfig(), 1, 5), reset_ended=r) for r in (True, False))
    for step in range(STEPS):
        one, other = (worker.step(lambda features, first: torch.full((WORLDS, 1), 0.5)) for worker in (ended, goes_on))
        assert bool(one.done.all()) == bool(other.done.all()) == (step == STEPS - 1)
        assert torch.equal(one.next_observation["state"], other.next_observation["state"])
    assert torch.equal(one.final_features, one.next_observation["state"])
    assert not torch.equal(ended.observation["state"], one.next_observation["state"]) and ended.first.all()
    assert torch.equal(goes_on.observation["state"], one.next_observation["state"]) and not goes_on.first.any()
    assert torch.equal(goes_on.features, one.next_observation["state"])


def test_features_of_what_follows_are_computed_only_where_an_episode_ends() -> None:
    worker = RolloutWorker(worlds(), make_encoder(StateConfig(), 1, 5))
    given = [worker.step(None, 1.0).final_features is not None for _ in range(2 * STEPS)]
    assert given == ([False] * (STEPS - 1) + [True]) * 2


def test_noise_is_correlated_from_one_decision_to_the_next_and_drawn_only_if_wanted() -> None:
    worker = RolloutWorker(worlds(), None)
    torch.manual_seed(0)
    first, second = torch.randn(WORLDS, 1), torch.randn(WORLDS, 1)
    drawn = [0.51**0.5 * first, 0.7 * 0.51**0.5 * first + 0.51**0.5 * second]
    torch.manual_seed(0)
    for expected in drawn:
        torch.testing.assert_close(worker.step(None, 0.5).action, (0.5 * expected).clamp(-1, 1))
    before = torch.get_rng_state()
    worker.step(lambda features, first: torch.zeros(WORLDS, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_actions_fill_the_range() -> None:
    env = worlds()
    actions = torch.stack([uniform_policy(env)(torch.empty(0), torch.empty(0)) for _ in range(500)])
    assert actions.min() == pytest.approx(-1, abs=0.01) and actions.max() == pytest.approx(1, abs=0.01)
