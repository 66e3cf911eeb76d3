"""Value targets, losses and gradients by hand, and toy problems that both agents must solve."""

import copy
import math

import pytest
import torch

from mindreel.agents import ActorCriticAgent, ActorCriticConfig, MPCAgent, MPCConfig, make_agent
from mindreel.agents.actor_critic import lambda_returns
from mindreel.agents.planner import PlannerConfig
from mindreel.world_model import LatentModel, LatentModelConfig

TINY = LatentModelConfig(latent_dim=32, hidden_dim=32, encoder_hidden_dim=32, num_q=2, bins=41, dropout=0.0)
PLANNER = PlannerConfig(samples=64, policy_samples=8, elites=8, iterations=4)


def agent(kind: str = "mpc", features: int = 4, discount: float = 0.9, **config):
    model = LatentModel(TINY, features, 1)
    if kind == "mpc":
        return MPCAgent(MPCConfig(planner=PLANNER, **config), model, discount)
    return ActorCriticAgent(ActorCriticConfig(imagination_starts=64, **config), model, discount)


def batch(size: int, length: int, features: int = 4) -> tuple[torch.Tensor, ...]:
    return (
        torch.randn(size, length + 1, features),
        2 * torch.rand(size, length, 1) - 1,
        torch.randn(size, length),
        torch.zeros(size, length, dtype=torch.bool),
    )


# ---- returns ----


def test_lambda_returns_by_hand():
    """discount 0.5, lambda 0.5: R2 = 3 + 0.5 * 8 = 7; R1 = 2 + 0.5 (0.5 * 4 + 0.5 * 7) = 4.75; ..."""
    reward, next_value = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 8.0])
    returns = lambda_returns(reward, next_value, 0.5, 0.5)
    torch.testing.assert_close(returns, torch.tensor([1 + 0.5 * (0.5 * 2 + 0.5 * 4.75), 4.75, 7.0]))


def test_lambda_returns_mix_n_step_returns():
    horizon, discount, lambda_ = 6, 0.97, 0.8
    reward, next_value = torch.randn(horizon, 5), torch.randn(horizon, 5)

    def n_step(t: int, n: int) -> torch.Tensor:
        rewards = sum(discount**k * reward[t + k] for k in range(n))
        return rewards + discount**n * next_value[t + n - 1]

    returns = lambda_returns(reward, next_value, discount, lambda_)
    for t in range(horizon):
        longest = horizon - t
        expected = sum((1 - lambda_) * lambda_ ** (n - 1) * n_step(t, n) for n in range(1, longest))
        expected = expected + lambda_ ** (longest - 1) * n_step(t, longest)
        torch.testing.assert_close(returns[t], expected, rtol=1e-4, atol=1e-5)


# ---- value targets ----


@pytest.mark.parametrize("n_step", [1, 3])
def test_td_target_is_the_plain_loop(n_step):
    learner = agent(horizon=4, n_step=n_step, discount=0.9)
    for p in learner.model._target_q.parameters():
        p.data = torch.randn_like(p)
    learner.model.eval()
    length = 4 + n_step - 1
    z = learner.model.encode(torch.randn(6, length + 1, 4))
    reward = torch.randn(6, length)
    ended = torch.rand(6, length) < 0.2
    after = z[:, n_step:]  # (B, T, D), n steps on
    torch.manual_seed(7)
    target = learner._td_target(after, reward, 1 - ended.float()).detach()
    torch.manual_seed(7)
    action, _, _ = learner.model.pi(after.flatten(0, 1))
    value = learner.model.q(after.flatten(0, 1), action, target=True).amin(0).view(6, 4).detach()
    assert ended.any() and value.abs().max() > 0.01
    for b in range(6):
        for t in range(4):
            expected, weight = 0.0, 1.0
            for k in range(n_step):
                expected += weight * float(reward[b, t + k])
                weight *= 0.9
                if ended[b, t + k]:
                    weight = 0.0
            expected += weight * float(value[b, t])
            assert float(target[b, t]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_smaller_of_two_members_is_taken():
    learner = agent()
    values = torch.tensor([[1.0, 5.0], [2.0, 3.0]])
    assert learner._min_of_two(values).tolist() == [1.0, 3.0]
    many = torch.arange(5.0).unsqueeze(1)
    drawn = {float(learner._min_of_two(many)) for _ in range(200)}
    assert drawn == {0.0, 1.0, 2.0, 3.0}  # the greatest of five is never the smaller of two


def test_bootstrapping_stops_at_a_termination_and_not_at_a_truncation():
    """Reward 1 a step: an episode that terminates after one is worth 1; one that time cuts off, 5."""
    learner = agent("actor_critic", features=2, discount=0.8, horizon=1, lr=3e-3, target_rate=0.05)
    ended = torch.tensor([True, False]).repeat(32)
    features = torch.stack([ended.float(), 1 - ended.float()], 1)[:, None].expand(-1, 2, -1)
    for _ in range(300):
        action = 2 * torch.rand(64, 1, 1) - 1
        learner.update(features, action, torch.ones(64, 1), ended[:, None])
    z = learner.model.encode(features[:2, 0])
    value = learner.model.q(z, torch.zeros(2, 1)).mean(0)
    assert value[0].item() == pytest.approx(1.0, abs=0.25)
    assert value[1].item() == pytest.approx(5.0, abs=1.0)


# ---- losses ----


def test_what_follows_a_termination_carries_no_weight():
    """Two sequences, one of which terminates at its first step: what comes after it moves no parameter."""
    features, action, reward, terminated = batch(2, 3)
    terminated[0, 0] = True
    changed_features, changed_action, changed_reward = features.clone(), action.clone(), reward.clone()
    changed_features[0, 2:] = 50.0
    changed_action[0, 1:] = -changed_action[0, 1:]
    changed_reward[0, 1:] = 1000.0
    changed_features[0, 1] = -50.0
    results = []
    for f, a, r in ((features, action, reward), (changed_features, changed_action, changed_reward)):
        torch.manual_seed(3)
        learner = agent(consistency_coef=0.0, horizon=3)
        zs, metrics = learner._model_step(f, a, r, 1 - terminated.float(), None)
        results.append((metrics, [p.detach().clone() for p in learner.model.model_parameters()]))
    for name in ("reward_loss", "value_loss"):
        assert results[0][0][name].item() == pytest.approx(results[1][0][name].item(), abs=1e-6), name
    for one, two in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, two)


