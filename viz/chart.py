"""Line charts as plain HTML and SVG: no library, readable at any width, in light and in dark.

The curves are an SVG that is stretched to its box, with strokes that keep their width. Everything written
is HTML placed by percentages, so text keeps its size on a phone. `style.SCRIPT` adds values on hover.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_MAX_POINTS = 300


@dataclass(frozen=True)
class Series:
    """One curve."""

    name: str
    """What the legend and the hover box call it."""
    x: Sequence[float]
    """Places along the x axis, rising."""
    y: Sequence[float]
    """Values, one for each x, finite."""
    color: int = 1
    """Which of the page's four colours."""
    kind: str = "line"
    """"line", "dots" (values without a line), "marks" (both), "dashes" or "band" (the outline of an area)."""


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    name: str
    """What the legend calls it."""
    value: float
    """Where it lies on the y axis."""


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    levels: Sequence[Level] = (),
    from_zero: bool = False,
    tall: bool = False,
    legend: bool = True,
) -> str:
    """A chart as an HTML figure.

    Args:
        title: heading of the chart.
        series: curves with at least one value among them.
        x_label: what runs along x, with its unit.
        y_label: what the values are, with their unit; written above the axis.
        levels: horizontal lines to compare with.
        from_zero: let the y axis hold 0.
        tall: a larger chart.
        legend: name the curves, when there are several.

    Raises:
        ValueError: when no series holds a value.
    """
    xs = [x for one in series for x in one.x]
    ys = [y for one in series for y in one.y]
    if not xs:
        raise ValueError(f"Expected at least one value to draw in the chart {title!r}, got none.")
    ys += [level.value for level in levels] + ([0.0] if from_zero else [])
    logarithmic = _spans_decades(ys)
    from_start = 0 <= min(xs) < 0.15 * max(xs)  # counts that begin near 0 are drawn from 0
    x_low, x_high = _not_empty(0.0 if from_start else min(xs), max(xs))
    y_ticks, y_low, y_high = _decades(ys) if logarithmic else _rounded_axis(min(ys), max(ys))

    def place_x(x: float) -> float:
        return 1000 * (x - x_low) / (x_high - x_low)

    def place_y(y: float) -> float:
        return 1000 * (1 - ((math.log10(y) if logarithmic else y) - y_low) / (y_high - y_low))

    x_ticks = [x for x in _ticks(x_low, x_high, 5) if x_low <= x <= x_high]
    grid = "".join(f'<path class="grid" d="M0 {place_y(y):.1f}H1000"/>' for y in y_ticks)
    lines = "".join(f'<path class="level" d="M0 {place_y(level.value):.1f}H1000"/>' for level in levels)
    curves = "".join(_curve(one, place_x, place_y) for one in series)
    labels = "".join(
        f'<span class="tick y" style="top:{place_y(y) / 10:.2f}%">{short_number(y)}</span>' for y in y_ticks
    ) + "".join(f'<span class="tick x" style="left:{place_x(x) / 10:.2f}%">{short_number(x)}</span>' for x in x_ticks)
    data = {
        "x": [x_low, x_high],
        "xLabel": x_label,
        "series": [
            {"name": s.name, "color": s.color, **_hover_points(s, place_y)} for s in series if s.x and s.kind != "band"
        ],
    }
    suffix = ", logarithmic" if logarithmic else ""
    spoken = f"{title}: {y_label} against {x_label}, from {short_number(min(ys))} to {short_number(max(ys))}."
    return (
        f'<figure class="chart{" tall" if tall else ""}"><figcaption>{escape(title)}</figcaption>'
        f"{_legend(series, levels) if legend else ''}"
        f'<div class="label">{escape(y_label + suffix)}</div>'
        f'<div class="frame" data-chart="{escape(json.dumps(data, separators=(",", ":")))}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{escape(spoken)}">'
        f"{grid}{lines}{curves}</svg>{labels}</div>"
        f'<div class="label under">{escape(x_label)}</div></figure>'
    )


def short_number(value: float) -> str:
    """A number for an axis or a table: 12k, 0.05, 1.2M."""
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.3g}M"
    if size >= 10_000:
        return f"{value / 1e3:.3g}k"
    if size >= 1000:
        return f"{value:.0f}"
    if size and size < 0.001:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3g}"


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value with the `window` - 1 before it, fewer at the start."""
    means = []
    for index in range(len(values)):
        part = values[max(0, index + 1 - window) : index + 1]
        means.append(sum(part) / len(part))
    return means


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most 300 points: the means of neighbours, so that a long run does not make a heavy page."""
    size = math.ceil(len(x) / _MAX_POINTS)
    if size <= 1:
        return list(x), list(y)
    starts = range(0, len(x), size)
    mean = lambda values: sum(values) / len(values)
    return [mean(x[i : i + size]) for i in starts], [mean(y[i : i + size]) for i in starts]


def _curve(series: Series, place_x, place_y) -> str:
    points = [f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in zip(series.x, series.y, strict=True)]
    dots = "".join(f"M{point}h0" for point in points)  # a line of no length with round ends is a dot
    if len(points) == 1 or series.kind == "dots":
        return f'<path class="dots c{series.color}" d="{dots}"/>'
    path = f'<path class="{series.kind} c{series.color}" d="M{"L".join(points)}"/>' if points else ""
    return path + (f'<path class="points c{series.color}" d="{dots}"/>' if series.kind == "marks" else "")


def _hover_points(series: Series, place_y) -> dict[str, list[float]]:
    return {
        "x": [float(f"{x:.6g}") for x in series.x],
        "y": [float(f"{y:.4g}") for y in series.y],
        "top": [round(place_y(y) / 10, 1) for y in series.y],
    }


def _legend(series: Sequence[Series], levels: Sequence[Level]) -> str:
    if len(series) + len(levels) < 2:
        return ""
    items = [f'<li><i class="key {one.kind} c{one.color}"></i>{escape(one.name)}</li>' for one in series]
    items += [
        f'<li><i class="key level"></i>{escape(level.name)} ({short_number(level.value)})</li>' for level in levels
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _not_empty(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis that holds `low` and `high`, with room around a single value."""
    if high > low:
        return low, high
    margin = abs(low) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that cover low..high."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _rounded_axis(low: float, high: float) -> tuple[list[float], float, float]:
    """Ticks and ends of an axis that begins and ends on round numbers."""
    low, high = _not_empty(low, high)
    ticks = _ticks(low, high, 4)
    return ticks, ticks[0], ticks[-1]


def _spans_decades(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 100


def _decades(values: Sequence[float]) -> tuple[list[float], float, float]:
    """Ticks (as values) and ends (as powers of ten) of a logarithmic axis."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    step = max(1, math.ceil((high - low) / 5))
    return [10.0**power for power in range(low, high + 1, step)], low, high
