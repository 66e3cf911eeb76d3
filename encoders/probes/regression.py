"""Regression probes from features to the simulator's state, and the effective rank of features."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

_STRETCHES = 50  # runs of consecutive rows, of which every fifth is used for validation
_CHECKS, _CHECKED_ROWS = 10, 2000  # validations while a probe is trained, and rows of each at most


@dataclass(frozen=True)
class ProbeConfig:
    """Probes that predict the simulator's state from frozen features."""

    rows: Annotated[int, Ge(2)] = 12_000
    """Rows that the probes learn from."""
    held_out_rows: Annotated[int, Ge(2)] = 3000
    """Rows of other episodes that they are scored on."""
    ridge: tuple[float, ...] = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    """Penalties of the linear probe; the one with the least error on a fifth of the training rows is used."""
    hidden: Annotated[int, Ge(1)] = 128
    """Width of attentive probes and of the captioner; MLP probes and predictors are twice as wide."""
    steps: Annotated[int, Ge(0)] = 1000
    """Gradient steps of the other probes; the weights with the least error on a fifth of the training rows are kept."""
    batch_size: Annotated[int, Ge(1)] = 256
    """Rows in a batch of these steps."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Learning rate of these steps."""
    resamples: Annotated[int, Ge(1)] = 1000
    """Bootstrap resamples of episodes for a 95% interval."""