def test_losses_of_the_first_update_by_hand():
    """Zero heads are uniform: both cross-entropies are log(bins), weighted 1, rho, rho^2 over the horizon."""
    learner = agent(horizon=3, rho=0.5)
    metrics = learner.update(*batch(16, 3))
    expected = math.log(41) * (1 + 0.5 + 0.25) / 3
    assert metrics["reward_loss"].item() == pytest.approx(expected, rel=1e-4)
    assert metrics["value_loss"].item() == pytest.approx(expected, rel=1e-4)


def test_consistency_loss_by_hand():
    learner = agent(horizon=2, rho=0.5)
    features, action, reward, terminated = batch(8, 2)
    with torch.no_grad():
        z = [learner.model.encode(features[:, t]) for t in range(3)]
        one = learner.model.next(z[0], action[:, 0])
        two = learner.model.next(one, action[:, 1])
        expected = ((one - z[1]).pow(2).mean() + 0.5 * (two - z[2]).pow(2).mean()) / 2
    _, metrics = learner._model_step(features, action, reward, 1 - terminated.float(), None)
    torch.testing.assert_close(metrics["consistency_loss"], expected)


# ---- who is trained by what ----


@pytest.mark.parametrize("kind", ["mpc", "actor_critic"])
def test_model_and_policy_are_trained_apart(kind):
    learner = agent(kind)
    data = batch(16, 3)
    for _ in range(3):
        learner.update(*data)  # the heads leave zero, so that gradients flow
    model = learner.model
    everything = dict(model.named_parameters())
    before = {name: p.detach().clone() for name, p in everything.items()}
    zs, _ = learner._model_step(data[0], data[1], data[2], 1 - data[3].float(), None)
    changed = {name for name, p in everything.items() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in changed} == {"_encoder", "_dynamics", "_reward", "_q"}
    before = {name: p.detach().clone() for name, p in everything.items()}
    for p in model.parameters():
        p.grad = None
    learner._policy_step(zs, 1 - data[3].float())
    changed = {name for name, p in everything.items() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in changed} == {"_policy"}
    assert not any(p.grad is not None for name, p in everything.items() if "_policy" not in name)
    assert all(p.requires_grad for p in model.model_parameters())  # thawed again


def test_the_gradient_reaches_a_cotrained_encoder():
    outer = torch.nn.Linear(6, 4)
    learner = MPCAgent(MPCConfig(planner=PLANNER), LatentModel(TINY, 4, 1), 0.9, list(outer.parameters()))
    observations, action, reward, terminated = batch(16, 3, 6)
    before = outer.weight.detach().clone()
    learner.update(outer(observations), action, reward, terminated, extra_loss=outer.weight.pow(2).sum())
    assert not torch.equal(outer.weight, before)


@pytest.mark.parametrize(("trained", "rate"), [(False, 2e-4), (True, 5e-5)])
def test_the_first_layers_learn_slower_where_the_encoder_learns(trained, rate):
    outer = torch.nn.Linear(6, 4)
    config = MPCConfig(planner=PLANNER, lr=1e-3, encoder_lr_scale=0.2, trained_encoder_lr_scale=0.05)
    learner = MPCAgent(config, LatentModel(TINY, 4, 1), 0.9, list(outer.parameters()) if trained else None)
    rates = {id(p): group["lr"] for group in learner.model_optimizer.param_groups for p in group["params"]}
    first = [*learner.model._encoder.parameters(), *(outer.parameters() if trained else ())]
    assert [rates.pop(id(p)) for p in first] == pytest.approx([rate] * len(first))
    assert set(rates.values()) == {1e-3} and len(rates) + len(first) == len(learner._model_parameters)


