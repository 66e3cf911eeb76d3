"""The batched tolerance against dm_control's."""

import numpy as np
import pytest
import torch
from dm_control.utils import rewards

from mindreel.envs.tasks.tolerance import SIGMOIDS, tolerance

X = np.linspace(-4, 4, 401)


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
@pytest.mark.parametrize("bounds", [(0.0, 0.0), (-1.0, 0.5), (1.2, float("inf"))])
def test_equals_dm_control(sigmoid, bounds):
    values = [0.1, 0.5] + ([0.0] if sigmoid in ("cosine", "linear", "quadratic") else [])
    for value in values:
        for margin in (0.0, 0.7, 2.0):
            expected = rewards.tolerance(X, bounds, margin, sigmoid, value)
            found = tolerance(torch.as_tensor(X), bounds, margin, sigmoid, value)
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bounds": (1.0, 0.0)},
        {"margin": -1.0},
        {"margin": 1.0, "sigmoid": "sigmoid"},
        {"margin": 1.0, "sigmoid": "gaussian", "value_at_margin": 0.0},
        {"margin": 1.0, "sigmoid": "linear", "value_at_margin": 1.0},
    ],
)
def test_refuses_what_dm_control_refuses(wrong):
    with pytest.raises(ValueError):
        rewards.tolerance(2.0, **wrong)
    with pytest.raises(ValueError):
        tolerance(torch.tensor([2.0]), **wrong)
