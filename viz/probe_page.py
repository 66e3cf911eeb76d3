"""One page of what encoders know: `write_probes(path, rows)`."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from mindreel.files import write_text
from mindreel.viz.chart import short_number
from mindreel.viz.run_files import number
from mindreel.viz.style import SERIES_COLORS, SERIES_CSS, page

_CSS = (
    SERIES_CSS
    + """
.scores.dots { grid-template-columns: max-content minmax(120px, 1fr); gap: 4px 14px; }
.dots .track { background: none; } .dots .track .mean { width: 11px; height: 11px; }
.dots .axis { margin-top: 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""
)
_TEXTS = {
    "state": "Held-out R² of probes that read the simulator's state from the newest frame's features: 1 is exact.",
    "recognition": "Fraction of clips whose policy, behaviour or task is recognised; chance is the commonest class.",
    "retrieval": "Fraction of queries with a matching clip among the nearest; chance is a random order.",
    "anomaly": "How often the impossible movie surprises more than the possible one: 0.5 is chance, 1 is always.",
    "frontend": "Fraction of clips for which a small captioner, reading the tokens, writes exactly the right sentence.",
    "dynamics": "Error of a small predictor divided by that of predicting no change: lower is better.",
    "pretraining": "Cost of each encoder's training: equal clips or, with pretrain.tflop, equal operations (TFLOP).",
}
_NOT_DRAWN = ("pretraining",)


def write_probes(path: Path | str, rows: Sequence[dict[str, Any]]) -> Path:
    """Writes a page with a dot and its 95% interval for every row, and all rows as tables.

    Args:
        path: the file, HTML; it needs no network.
        rows: encoder, task, suite, probe, target, score, and low and high where there is an interval.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("Expected rows of probes to draw, got none.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render_probes(rows))
    return path


def render_probes(rows: Sequence[dict[str, Any]]) -> str:
    """The page as HTML."""
    encoders = list(dict.fromkeys(str(row["encoder"]) for row in rows))
    tasks, suites = (list(dict.fromkeys(str(row[key]) for row in rows)) for key in ("task", "suite"))
    colors = {name: SERIES_COLORS[index % len(SERIES_COLORS)] for index, name in enumerate(encoders)}
    keys = "".join(f'<li><i class="key dots c{colors[name]}"></i>{escape(name)}</li>' for name in encoders)
    body = "".join(_suite(suite, [row for row in rows if row["suite"] == suite], colors) for suite in suites)
    header = (
        '<header><p class="eyebrow">Mindreel probes</p><h1>What encoders know</h1>'
        f'<p class="muted">{escape(", ".join(tasks))}. Held-out episodes; 95% intervals by bootstrap over episodes.</p>'
        f'<ul class="legend">{keys}</ul></header>'
    )
    return page("What encoders know", header + body, _CSS)


def _suite(suite: str, rows: list[dict[str, Any]], colors: dict[str, int]) -> str:
    content = ""
    for task in dict.fromkeys(str(row["task"]) for row in rows):
        own = [row for row in rows if row["task"] == task]
        drawn = [row for row in own if row["probe"] not in ("features", "pairs")] if suite not in _NOT_DRAWN else []
        content += f"<h3>{escape(task)}</h3>" + (_dots(drawn, colors) if drawn else "")
        table = _table(own, list(colors))
        content += f"<details><summary>Numbers</summary>{table}</details>" if drawn else table
    lead = f'<p class="muted">{escape(_TEXTS[suite])}</p>' if suite in _TEXTS else ""
    return f"<section><h2>{escape(suite.capitalize())}</h2>{lead}{content}</section>"


def _dots(rows: list[dict[str, Any]], colors: dict[str, int]) -> str:
    """A line for each probe and target, with a dot and an interval for each encoder, on one axis."""
    values = [value for row in rows for key in ("score", "low", "high") if (value := number(row.get(key))) is not None]
    low, high = min([0.0, *(max(value, -0.5) for value in values)]), max([1.0, *values])
    place = lambda value: 100 * (min(max(value, low), high) - low) / (high - low)
    lines = ""
    for probe, target in dict.fromkeys((str(row["probe"]), str(row["target"])) for row in rows):
        own = [row for row in rows if (row["probe"], row["target"]) == (probe, target)]
        marks = "".join(_mark(row, colors, place, (index + 0.5) / len(own)) for index, row in enumerate(own))
        height = max(22, 13 * len(own))
        lines += f'<span class="name">{escape(f"{probe}: {target}")}</span>'
        lines += f'<div class="track" style="height:{height}px">{marks}</div>'
    ends = f"<span>{short_number(low)}</span><span>{short_number(high)}</span>"
    return f'<div class="scores dots">{lines}<span class="gap"></span><div class="axis">{ends}</div></div>'


def _mark(row: dict[str, Any], colors: dict[str, int], place, height: float) -> str:
    score = number(row["score"])
    if score is None:
        return ""
    color, top = f"c{colors[str(row['encoder'])]}", f"top:{100 * height:.0f}%"
    low, high = number(row.get("low")), number(row.get("high"))
    interval = ""
    if low is not None and high is not None:
        left, right = place(low), place(high)
        interval = f'<i class="ci {color}" style="left:{left:.2f}%;width:{right - left:.2f}%;{top}"></i>'
    said = f"{row['encoder']}: {_text(row)}"
    return f'{interval}<i class="mean {color}" style="left:{place(score):.2f}%;{top}" title="{escape(said)}"></i>'


def _table(rows: list[dict[str, Any]], encoders: Sequence[str]) -> str:
    found = {(str(row["probe"]), str(row["target"]), str(row["encoder"])): row for row in rows}
    body = ""
    for probe, target in dict.fromkeys((probe, target) for probe, target, _ in found):
        cells = [found.get((probe, target, name)) for name in encoders]
        numbers = "".join(f'<td class="number">{escape(_text(cell)) if cell else ""}</td>' for cell in cells)
        body += f"<tr><td>{escape(probe)}</td><td>{escape(target)}</td>{numbers}</tr>"
    head = "".join(f"<th>{escape(name)}</th>" for name in ("probe", "target", *encoders))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(row: dict[str, Any]) -> str:
    """A score with its interval."""
    score, low, high = (number(row.get(key)) for key in ("score", "low", "high"))
    if score is None:
        return "not measured"
    text = short_number(round(score, 3))
    return text if low is None or high is None or low == high else f"{text} [{low:.2f}, {high:.2f}]"
