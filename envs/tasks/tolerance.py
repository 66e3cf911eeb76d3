"""dm_control's soft indicator of "x lies within bounds", for batches of worlds in torch."""

import math

import torch

_ZERO_AT_MARGIN = ("cosine", "linear", "quadratic")  # these may fall to exactly 0 at the margin


def tolerance(
    x: torch.Tensor,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> torch.Tensor:
    """1 where x lies within bounds, falling to `value_at_margin` at a distance of `margin` from them.

    The same function as `dm_control.utils.rewards.tolerance`.

    Args:
        x: any shape; the result has the same.
        bounds: inclusive (lower, upper); either may be infinite.
        margin: distance, in the units of x, over which the value falls; 0 for a hard edge.
        sigmoid: shape of the fall, one of `SIGMOIDS`.
        value_at_margin: value at that distance, between 0 and 1.

    Raises:
        ValueError: for reversed bounds, a negative margin, or a sigmoid or value outside its range.
    """
    lower, upper = bounds
    if lower > upper:
        raise ValueError(f"bounds must be (lower, upper) with lower <= upper, got {bounds}.")
    if margin < 0:
        raise ValueError(f"margin must not be negative, got {margin}.")
    inside = (lower <= x) & (x <= upper)
    if margin == 0:
        return inside.to(x.dtype)
    if sigmoid not in SIGMOIDS:
        raise ValueError(f"Unknown sigmoid {sigmoid!r}; expected one of {', '.join(SIGMOIDS)}.")
    least_is_zero = sigmoid in _ZERO_AT_MARGIN
    if not (0 <= value_at_margin < 1 if least_is_zero else 0 < value_at_margin < 1):
        raise ValueError(
            f"value_at_margin of {sigmoid!r} must lie in {'[' if least_is_zero else '('}0, 1), got {value_at_margin}."
        )
    distance = torch.where(x < lower, lower - x, x - upper) / margin
    return torch.where(inside, 1.0, SIGMOIDS[sigmoid](distance, value_at_margin))


def _gaussian(d: torch.Tensor, value: float) -> torch.Tensor:
    return torch.exp(math.log(value) * d**2)


def _hyperbolic(d: torch.Tensor, value: float) -> torch.Tensor:
    return 1 / torch.cosh(d * math.acosh(1 / value))


def _long_tail(d: torch.Tensor, value: float) -> torch.Tensor:
    return 1 / (d**2 * (1 / value - 1) + 1)


def _reciprocal(d: torch.Tensor, value: float) -> torch.Tensor:
    return 1 / (d.abs() * (1 / value - 1) + 1)


def _cosine(d: torch.Tensor, value: float) -> torch.Tensor:
    angle = d * math.acos(2 * value - 1)
    return torch.where(angle.abs() < math.pi, (1 + torch.cos(angle)) / 2, 0.0)


def _linear(d: torch.Tensor, value: float) -> torch.Tensor:
    fall = d * (1 - value)
    return torch.where(fall.abs() < 1, 1 - fall, 0.0)


def _quadratic(d: torch.Tensor, value: float) -> torch.Tensor:
    fall = d**2 * (1 - value)
    return torch.where(fall < 1, 1 - fall, 0.0)


def _tanh_squared(d: torch.Tensor, value: float) -> torch.Tensor:
    return 1 - torch.tanh(d * math.atanh(math.sqrt(1 - value))) ** 2


SIGMOIDS = {
    "gaussian": _gaussian,
    "hyperbolic": _hyperbolic,
    "long_tail": _long_tail,
    "reciprocal": _reciprocal,
    "cosine": _cosine,
    "linear": _linear,
    "quadratic": _quadratic,
    "tanh_squared": _tanh_squared,
}