@pytest.mark.parametrize("kind", ["mpc", "actor_critic"])
def test_a_restored_agent_goes_on_alike(kind):
    one, two = agent(kind), agent(kind)
    data = [batch(16, 3) for _ in range(6)]
    for d in data[:3]:
        one.update(*d)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for learner in (one, two):
        torch.manual_seed(5)
        for d in data[3:]:
            metrics = learner.update(*d)
    for (name, p), q in zip(one.model.named_parameters(), two.model.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert metrics["policy_loss"].isfinite()


# ---- learning ----


@pytest.mark.parametrize("kind", ["mpc", "actor_critic"])
def test_both_agents_solve_a_one_step_problem(kind):
    """Reward 1 - |action - goal|, the goal shown: worth 0.99 to who knows, 0.4 to a random action."""
    learner = agent(kind, features=1, discount=0.0, lr=3e-3, encoder_lr_scale=1.0, entropy_coef=1e-3, horizon=2)
    for _ in range(250):
        goal = 1.2 * torch.rand(64, 3, 1) - 0.6
        action = 2 * torch.rand(64, 2, 1) - 1
        reward = 1 - (action - goal[:, :2]).abs().squeeze(-1)
        learner.update(goal, action, reward, torch.zeros(64, 2))
    goal = torch.linspace(-0.6, 0.6, 25)[:, None]
    action = learner.act(goal, torch.ones(25, dtype=torch.bool), explore=False)
    reward = 1 - (action - goal).abs()
    random_reward = 1 - (2 * torch.rand(1000, 25, 1) - 1 - goal).abs()
    assert random_reward.mean() < 0.5
    assert reward.mean() > 0.8


@pytest.mark.parametrize("kind", ["mpc", "actor_critic"])
def test_both_agents_walk_to_where_the_reward_is(kind):
    """A point on [-1, 1], moved by 0.3 a step; reward for nearness to 0.5, reached only by several steps."""
    learner = agent(kind, features=1, discount=0.9, lr=3e-3, encoder_lr_scale=1.0, horizon=3)

    def move(x: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = (x + 0.3 * action).clamp(-1, 1)
        return x, (1 - (x - 0.5).abs()).squeeze(-1)

    for _ in range(250):
        x, action, rewards = [2 * torch.rand(64, 1) - 1], 2 * torch.rand(64, 3, 1) - 1, []
        for t in range(3):
            after, reward = move(x[-1], action[:, t])
            x.append(after)
            rewards.append(reward)
        learner.update(torch.stack(x, 1), action, torch.stack(rewards, 1), torch.zeros(64, 3))
    x, total = torch.linspace(-1, 1, 32)[:, None], torch.zeros(32)
    for t in range(12):
        x, reward = move(x, learner.act(x, torch.full((32,), t == 0), explore=False))
        total += reward
    assert (x - 0.5).abs().max() < 0.25  # all have come, from everywhere
    assert total.mean() > 9.5  # of 12; standing still earns 5.3


# ---- acting ----


def test_acting_explores_only_when_asked():
    features, first = torch.randn(6, 4), torch.ones(6, dtype=torch.bool)
    learner = agent("actor_critic")
    learner.model.eval()
    still = learner.act(features, first, explore=False)
    assert still.shape == (6, 1)
    assert torch.equal(still, learner.act(features, first, explore=False))
    assert not torch.equal(learner.act(features, first, explore=True), learner.act(features, first, explore=True))


def test_mpc_collects_with_the_policy_alone_if_configured_so():
    learner = agent("mpc", plan_in_training=False)
    features, first = torch.randn(6, 4), torch.ones(6, dtype=torch.bool)
    assert learner.act(features, first, explore=True).shape == (6, 1)
    assert learner.planner.previous_mean is None  # nothing was planned
    learner.act(features, first, explore=False)
    assert learner.planner.previous_mean is not None


@pytest.mark.parametrize("name", ["mpc", "actor_critic"])
def test_an_evaluation_leaves_the_plans_of_training_alone(name):
    learner = agent(name)
    features, first = torch.randn(6, 4), torch.zeros(6, dtype=torch.bool)
    learner.act(features, first, explore=True)
    state = learner.state_dict()
    with learner.in_other_worlds():
        if name == "mpc":
            assert learner.planner.previous_mean is None
        learner.act(features, first, explore=False)
    assert learner.state_dict().get("previous_mean") is state.get("previous_mean")


def test_agents_are_made_from_their_configs():
    model = LatentModel(TINY, 4, 1)
    assert isinstance(make_agent(MPCConfig(), model, 0.9), MPCAgent)
    assert isinstance(make_agent(ActorCriticConfig(), model, 0.9), ActorCriticAgent)
    with pytest.raises(ValueError, match="PlannerConfig"):
        make_agent(PLANNER, model, 0.9)
