"""What features know: probes to the simulator's state, effective rank, spread."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRETCHES = 50
_CHECKS, _CHECKED_ROWS = 10, 2000  # times that a probe in training is looked at, and on how many rows at most


@dataclass(frozen=True)
class ProbeConfig:
    """Probes that read the simulator's state from frozen features."""

    rows: int = 12_000
    """Rows of replay that the probes learn from."""
    held_out_rows: int = 3000
    """Rows of fresh episodes that they are scored on."""
    ridge: tuple[float, ...] = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    """Penalties of the linear probe; a fifth of the training rows chooses among them."""
    hidden: int = 128
    """Width of attentive probes and captioner; MLP probes and predictors, which are cheaper, are twice as wide."""
    steps: int = 1000
    """Gradient steps of the probes that are trained so; what is best on a fifth of the training rows is kept."""
    batch_size: int = 256
    """Rows in a batch of them."""
    lr: float = 1e-3
    """Their learning rate."""
    resamples: int = 1000
    """Times that episodes are drawn anew for a 95% interval."""


def r2(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Coefficient of determination of each column: (N, K), (N, K) -> (K,). 1 is exact, 0 is the mean.

    With `weight` (N,), a row counts that many times. NaN where the target does not vary, to float32's resolution.
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
    """What ridge regression, fitted on features (N, D) and targets (N, K), says of test features (M, D): (M, K)."""
    x, test_x = standardise(features, test_features)
    scale = target.std(0).clamp(min=1e-6)
    y = (target - target.mean(0)) / scale
    learned, kept = validation_split(len(x))
    best = config.ridge[0]
    if len(kept) and len(config.ridge) > 1:
        weights = _ridge(x[learned], y[learned], config.ridge)
        # Not by R2: a target that hardly varies in the rows held back would decide alone.
        errors = [float(F.mse_loss(x[kept] @ weight, y[kept])) for weight in weights]
        best = config.ridge[errors.index(min(errors))]
    (weight,) = _ridge(x, y, (best,))
    return test_x @ weight * scale + target.mean(0)


def _ridge(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Iterator[Tensor]:
    """Weights (D, K) of ridge regression from x (N, D) to y (N, K), for each penalty."""
    wide = x.shape[1] > x.shape[0]  # as with raw pixels: the smaller system gives the same answer
    gram, right = (x @ x.T, y) if wide else (x.T @ x, x.T @ y)
    diagonal = gram.diagonal().clone()
    for penalty in penalties:
        gram.diagonal().copy_(diagonal + penalty)
        solution = torch.linalg.solve(gram, right)
        yield x.T @ solution if wide else solution


def mlp_predictions(config: ProbeConfig, features: Tensor, target: Tensor, test_features: Tensor) -> Tensor:
    """What an MLP, fitted on features (N, D) and targets (N, K), says of test features (M, D): (M, K).

    Its two hidden layers are normed, as those of the latent model are, which is the reader that features are meant
    for. One hidden layer without norm fits so slowly that it told encoders apart little and undersold all of them.
    """
    x, test_x = standardise(features, test_features)
    mean, scale = target.mean(0), target.std(0).clamp(min=1e-6)
    y = (target - mean) / scale
    wide = 2 * config.hidden
    layers: list[nn.Module] = []
    for width in (x.shape[1], wide):
        layers += [nn.Linear(width, wide), nn.LayerNorm(wide), nn.SiLU()]
    net = nn.Sequential(*layers, nn.Linear(wide, y.shape[1])).to(features.device)
    kept = descend(config, net, len(x), lambda rows: F.mse_loss(net(x[rows]), y[rows]))
    with torch.no_grad():
        return shrunk(net(x[kept]), y[kept], net(test_x)) * scale + mean


@torch.enable_grad()
def descend(config: ProbeConfig, net: nn.Module, count: int, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Trains a probe for `config.steps` gradient steps, and leaves it as it was best on rows that it did not see.

    Args:
        config: steps, batch size, learning rate.
        net: the probe, or what of it is trained.
        count: rows.
        loss: maps indices of rows, below `count`, to a scalar.

    Returns:
        indices of the rows held back, (M,).
    """
    device = next(net.parameters()).device
    learned, kept = (rows.to(device) for rows in validation_split(count))
    looked_at = kept[:: max(1, len(kept) // _CHECKED_ROWS)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    least, best = torch.inf, copy.deepcopy(net.state_dict())
    for step in range(config.steps):
        value = loss(learned[torch.randint(len(learned), (config.batch_size,), device=device)])
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, config.steps // _CHECKS) == 0:
            with torch.no_grad():
                now = float(loss(looked_at)) if len(looked_at) else -step
            if now < least:
                least, best = now, copy.deepcopy(net.state_dict())
    net.load_state_dict(best)
    return kept


def validation_split(count: int) -> tuple[Tensor, Tensor]:
    """Rows that a probe learns from, and the fifth of them that chooses among probes: indices (N,) and (M,).

    Rows come in order of episodes and time, and neighbours in time are nearly copies of each other: so every fifth of
    fifty stretches is held back, some of every policy's.
    """
    place = torch.arange(count) * _STRETCHES // max(1, count)
    kept = place % 5 == 4
    return (~kept).nonzero().squeeze(1), kept.nonzero().squeeze(1)


def shrunk(guess: Tensor, target: Tensor, test_guess: Tensor) -> Tensor:
    """Test guesses (M, K) times the share, 0 to 1 for each target, that fits guesses (N, K) to targets (N, K) best.

    Targets have mean 0. What a probe has learned by heart alone gets a share near 0, which is the mean, not worse.
    """
    if not len(guess):
        return test_guess
    share = (guess * target).sum(0) / guess.pow(2).sum(0).clamp(min=1e-12)
    return share.clamp(0, 1) * test_guess


def evenly_spaced(values: Tensor, count: int) -> Tensor:
    """About `count` rows of values (N, ...), equally far apart: neighbours are of one episode, and alike."""
    return values[:: max(1, len(values) // count)]


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the training rows' mean taken off and, feature by feature, their spread divided out."""
    train, test = train.float(), test.float()
    mean, std = train.mean(0), train.std(0)
    std = torch.where(std > 1e-6, std, torch.ones_like(std))  # a feature that never varies stays zero
    return (train - mean) / std, (test - mean) / std


def effective_rank(features: Tensor) -> Tensor:
    """exp of the entropy of the normalised variances along principal axes (Roy & Vetterli 2007): scalar.

    1 means that all features move together, or not at all; D that they are independent; NaN that some are
    not finite. (N, D) -> ().
    """
    centred = features.float() - features.float().mean(0)
    if not centred.isfinite().all():  # torch's SVD raises on these
        return torch.full((), torch.nan, device=features.device)
    variances = torch.linalg.svdvals(centred).pow(2)
    total = variances.sum()
    if total == 0:
        return torch.ones((), device=features.device)
    p = (variances / total).clamp(min=1e-12)
    return (-(p * p.log()).sum()).exp()
