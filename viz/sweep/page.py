"""One page that compares the runs of a sweep: `write_sweep_page(folder)`.

Returns, learning curves, probes and costs, of as many runs as there are so far. The page needs no network.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from mindreel.files import write_text
from mindreel.viz.chart import Series, line_chart, running_mean, short_number
from mindreel.viz.style import SERIES_COLORS, SERIES_CSS, page
from mindreel.viz.summary_html import missing, run_details
from mindreel.viz.sweep.html_tables import (
    common_details,
    compute_table,
    equal_compute,
    probe_tables,
    run_table,
    score_text,
)
from mindreel.viz.sweep.results import RunResult, by_arm, by_task, pooled, read_results

_CSS = (
    SERIES_CSS
    + """
.frame .band { fill: currentColor; stroke: none; opacity: .14; }
.frame .dashes { stroke-dasharray: 5 5; opacity: .75; }
h3 + .scores { margin-top: 14px; }
.legend + .chart, .chart + .chart { margin-top: 18px; }
td a { color: inherit; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
"""
)
_SMOOTHED = 10  # lines of metrics.jsonl
_PLACES = 120


def write_sweep_page(folder: Path | str) -> Path:
    """Reads the runs in `folder` and writes `ablation.html` there.

    Of each run it reads config.yaml, metrics.jsonl, summary.json and, where it failed, failure.txt; a run that
    has only some of them counts with what it has.

    Returns:
        The path of the page.

    Raises:
        ValueError: when `folder` is not a folder or holds no run.
    """
    path = Path(folder) / "ablation.html"
    page = render_sweep_page(Path(folder).resolve().name, read_results(folder))
    write_text(path, page)
    return path


def render_sweep_page(name: str, runs: Sequence[RunResult]) -> str:
    """The page as HTML."""
    colors = {arm: SERIES_COLORS[index % len(SERIES_COLORS)] for index, arm in enumerate(by_arm(runs))}
    body = "".join(
        (
            _header(name, runs),
            _return_section(runs, colors),
            _curve_section(runs, colors),
            _probe_section(runs),
            _compute_section(runs),
            _section("Runs", "", run_table(runs)),
        )
    )
    return page(name, body, _CSS)


def _header(name: str, runs: Sequence[RunResult]) -> str:
    counts = {status: sum(run.status == status for run in runs) for status in ("unfinished", "failed", "not started")}
    parts = [f"{sum(run.status == 'done' for run in runs)} of {len(runs)} runs done"]
    parts += [f"{count} {status}" for status, count in counts.items() if count]
    tasks, arms = {run.task for run in runs}, by_arm(runs)
    parts += [_count(tasks, "task"), _count(arms, "encoder" if not any(c.variant for c in runs) else "variant")]
    parts += [_count({run.seed for run in runs}, "seed")]
    notes = [f"{run.name} failed: {run.failure}" for run in runs if run.status == "failed"]
    notes += [note for run in runs for note in run.notes]
    return (
        f'<header><p class="eyebrow">Mindreel ablation</p><h1>{escape(name)}</h1>'
        f'<p class="muted">{escape(" · ".join(parts))}</p>{"".join(map(missing, notes))}</header>'
    )


def _count(things: Sequence | dict | set, word: str) -> str:
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"


def _section(title: str, text: str, content: str) -> str:
    lead = f'<p class="muted">{escape(text)}</p>' if text else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{content}</section>"


# ---- returns ----


def _return_section(runs: Sequence[RunResult], colors: dict[str, int]) -> str:
    tasks = by_task(runs)
    if not tasks:
        return _section("Return", "", missing("No run has finished yet."))
    text = (
        "Interquartile mean of the runs' evaluations, with its 95% interval (bootstrap over seeds, stratified by "
        "task). A dot is one run. dm_control's tasks give at most 1,000."
    )
    content = ""
    if len({run.task for run in runs}) > 1:
        content += "<h3>All tasks</h3>" + _scores([c for own in tasks.values() for c in own], colors)
        content += _incomplete(runs, len({run.task for run in runs}))
    for task, own in tasks.items():
        content += f"<h3>{escape(task)}</h3>{_scores(own, colors)}"
    if any(len(own) < 2 for group in tasks.values() for own in by_arm(group).values()):
        content += missing("An encoder with a single run on a task has no spread there, so its interval is too narrow.")
    return _section("Return", text, content)


def _incomplete(runs: Sequence[RunResult], tasks: int) -> str:
    """A sentence for the arms whose mean over tasks leaves tasks out."""
    lacking = [arm for arm, own in by_arm(runs).items() if 0 < len(by_task(own)) < tasks]
    words = f"Not to be compared yet, since finished runs are missing on some of the tasks: {'; '.join(lacking)}."
    return missing(words) if lacking else ""


def _scores(runs: Sequence[RunResult], colors: dict[str, int]) -> str:
    """A line for each arm, the best first, on one axis."""
    results = {arm: (own, *pooled(own)) for arm, own in by_arm(runs).items()}
    values = [0.0] + [run.score or 0.0 for run in runs] + [x for *_, ends in results.values() for x in ends or ()]
    low, high = min(values), max(values) or 1.0
    lines = ""
    for arm, (own, mean, ends) in sorted(results.items(), key=lambda item: -item[1][1]):
        place = lambda value: f"left:{100 * (value - low) / (high - low):.2f}%"
        marks = "".join(
            f'<i class="episode" style="{place(run.score)}" title="{escape(run.name)}: {score_text(run.score)}"></i>'
            for run in own
        )
        spread = ""
        if ends is not None:
            width = 100 * (ends[1] - ends[0]) / (high - low)
            marks += f'<i class="ci" style="{place(ends[0])};width:{width:.2f}%"></i>'
            spread = f"{score_text(ends[0])} to {score_text(ends[1])}, "
        marks += f'<i class="mean" style="{place(mean)}" title="IQM: {score_text(mean)}"></i>'
        lines += (
            f'<span class="name">{escape(arm)}</span><div class="track c{colors[arm]}">{marks}</div>'
            f'<span class="value">{score_text(mean)} <small>{spread}{_count(own, "run")}</small></span>'
        )
    ends = f"<span>{short_number(low)}</span><span>return</span><span>{short_number(high)}</span>"
    gap = '<span class="gap"></span>'
    return f'<div class="scores">{lines}{gap}<div class="axis">{ends}</div>{gap}</div>'


# ---- learning curves ----


def _curve_section(runs: Sequence[RunResult], colors: dict[str, int]) -> str:
    charts, drawn = "", {}
    for task in sorted({run.task for run in runs}):
        series = []
        for arm, own in by_arm([run for run in runs if run.task == task]).items():
            found = arm_curves(arm, colors[arm], own)
            drawn |= {arm: colors[arm]} if found else {}
            series += found
        if series:
            charts += line_chart(
                task, series, "environment frames", "return of an episode", from_zero=True, legend=False, tall=True
            )
    if not charts:
        return _section("Learning curves", "", missing("No training episode has ended yet."))
    text = (
        f"Return of training episodes, with exploration noise: mean of {_SMOOTHED} logged values and over seeds; the "
        "band reaches from the lowest to the highest seed. Dashes: not all runs have come this far yet."
    )
    keys = "".join(f'<li><i class="key c{color}"></i>{escape(arm)}</li>' for arm, color in sorted(drawn.items()))
    return _section("Learning curves", text, f'<ul class="legend">{keys}</ul>{charts}')


def arm_curves(name: str, color: int, runs: Sequence[RunResult]) -> list[Series]:
    """Mean over runs with a band: solid where every run that has begun has been, dashes where only some have."""
    curves = [(x, running_mean(y.tolist(), _SMOOTHED)) for x, y in (run.curve() for run in runs) if len(x)]
    if not curves:
        return []
    places = np.unique(np.concatenate([x for x, _ in curves]))
    places = places[np.linspace(0, len(places) - 1, min(len(places), _PLACES)).round().astype(int)]
    values = np.stack([np.interp(places, x, y, left=np.nan, right=np.nan) for x, y in curves])  # (runs, P)
    reached = np.isfinite(values).sum(0)
    whole = reached == len(curves)
    if whole.any():  # before the last of the runs saw its first episode end, means would jump
        kept = places >= places[whole][0]
        places, values, reached, whole = places[kept], values[:, kept], reached[kept], whole[kept]
    mean, several = np.nanmean(values, 0), reached > 1
    series = []
    if several.any():
        low, high = np.nanmin(values[:, several], 0), np.nanmax(values[:, several], 0)
        around = np.concatenate([places[several], places[several][::-1]])
        series.append(_series(f"{name}, highest seed", around, np.concatenate([high, low[::-1]]), color, "band"))
    if whole.any():
        series.append(_series(name, places[whole], mean[whole], color, "line"))
    rest = ~whole
    if rest.any():
        rest |= np.append(rest[1:], False)  # from the last common place on, so that the line goes on
        series.append(_series(name, places[rest], mean[rest], color, "dashes"))
    return series


def _series(name: str, x: np.ndarray, y: np.ndarray, color: int, kind: str) -> Series:
    return Series(name, x.tolist(), y.tolist(), color, kind)


# ---- tables ----


def _probe_section(runs: Sequence[RunResult]) -> str:
    text = (
        "R² on held-out episodes of probes that read the simulator's state from the features at the end of each run, "
        "mean over seeds: 1 is exact, 0 is no better than guessing the mean."
    )
    content = probe_tables(runs) or missing("No finished run holds probe scores yet.")
    return _section("What the encoders know", text, content)


def _compute_section(runs: Sequence[RunResult]) -> str:
    done = [run for run in runs if run.score is not None]
    if not done:
        return _section("Compute", "", missing("No run has finished yet."))
    text = "Wall time in minutes, mean over runs. Pretraining and probes come on top of the agent's own updates."
    return _section(
        "Compute", text, equal_compute(done) + compute_table(done) + "<p></p>" + run_details(common_details(done))
    )
