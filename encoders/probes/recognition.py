"""Action recognition: which class (task, behaviour, policy) a clip shows."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.probes.regression import standardise


def logistic_predictions(
    features: Tensor, label: Tensor, classes: int, test_features: Tensor, penalty: float = 1e-2
) -> Tensor:
    """Logits of multinomial logistic regression, fitted on features (N, D) and labels int64 (N,): (M, classes)."""
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
    """Whether the likeliest class is the right one: logits (N, classes), labels (N,) -> float (N,)."""
    return (logits.argmax(-1) == label).float()


def majority(label: Tensor, test_label: Tensor) -> Tensor:
    """Whether the commonest class of `label` (N,) is right, the level of chance: float (M,)."""
    return (test_label == label.mode().values).float()
