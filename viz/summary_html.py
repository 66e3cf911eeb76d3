"""The numbers of a run's summary as HTML: scores, probes, stage times, and what it ran on."""

from collections.abc import Iterable
from html import escape
from typing import Any

from mindreel.viz.chart import short_number
from mindreel.viz.run_files import episode_interval, number

_ENCODER_NAMES = {
    "untrained": "same network, untrained",
    "random": "same network, untrained",
    "pixels": "raw pixels",
    "raw_pixels": "raw pixels",
    "state": "true state",
}


def missing(sentence: str) -> str:
    """A sentence where the page would show something that the run folder lacks."""
    return f'<p class="missing">{escape(sentence)}</p>'


def headline(summary: dict[str, Any]) -> str:
    """The agent's score in large figures and in one sentence."""
    mean = number(summary.get("eval_return_mean"))
    if mean is None:
        return missing("The agent's score is missing: summary.json holds no eval_return_mean.")
    low_high = episode_interval(summary, "eval_return")
    episodes = number(summary.get("eval_episodes"))
    details = [] if low_high is None else [f"95% CI {_whole(low_high[0])} to {_whole(low_high[1])}"]
    details += [] if episodes is None else [f"{episodes:.0f} episodes"]
    figure = f'<div class="big">{_whole(mean)}<small>mean return</small></div>'
    return f'{figure}<p class="muted">{escape(", ".join(details))}</p><p>{escape(_verdict(summary, mean))}</p>'


def _verdict(summary: dict[str, Any], mean: float) -> str:
    parts = []
    random_return = number(summary.get("random_return_mean"))
    if random_return is not None:
        known = _whole(random_return)
        times = f"; the agent, {mean / random_return:.1f} times as much" if mean > random_return > 0 else ""
        parts.append(f"Random actions score {known}{times}.")
    alone = number(summary.get("no_planning_return_mean"))
    if alone is not None:
        gain = f"{_whole(abs(mean - alone))} {'more' if mean >= alone else 'less'}"
        own = episode_interval(summary, "eval_return")
        other = episode_interval(summary, "no_planning_return")
        overlap = own is not None and other is not None and own[0] <= other[1] and other[0] <= own[1]
        doubt = "; the two intervals overlap" if overlap else ""
        parts.append(f"With planning the agent scores {gain} than without ({_whole(alone)}){doubt}.")
    return " ".join(parts)


def scores(summary: dict[str, Any]) -> str:
    """The scores of the agent, of its policy and of random actions on one axis, with intervals and episodes."""
    rows = [
        ("agent", 1, "eval_return"),
        ("agent without planning", 2, "no_planning_return"),
        ("random actions", 5, "random_return"),
    ]
    found = [(name, color, key) for name, color, key in rows if number(summary.get(f"{key}_mean")) is not None]
    if not found:
        return ""
    values = [value for *_, key in found for value in _all_values(summary, key)]
    low, high = min(0.0, *values), _ceiling(max(values))
    cells = "".join(_score_row(summary, *row, low, high) for row in found)
    ends = f"<span>{short_number(low)}</span><span>return</span><span>{short_number(high)}</span>"
    gap = '<span class="gap"></span>'
    return f'<div class="scores">{cells}{gap}<div class="axis">{ends}</div>{gap}</div>'


def _score_row(summary: dict[str, Any], name: str, color: int, key: str, low: float, high: float) -> str:
    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    mean = number(summary.get(f"{key}_mean")) or 0.0
    marks = "".join(
        f'<i class="episode" style="left:{place(value):.2f}%" title="one episode: {_whole(value)}"></i>'
        for value in _episodes(summary, key)
    )
    text = ""
    low_high = episode_interval(summary, key)
    if low_high is not None:
        left, right = place(low_high[0]), place(low_high[1])
        marks += f'<i class="ci" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>'
        text = f" <small>{_whole(low_high[0])} to {_whole(low_high[1])}</small>"
    marks += f'<i class="mean" style="left:{place(mean):.2f}%" title="mean: {_whole(mean)}"></i>'
    return (
        f'<span class="name">{escape(name)}</span><div class="track c{color}">{marks}</div>'
        f'<span class="value">{_whole(mean)}{text}</span>'
    )


def _all_values(summary: dict[str, Any], key: str) -> list[float]:
    mean = number(summary.get(f"{key}_mean")) or 0.0
    return [mean, *(episode_interval(summary, key) or ()), *_episodes(summary, key)]


def _episodes(summary: dict[str, Any], key: str) -> list[float]:
    values = summary.get(f"{key}s")
    return _finite(values) if isinstance(values, list) else []


