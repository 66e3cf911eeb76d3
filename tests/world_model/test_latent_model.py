"""The latent model: shapes, the policy's density, where it starts, and its target networks."""

import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from mindreel.world_model import WORLD_MODELS, LatentModel
from mindreel.world_model.latent_model import LatentModelXS

FEATURES, ACTIONS = 10, 3


@pytest.fixture
def model() -> LatentModel:
    return LatentModel(LatentModelXS(num_q=4), FEATURES, ACTIONS).eval()


def test_shapes(model):
    z = model.encode(torch.randn(5, 6, FEATURES))  # (B, T, feature_dim)
    action = torch.rand(5, 6, ACTIONS)
    assert z.shape == (5, 6, 64)
    assert model.next(z, action).shape == (5, 6, 64)
    assert model.reward(z, action).shape == (5, 6)
    assert model.reward_logits(z, action).shape == (5, 6, 101)
    assert model.q(z[:, 0], action[:, 0]).shape == (4, 5)
    assert model.q_logits(z[:, 0], action[:, 0], target=True).shape == (4, 5, 101)
    sample, log_prob, mean = model.pi(z)
    assert sample.shape == mean.shape == (5, 6, ACTIONS) and log_prob.shape == (5, 6)


def test_latents_lie_on_simplices(model):
    z = model.encode(100 * torch.randn(9, FEATURES))
    for latent in (z, model.next(z, torch.rand(9, ACTIONS))):
        torch.testing.assert_close(latent.unflatten(-1, (-1, 8)).sum(-1), torch.ones(9, 8))


def test_rewards_and_values_start_at_zero(model):
    z, action = model.encode(torch.randn(9, FEATURES)), torch.rand(9, ACTIONS)
    assert model.reward(z, action).abs().max() < 1e-5
    assert model.q(z, action).abs().max() < 1e-5
    assert model.q(z, action, target=True).abs().max() < 1e-5


def test_log_prob_is_that_of_a_squashed_normal(model):
    for p in model._policy.parameters():  # far from the nearly constant start
        p.data = 0.5 * torch.randn_like(p)
    z = model.encode(torch.randn(2000, FEATURES))
    action, log_prob, mean = model.pi(z)
    centre, log_std = model._policy(z).chunk(2, -1)
    std = (-10 + 6 * (log_std.tanh() + 1)).exp()  # from -10 to 2
    squashed = TransformedDistribution(Independent(Normal(centre, std), 1), TanhTransform())
    inner = (action.abs() < 0.99).all(-1)  # nearer to the edge float32 cannot invert tanh
    assert inner.sum() > 300
    expected = squashed.log_prob(action)
    torch.testing.assert_close(log_prob[inner], expected[inner], rtol=2e-3, atol=2e-2)
    torch.testing.assert_close(mean, centre.tanh())
    assert log_prob.isfinite().all() and (action.abs() <= 1).all()


def test_the_policy_draws_what_its_density_says(model):
    for p in model._policy.parameters():
        p.data = 0.2 * torch.randn_like(p)
    z = model.encode(torch.randn(1, FEATURES))
    action, _, _ = model.pi(z.expand(20000, -1))
    centre, log_std = model._policy(z)[0].chunk(2, -1)
    std = (-10 + 6 * (log_std.tanh() + 1)).exp()
    raw = action.atanh()
    torch.testing.assert_close(raw.mean(0), centre, rtol=0.02, atol=0.02)
    torch.testing.assert_close(raw.std(0), std, rtol=0.05, atol=1e-3)
    one = model.pi(z, torch.Generator().manual_seed(3))[0]
    assert torch.equal(one, model.pi(z, torch.Generator().manual_seed(3))[0])
    assert not torch.equal(one, model.pi(z, torch.Generator().manual_seed(4))[0])


def test_target_moves_by_its_rate(model):
    name = "hidden.weight"
    source = dict(model._q.named_parameters())[name]
    target = dict(model._target_q.named_parameters())[name]
    source.data.fill_(1.0)
    target.data.fill_(0.0)
    model.update_target(0.25)
    assert torch.equal(target, torch.full_like(target, 0.25))
    model.update_target(0.25)
    torch.testing.assert_close(target, torch.full_like(target, 0.4375))
    assert (source == 1).all()
    model.update_target(1.0)
    for one, two in zip(model._q.parameters(), model._target_q.parameters(), strict=True):
        assert torch.equal(one, two)


def test_targets_take_no_gradient_and_no_dropout(model):
    for p in (*model._q.parameters(), *model._target_q.parameters()):
        p.data = torch.randn_like(p)
    z, action = model.encode(torch.randn(50, FEATURES)), torch.rand(50, ACTIONS)
    still = model.q(z, action, target=True)
    model.train()
    assert torch.equal(model.q(z, action, target=True), still)
    assert not torch.equal(model.q(z, action), model.q(z, action))  # the trained ones do drop out
    assert not any(p.requires_grad for p in model._target_q.parameters())


def test_parameters_belong_to_the_model_or_to_the_policy(model):
    trained = {id(p) for p in model.model_parameters()}
    policy = {id(p) for p in model.policy_parameters()}
    everything = {id(p) for p in model.parameters() if p.requires_grad}
    assert not trained & policy and trained | policy == everything


@pytest.mark.parametrize(("size", "millions"), [("xs", (0.05, 0.3)), ("m", (3, 8)), ("l", (14, 25)), ("xl", (38, 60))])
def test_sizes_are_what_they_are_called(size, millions):
    with torch.device("meta"):
        made = LatentModel(WORLD_MODELS[size](), 512, 6)
    count = sum(p.numel() for p in made.parameters() if p.requires_grad) / 1e6
    assert millions[0] < count < millions[1]