def r2(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Coefficient of determination of each column, 1 for exact predictions and 0 for the mean: (N, K), (N, K) -> (K,).

    A row counts `weight` (N,) times. NaN where the target is constant, within the resolution of float32.
    """
    weight = torch.ones_like(target[:, 0]) if weight is None else weight
    mean = weight @ target / weight.sum()
    residual, total = weight @ (predicted - target).pow(2), weight @ (target - mean).pow(2)
    varies = total > 1e-12 * (weight @ target.pow(2) + 1)
    return torch.where(varies, 1 - residual / total.clamp(min=1e-12), torch.nan)


def linear_probe(
    config: ProbeConfig, features: Tensor, target: Tensor, test_features: Tensor, test_target: Tensor
) -> Tensor:
    """Held-out R2 of ridge regression from features (N, D) to targets (N, K): (K,)."""
    return r2(linear_predictions(config, features, target, test_features), test_target)


def linear_predictions(config: ProbeConfig, features: Tensor, target: Tensor, test_features: Tensor) -> Tensor:
    """Predictions (M, K) for test features (M, D) by ridge regression from features (N, D) to targets (N, K)."""
    x, test_x = standardise(features, test_features)
    scale = target.std(0).clamp(min=1e-6)
    y = (target - target.mean(0)) / scale
    training, validation = split_rows(len(x))
    best = config.ridge[0]
    if len(validation) and len(config.ridge) > 1:
        weights = _ridge(x[training], y[training], config.ridge)
        # By squared error: the R2 of a target that hardly varies in the validation rows would outweigh all others.
        errors = [float(F.mse_loss(x[validation] @ weight, y[validation])) for weight in weights]
        best = config.ridge[errors.index(min(errors))]
    (weight,) = _ridge(x, y, (best,))
    return test_x @ weight * scale + target.mean(0)


def _ridge(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Iterator[Tensor]:
    """Weights (D, K) of ridge regression from x (N, D) to y (N, K), for each penalty."""
    wide = x.shape[1] > x.shape[0]  # as with raw pixels; the smaller system has the same solution
    gram, right = (x @ x.T, y) if wide else (x.T @ x, x.T @ y)
    diagonal = gram.diagonal().clone()
    for penalty in penalties:
        gram.diagonal().copy_(diagonal + penalty)
        solution = torch.linalg.solve(gram, right)
        yield x.T @ solution if wide else solution


def mlp_predictions(config: ProbeConfig, features: Tensor, target: Tensor, test_features: Tensor) -> Tensor:
    """Predictions (M, K) for test features (M, D) by an MLP from features (N, D) to targets (N, K).

    Its two hidden layers have LayerNorm, as in the latent model that reads the features. One hidden layer without it
    fits so slowly that all encoders score low and nearly alike.
    """
    x, test_x = standardise(features, test_features)
    mean, scale = target.mean(0), target.std(0).clamp(min=1e-6)
    y = (target - mean) / scale
    wide = 2 * config.hidden
    layers: list[nn.Module] = []
    for width in (x.shape[1], wide):
        layers += [nn.Linear(width, wide), nn.LayerNorm(wide), nn.SiLU()]
    net = nn.Sequential(*layers, nn.Linear(wide, y.shape[1])).to(features.device)
    validation = train_probe(config, net, len(x), lambda rows: F.mse_loss(net(x[rows]), y[rows]))
    with torch.no_grad():
        return shrunk(net(x[validation]), y[validation], net(test_x)) * scale + mean


@torch.enable_grad()
def train_probe(config: ProbeConfig, net: nn.Module, count: int, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Trains a probe for `config.steps` gradient steps, and restores the weights with the least validation loss.

    Args:
        config: steps, batch size, learning rate.
        net: the probe.
        count: number of rows.
        loss: maps indices of rows, below `count`, to a scalar.

    Returns:
        indices of the validation rows, (M,).
    """
    device = next(net.parameters()).device
    training, validation = (rows.to(device) for rows in split_rows(count))
    checked = validation[:: max(1, len(validation) // _CHECKED_ROWS)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    least, best = torch.inf, copy.deepcopy(net.state_dict())
    for step in range(config.steps):
        value = loss(training[torch.randint(len(training), (config.batch_size,), device=device)])
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, config.steps // _CHECKS) == 0:
            with torch.no_grad():
                now = float(loss(checked)) if len(checked) else -step
            if now < least:
                least, best = now, copy.deepcopy(net.state_dict())
    net.load_state_dict(best)
    return validation


def split_rows(count: int) -> tuple[Tensor, Tensor]:
    """Indices of training rows (N,) and validation rows (M,), about a fifth of all.

    Rows come in order of episodes and time, and neighbours in time are nearly equal. So validation takes every fifth of
    fifty stretches of rows, which include every policy.
    """
    stretch = torch.arange(count) * _STRETCHES // max(1, count)
    validation = stretch % 5 == 4
    return (~validation).nonzero().squeeze(1), validation.nonzero().squeeze(1)


def shrunk(guess: Tensor, target: Tensor, test_guess: Tensor) -> Tensor:
    """Predictions of the test rows, (M, K), shrunk towards 0 by the factor that suits the validation rows best.

    Overfitted predictions are shrunk to nearly 0, the mean of the targets, and so score near R2 = 0 instead of below.

    Args:
        guess: predictions of the validation rows, (N, K).
        target: their targets, of mean 0, (N, K). Each has a factor of its own, between 0 and 1.
        test_guess: predictions of the test rows, (M, K).
    """
    if not len(guess):
        return test_guess
    factor = (guess * target).sum(0) / guess.pow(2).sum(0).clamp(min=1e-12)
    return factor.clamp(0, 1) * test_guess


def evenly_spaced(values: Tensor, count: int) -> Tensor:
    """About `count` evenly spaced rows of values (N, ...); neighbouring rows are of one episode and similar."""
    return values[:: max(1, len(values) // count)]


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both, (N, D) and (M, D), with zero mean and unit variance of every feature in the training rows."""
    train, test = train.float(), test.float()
    mean, std = train.mean(0), train.std(0)
    std = torch.where(std > 1e-6, std, torch.ones_like(std))  # constant features stay zero
    return (train - mean) / std, (test - mean) / std


def effective_rank(features: Tensor) -> Tensor:
    """exp of the entropy of the normalised variances along principal axes (Roy & Vetterli 2007).

    Between 1, if all features vary together or not at all, and D, if they vary independently and equally; NaN if any
    is not finite. (N, D) -> ().
    """
    centred = features.float() - features.float().mean(0)
    if not centred.isfinite().all():  # the SVD of torch would raise
        return torch.full((), torch.nan, device=features.device)
    variances = torch.linalg.svdvals(centred).pow(2)
    total = variances.sum()
    if total == 0:
        return torch.ones((), device=features.device)
    p = (variances / total).clamp(min=1e-12)
    return (-(p * p.log()).sum()).exp()