def probe_tables(summary: dict[str, Any]) -> str:
    """A table of R2 for each kind of probe, with a row for each target and a column for each encoder."""
    entries = summary.get("probes")
    rows = [row for row in entries if isinstance(row, dict)] if isinstance(entries, list) else []
    scored: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        r2 = number(row.get("r2"))
        if r2 is not None:
            place = (str(row.get("target", "?")), str(row.get("encoder", "?")))
            scored.setdefault(str(row.get("probe", "?")), {})[place] = r2
    if not scored:
        return missing("The probe results are missing: summary.json holds no probes.")
    own = summary.get("encoder")
    tables = "".join(_probe_table(probe, table, str(own)) for probe, table in scored.items())
    return f'<div class="grid">{tables}</div>'


def _probe_table(probe: str, table: dict[tuple[str, str], float], own: str) -> str:
    encoders = sorted(dict.fromkeys(encoder for _, encoder in table), key=lambda name: name != own)
    targets = list(dict.fromkeys(target for target, _ in table))
    body = "".join(_probe_row(t, [table.get((t, e)) for e in encoders]) for t in targets)
    if len(targets) > 1:
        columns = [_finite(table.get((t, e)) for t in targets) for e in encoders]
        means = [sum(column) / len(column) if len(column) == len(targets) else None for column in columns]
        body += _probe_row("mean", means, "mean")
    head = "".join(f"<th>{escape(_encoder_name(name, own))}</th>" for name in encoders)
    title = {"mlp": "MLP probe", "linear": "Linear probe"}.get(probe.lower(), f"{probe} probe")
    return (
        f'<div class="scroll"><h3>{escape(title)}</h3><table><thead><tr><th>target</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _encoder_name(name: str, own: str) -> str:
    return name if name == own else _ENCODER_NAMES.get(name, name)


def _probe_row(target: str, values: list[float | None], kind: str = "") -> str:
    best = max((round(value, 2) for value in values if value is not None), default=None)
    cells = ""
    for index, value in enumerate(values):
        if value is None:
            cells += '<td class="r2">not measured</td>'
            continue
        mark = " best" if len(values) > 1 and round(value, 2) == best else ""
        width = 100 * min(max(value, 0), 1)
        bar = f'<i class="bar c{(1, 2, 5, 4)[min(index, 3)]}" style="width:{width:.1f}%"></i>'
        cells += f'<td class="r2{mark}">{f"{value:.2f}".replace("-", "−")}{bar}</td>'
    return f'<tr class="{kind}"><td>{escape(target)}</td>{cells}</tr>'


def stage_times(summary: dict[str, Any]) -> str:
    """A bar for the seconds of each stage."""
    times = summary.get("wall_time_s")
    seconds = {str(k): number(v) for k, v in times.items()} if isinstance(times, dict) else {}
    stages = {name: value for name, value in seconds.items() if value is not None and name != "total"}
    if not stages:
        return missing("The stage times are missing: summary.json holds no wall_time_s.")
    total = seconds.get("total") or sum(stages.values())
    longest = max(*stages.values(), 1e-9)
    bars = "".join(
        f"<span>{escape(name)}</span>"
        f'<div class="bar" style="width:{max(0, 100 * value / longest):.1f}%"></div>'
        f'<span class="value">{_duration(value)}</span>'
        for name, value in stages.items()
    )
    return f'<p class="muted">{_duration(total)} in all.</p><div class="bars">{bars}</div>'


def run_details(summary: dict[str, Any]) -> str:
    """Command, task, seed, counts, hardware and versions, as far as they are known."""
    names = ("task", "encoder", "agent", "seed", "env_frames", "updates", "git_commit")
    pairs = [(name.replace("_", " "), summary[name]) for name in names if summary.get(name) is not None]
    for group in ("hardware", "versions"):
        known = summary.get(group)
        known = known if isinstance(known, dict) else {group: known}
        pairs += [(str(name).replace("_", " "), value) for name, value in known.items() if value is not None]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>" for name, value in pairs)
    command = summary.get("command")
    shown = f"<pre>{escape(_plain(command))}</pre>" if command else missing("The command was not recorded.")
    return shown + (f"<dl>{listed}</dl>" if pairs else missing("Hardware and versions were not recorded."))


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{value:,}" if abs(value) >= 10_000 else str(value)


def _finite(values: Iterable[Any]) -> list[float]:
    return [value for value in map(number, values) if value is not None]


def _whole(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"
    return text.replace("-", "−")


def _ceiling(value: float) -> float:
    """A round number at or above `value`."""
    if value <= 0:
        return 1.0
    power = 10 ** (len(f"{value:.0f}") - 1)
    return next(power * step for step in (1, 2, 3, 4, 5, 6, 8, 10) if power * step >= value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
