"""Layers against hand-computed numbers and plain re-implementations."""

import math

import pytest
import torch
from torch.nn import functional as F

from mindreel.world_model.layers import EnsembleMLP, SimNorm, TwoHot, mlp, symexp, symlog


def test_simnorm_makes_each_group_a_simplex():
    x = torch.tensor([[0.0, math.log(3.0), 5.0, 5.0]])
    torch.testing.assert_close(SimNorm(2)(x), torch.tensor([[0.25, 0.75, 0.5, 0.5]]))
    y = SimNorm(8)(10 * torch.randn(3, 5, 32))
    assert y.shape == (3, 5, 32) and (y >= 0).all()
    torch.testing.assert_close(y.unflatten(-1, (4, 8)).sum(-1), torch.ones(3, 5, 4))


def test_mlp_normalises_hidden_layers_and_not_a_bare_output():
    net = mlp(3, [16], 4)
    x = torch.randn(10, 3)
    hidden = F.silu(F.layer_norm(net[0](x), (16,)))
    torch.testing.assert_close(net(x), net[3](hidden))
    assert len(mlp(3, [16], 4, SimNorm(2))) == 6  # LayerNorm and SimNorm follow the last linear layer


def test_symlog_and_symexp():
    x = torch.tensor([-math.e + 1, 0.0, math.e - 1, math.expm1(3.0)])
    torch.testing.assert_close(symlog(x), torch.tensor([-1.0, 0.0, 1.0, 3.0]))
    y = torch.cat([-torch.logspace(-4, 4, 50), torch.zeros(1), torch.logspace(-4, 4, 50)])
    torch.testing.assert_close(symexp(symlog(y)), y, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(symlog(symexp(y.clamp(-10, 10))), y.clamp(-10, 10), rtol=1e-4, atol=1e-6)


def test_two_hot_by_hand():
    """Bins at -2, -1, 0, 1, 2 in symlog space: symexp(0.25) lies a quarter of the way from bin 2 to 3."""
    two_hot = TwoHot(bins=5, low=-2.0, high=2.0)
    value = torch.tensor([math.expm1(0.25), -math.expm1(1.5), 0.0, 1e9, -1e9])
    expected = torch.tensor(
        [
            [0, 0, 0.75, 0.25, 0],
            [0.5, 0.5, 0, 0, 0],
            [0, 0, 1, 0, 0],
            [0, 0, 0, 0, 1],
            [1, 0, 0, 0, 0],
        ]
    )
    torch.testing.assert_close(two_hot.encode(value), expected, atol=1e-6, rtol=0)
    logits = torch.tensor([0.0, 0.0, 0.0, math.log(2.0), -math.inf])  # p = 1/5 1/5 1/5 2/5 0
    assert two_hot.decode(logits).item() == pytest.approx(-math.expm1(0.2), abs=1e-6)
    loss = two_hot.loss(torch.zeros(5), value[0])
    assert loss.item() == pytest.approx(math.log(5))
    assert two_hot.loss(torch.tensor([0.0, 0, 2, 1, 0]), value[0]).item() == pytest.approx(
        -(0.75 * 2 + 0.25 * 1) + math.log(3 + math.e**2 + math.e), abs=1e-5
    )


def test_two_hot_round_trip():
    two_hot = TwoHot()
    value = torch.cat([torch.linspace(-1000, 1000, 777), torch.linspace(-2, 2, 401)])
    target = two_hot.encode(value.view(2, -1))
    assert target.shape == (2, 589, 101)
    torch.testing.assert_close(target.sum(-1), torch.ones(2, 589))
    assert ((target > 0).sum(-1) <= 2).all()
    decoded = two_hot.decode(target.log()).flatten()
    torch.testing.assert_close(decoded, value, rtol=1e-4, atol=1e-4)
    assert two_hot.decode(torch.zeros(101)).abs() < 1e-5  # a uniform distribution means zero


def test_ensemble_equals_its_members():
    ensemble = EnsembleMLP(3, 5, 16, 4, dropout=0.5).eval()
    for p in ensemble.parameters():
        p.data = torch.randn_like(p)
    x = torch.randn(7, 5)
    together = ensemble(x)
    assert together.shape == (3, 7, 4)
    for k in range(3):
        h = x
        for i, layer in enumerate((ensemble.input, ensemble.hidden)):
            h = F.linear(h, layer.weight[k].T, layer.bias[k, 0])
            h = F.silu(F.layer_norm(h, (16,), ensemble.scale[i, k, 0], ensemble.shift[i, k, 0]))
        alone = F.linear(h, ensemble.output.weight[k].T, ensemble.output.bias[k, 0])
        torch.testing.assert_close(together[k], alone, rtol=1e-4, atol=1e-4)
    assert not torch.equal(ensemble.train()(x), together)  # dropout acts in training only
