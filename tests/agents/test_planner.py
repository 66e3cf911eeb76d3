"""MPPI on worlds whose best action is known."""

import pytest
import torch
from torch import Tensor

from mindreel.agents.planner import Planner, PlannerConfig


class Line:
    """A point z on a line, moved by a tenth of the action; reward -(z - goal)^2 for where the step began.

    The latent is (z, goal), so every world has a goal of its own. The goal is `10 (goal - z)` actions away.
    """

    action_dim = 1

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def next(self, z: Tensor, action: Tensor) -> Tensor:
        return torch.cat([z[..., :1] + 0.1 * action, z[..., 1:]], -1)

    def reward(self, z: Tensor, action: Tensor) -> Tensor:
        return -self.scale * (z[..., 0] - z[..., 1]) ** 2

    def q(self, z: Tensor, action: Tensor) -> Tensor:
        return self.reward(z, action).expand(2, *z.shape[:-1])

    def pi(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = torch.zeros(*z.shape[:-1], 1)
        return (mean + 0.1 * torch.randn_like(mean)).clamp(-1, 1), torch.zeros(z.shape[:-1]), mean


CONFIG = PlannerConfig(samples=256, policy_samples=16, elites=32, iterations=8, horizon=3, temperature=500.0)
NEW = torch.ones(1, dtype=torch.bool)


def planner(model: Line, config: PlannerConfig = CONFIG, discount: float = 0.99) -> Planner:
    return Planner(config, model, discount)


@pytest.mark.parametrize(("goal", "best"), [(0.04, 0.4), (-0.07, -0.7), (5.0, 1.0), (-5.0, -1.0), (0.0, 0.0)])
def test_the_best_action_is_found(goal, best):
    """Near goals are reached in one step; far ones at full speed, which the bounds of actions allow."""
    action = planner(Line()).plan(torch.tensor([[0.0, goal]]), NEW, explore=False)
    assert action.shape == (1, 1)
    assert action.item() == pytest.approx(best, abs=0.08)


def test_a_plan_beats_the_policys_proposals():
    model = Line()
    z = torch.tensor([[0.0, 0.3]])
    plan = planner(model)
    proposals = plan._policy_proposals(z)
    plan.plan(z, NEW, explore=False)
    planned = plan._value(z, plan.previous_mean.unsqueeze(1))
    best_value = -(0.09 + 0.99 * 0.04 + 0.99**2 * 0.01)  # three full steps: at 0, 0.1, 0.2, then at the goal
    assert proposals.shape == (1, 16, 3, 1)
    assert planned.item() > plan._value(z, proposals).max().item() + 0.05
    assert planned.item() == pytest.approx(best_value, abs=2e-3)


def test_value_is_the_discounted_sum():
    z, actions = torch.tensor([[1.0, 0.0]]), torch.tensor([[[[1.0], [-1.0], [0.5]]]])
    value = planner(Line(), discount=0.9)._value(z, actions)
    by_hand = -(1.0 + 0.9 * 1.1**2 + 0.81 * 1.0**2 + 0.729 * 1.05**2)
    assert value.item() == pytest.approx(by_hand, abs=1e-5)


def test_a_good_policy_is_listened_to():
    """With one random sequence an iteration only the policy can know the way."""

    class Expert(Line):
        def pi(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            action = (10 * (z[..., 1:] - z[..., :1])).clamp(-1, 1)
            return action, torch.zeros(z.shape[:-1]), action

    config = PlannerConfig(samples=5, policy_samples=4, elites=2, iterations=1, temperature=1e6)
    action = planner(Expert(), config).plan(torch.tensor([[0.0, 0.073]]), NEW, explore=False)
    assert action.item() == pytest.approx(0.73, abs=1e-3)


def test_the_plan_is_shifted_and_forgotten_at_a_new_episode():
    plan = planner(Line())
    plan.previous_mean = torch.tensor([[[0.1], [0.2], [0.3]], [[0.4], [0.5], [0.6]]])
    start = plan._warm_start(torch.zeros(2, 2), torch.tensor([False, True]))
    torch.testing.assert_close(start, torch.tensor([[[0.2], [0.3], [0.0]], [[0.0], [0.0], [0.0]]]))
    assert not plan._warm_start(torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool)).any()  # other worlds


def test_a_warm_start_helps_a_planner_that_looks_little():
    """Few narrow samples cannot reach the bound from nothing; over several calls they do."""
    config = PlannerConfig(samples=16, policy_samples=0, elites=4, iterations=1, max_std=0.15, temperature=50.0)
    z, plan = torch.tensor([[0.0, 5.0]]).expand(8, -1), planner(Line(), config)
    first, later = torch.ones(8, dtype=torch.bool), torch.zeros(8, dtype=torch.bool)
    cold = plan.plan(z, first, explore=False).mean()
    for _ in range(20):
        warm = plan.plan(z, later, explore=False).mean()
    again = plan.plan(z, first, explore=False).mean()
    assert cold < 0.45 and again < 0.45
    assert warm > cold + 0.1


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e12])
@pytest.mark.parametrize("explore", [False, True])
def test_the_scale_of_rewards_breaks_nothing(scale, explore):
    plan = planner(Line(scale), PlannerConfig(samples=256, elites=32))
    action = plan.plan(torch.tensor([[0.0, 0.5]]).expand(4, -1), torch.ones(4, dtype=torch.bool), explore)
    assert action.isfinite().all() and (action.abs() <= 1).all()
    assert plan.previous_mean.isfinite().all()
    if scale > 1 and not explore:
        assert (action > 0.5).all()


