"""Action recognition: which class (task, behaviour, policy) a clip shows."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.probes.regression import standardise


def logistic_predictions(
    features: Tensor, label: Tensor, classes: int, test_features: Tensor, penalty: float = 1e-2
) -> Tensor:
    """Logits (M, classes) for test features (M, D) by logistic regression on features (N, D), labels int64 (N,)."""
    x, test_x = standardise(features, test_features)
    weight = torch.zeros(x.shape[1], classes, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight + bias, label) + penalty * weight.pow(2).sum() / 2
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        return test_x @ weight + bias


def correct(logits: Tensor, label: Tensor) -> Tensor:
    """1 where the most likely class is the right one, else 0: logits (N, classes), labels (N,) -> float (N,)."""
    return (logits.argmax(-1) == label).float()


def majority(label: Tensor, test_label: Tensor) -> Tensor:
    """Chance level: 1 where `test_label` (M,) is the most common class of `label` (N,), else 0: float (M,)."""
    return (test_label == label.mode().values).float()
