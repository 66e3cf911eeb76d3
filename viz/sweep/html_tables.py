"""Tables that compare the runs of a sweep: probes, compute, and the runs themselves."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from mindreel.viz.chart import short_number
from mindreel.viz.run_files import episode_interval, number
from mindreel.viz.summary_html import missing
from mindreel.viz.sweep.results import RunResult, by_arm, by_task


def score_text(value: float | None) -> str:
    """A return, as exact as it is worth reading."""
    return "" if value is None else short_number(round(value) if abs(value) >= 10 else round(value, 1))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table of HTML cells, of which the first `words` columns are words and the others numbers."""
    kind = lambda index: ' class="number"' if index >= words else ""
    head = "".join(f"<th{kind(index)}>{escape(name)}</th>" for index, name in enumerate(heads))
    lines = "".join(
        f"<tr>{''.join(f'<td{kind(index)}>{value}</td>' for index, value in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def probe_tables(runs: Sequence[RunResult]) -> str:
    """For each task and kind of probe: R2 of each target by encoder, mean over runs; "" without probes."""
    scores = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))  # title -> target -> column -> R2 of the runs
    for task, own in by_task(runs).items():
        for run in own:
            columns = {"pixels": "raw pixels", run.encoder: run.arm}  # "untrained" has no column
            for row in run.summary.get("probes") or ():
                r2 = number(row.get("r2")) if isinstance(row, dict) else None
                if r2 is not None and row.get("encoder") in columns:
                    title = f"{task}, {str(row.get('probe')).replace('mlp', 'MLP')} probe"
                    scores[title][str(row.get("target"))][columns[row["encoder"]]].append(r2)
    return "".join(f"<h3>{escape(title)}</h3>{_probe_table(targets)}" for title, targets in scores.items())


def _probe_table(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    columns = sorted({name for row in scores.values() for name in row}, key=lambda name: (name == "raw pixels", name))
    means = {target: [mean(row.get(name, ())) for name in columns] for target, row in scores.items()}
    if len(means) > 1:  # the mean of a column with a gap would be of other targets than its neighbours'
        whole = zip(*means.values(), strict=True)
        means["mean"] = [None if None in column else mean(column) for column in whole]
    rows = []
    for target, values in means.items():
        best = max((round(value, 2) for value in values if value is not None), default=None)
        texts = ["" if value is None else f"{value:.2f}".replace("-", "−") for value in values]
        top = [value is not None and round(value, 2) == best for value in values]
        rows.append(
            [escape(target), *(f"<b>{text}</b>" if one else text for text, one in zip(texts, top, strict=True))]
        )
    return table(["target", *columns], rows)


def compute_table(runs: Sequence[RunResult]) -> str:
    """Means over the finished runs of each arm: minutes by stage, updates per second of training, and the operations
    (10^12) and clips per second of the encoder's own objective."""
    times = {run.name: _seconds(run) for run in runs}
    stages = list(dict.fromkeys(stage for known in times.values() for stage in known if stage != "total"))
    rows = []
    for arm, own in by_arm(runs).items():
        means = [mean(times[run.name].get(stage) for run in own) for stage in [*stages, "total"]]
        rates = [mean(_rate(run, times[run.name]) for run in own)]
        rates += [mean(run.of_encoder(key) for run in own) for key in ("tflop", "clips_per_s")]
        texts = ["" if value is None else f"{value / 60:.1f}" for value in means]
        rows.append([escape(arm), str(len(own)), *texts, *("" if x is None else short_number(x) for x in rates)])
    return table(["", "runs", *stages, "total", "updates/s", "encoder TFLOP", "clips/s"], rows)


def equal_compute(runs: Sequence[RunResult]) -> str:
    """Sentences: whether all runs had equally many updates and frames, and all encoders equally many operations."""
    amounts = defaultdict(set)
    for run in runs:
        words = [f"{run.total(key) or 0:,.0f} {what}" for key, what in _COUNTED.items()]
        amounts[" and ".join(words)].add(run.arm)
    if len(amounts) > 1:
        unequal = [f"{amount} ({'; '.join(sorted(arms))})" for amount, arms in amounts.items()]
        return missing(f"Compute is not equal: {', '.join(unequal)}.") + _unequal_encoders(runs)
    return f"<p>Every finished run had {escape(next(iter(amounts)))}.</p>" + _unequal_encoders(runs)


def _unequal_encoders(runs: Sequence[RunResult]) -> str:
    """A sentence, if the objectives of encoders took more operations in one arm than in another; else ""."""
    spent = {arm: mean(run.of_encoder("tflop") for run in own) for arm, own in by_arm(runs).items()}
    known = {arm: tflop for arm, tflop in spent.items() if tflop}
    if not known or max(known.values()) < _NEARLY * min(known.values()):
        return ""
    named = ", ".join(f"{arm} {short_number(tflop)}" for arm, tflop in known.items())
    return missing(f"Encoders were not trained with equal compute, in TFLOP: {named}. pretrain.tflop makes it equal.")


_NEARLY = 1.05  # refreshes are whole steps, so equal compute is so within a few hundredths
_COUNTED = {"updates": "updates", "env_frames": "environment frames"}


def common_details(runs: Sequence[RunResult]) -> dict[str, Any]:
    """Commit, hardware and versions of all runs, and the command of the first, in the layout of one run's summary."""
    merged: dict[str, Any] = {"command": runs[0].summary.get("command")}
    merged["git_commit"] = _distinct(run.summary.get("git_commit") for run in runs)
    for group in ("hardware", "versions"):
        known = [run.summary[group] for run in runs if isinstance(run.summary.get(group), dict)]
        merged[group] = {name: _distinct(one.get(name) for one in known) for one in known for name in one}
    return merged


def run_table(runs: Sequence[RunResult]) -> str:
    """Every run: state, return, time, and a link to its own report."""
    rows = []
    for run in sorted(runs, key=lambda run: (run.task, run.arm, run.seed or 0)):
        ends = episode_interval(run.summary, "eval_return")
        seconds = run.total("wall_time_s")
        name = escape(run.arm)
        if run.status == "done":
            name = f'<a href="{quote(run.name)}/report.html">{name}</a>'
        spread = "" if ends is None else f"{score_text(ends[0])} to {score_text(ends[1])}"
        minutes = "" if seconds is None else f"{seconds / 60:.1f}"
        values = [str(run.seed), _progress(run), score_text(run.score), spread, minutes]
        rows.append([escape(run.task), name, *map(escape, values)])
    return table(["task", "encoder", "seed", "state", "return", "95% over episodes", "minutes"], rows, words=2)


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _seconds(run: RunResult) -> dict[str, float]:
    times = run.summary.get("wall_time_s")
    known = {str(k): number(v) for k, v in times.items()} if isinstance(times, dict) else {}
    return {stage: value for stage, value in known.items() if value is not None}


def _rate(run: RunResult, times: dict[str, float]) -> float | None:
    updates, seconds = run.total("updates"), times.get("train")
    return updates / seconds if updates and seconds else None


def _progress(run: RunResult) -> str:
    if run.status != "unfinished":
        return run.status
    updates = max((number(row.get("updates")) or 0 for row in run.metrics), default=0)
    return f"{updates:,.0f} of {number(run.settings.get('loop.updates')) or 0:,.0f} updates"


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))