def test_a_broken_future_is_never_chosen():
    class Cliff(Line):
        """Right of 0.05 the model has no answer; left of it, rewards are far below -1e6."""

        def reward(self, z: Tensor, action: Tensor) -> Tensor:
            reward = -1e9 * (1 - z[..., 0])
            return torch.where(z[..., 0] > 0.05, torch.nan, reward)

    for explore in (False, True):
        plan = planner(Cliff())
        z = torch.tensor([[0.0, 0.0]]).expand(16, -1)
        action = plan.plan(z, torch.ones(16, dtype=torch.bool), explore)
        assert action.isfinite().all()
        assert plan._value(z, plan.previous_mean.unsqueeze(1)).min() > -1e10


def test_nothing_but_broken_futures_still_gives_an_action():
    class Void(Line):
        def reward(self, z: Tensor, action: Tensor) -> Tensor:
            return torch.full(z.shape[:-1], torch.nan)

    action = planner(Void()).plan(torch.zeros(2, 2), torch.ones(2, dtype=torch.bool), explore=True)
    assert action.isfinite().all()


def test_worlds_are_planned_each_for_itself():
    goals = torch.tensor([0.05, -0.05, 3.0, -3.0, 0.0])
    first = torch.ones(5, dtype=torch.bool)
    z = torch.stack([torch.zeros(5), goals], 1)
    torch.manual_seed(1)
    actions = planner(Line()).plan(z, first, explore=False)
    torch.testing.assert_close(actions[:, 0], (10 * goals).clamp(-1, 1), atol=0.1, rtol=0)
    z[1:, 1] = torch.tensor([0.9, 1e6, torch.nan, -0.3])  # what other worlds want, or break with, changes nothing here
    torch.manual_seed(1)
    others = planner(Line()).plan(z, first, explore=False)
    assert torch.equal(others[0], actions[0])
    assert not torch.equal(others[1], actions[1])


def test_exploring_draws_among_the_elites():
    z = torch.tensor([[0.0, 0.04]]).expand(400, -1)
    first = torch.ones(400, dtype=torch.bool)
    config = PlannerConfig(samples=64, policy_samples=0, elites=16, iterations=5, min_std=0.2, temperature=500.0)
    explored = planner(Line(), config).plan(z, first, explore=True)
    exploited = planner(Line(), config).plan(z, first, explore=False)
    assert exploited.std() < 0.15 < 0.2 < explored.std()
    assert explored.mean().item() == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 8}, r"policy_samples \(24\).*samples \(8\)"),
        ({"policy_samples": -1}, r"policy_samples \(-1\)"),
        ({"horizon": 0}, r"horizon \(0\)"),
        ({"iterations": 0}, r"iterations \(0\)"),
        ({"elites": 0}, r"elites \(0\)"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**wrong)
