"""Rows of probes as tables on the screen, and their means over seeds and tasks."""

import math
import statistics
from collections.abc import Sequence

from mindreel.tables import print_table


def print_probes(rows: list[dict]) -> None:
    """Held-out R2 of each encoder, a table for each kind of probe, then rank and spread of the features."""
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    for probe, title in (("linear", "Linear probe"), ("mlp", "MLP probe")):
        scored = [row for row in rows if row["probe"] == probe]
        means = {e: statistics.fmean(row["r2"] for row in scored if row["encoder"] == e) for e in encoders}
        ends = " with 95% interval" if any(row.get("low") is not None for row in scored) else ""
        print(f"\n{title}: held-out R2{ends}")
        print_table([*_pivoted(scored, ["target"]), {"target": "mean"} | means], _headed(["target"], encoders))
    last = {row["encoder"]: row for row in rows}
    print("\nFeatures")
    names = {"effective_rank": "effective rank", "feature_std": "feature std"}
    lines = [{"what": text} | {e: last[e][key] for e in encoders} for key, text in names.items()]
    print_table(lines, _headed(["what"], encoders))


def over_seeds(rows: Sequence[dict]) -> list[dict]:
    """One row for all seeds of an encoder and variant, named by both: the mean score.

    Its interval reaches from the lowest to the highest end of the seeds' intervals.
    """
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        named = ", ".join(filter(None, (row["encoder"], row.get("variant"))))
        place = {"encoder": named} | {key: row[key] for key in ("task", "suite", "probe", "target")}
        found.setdefault(tuple(place.items()), []).append(row)
    pooled = []
    for place, own in found.items():
        row = dict(place) | {"score": statistics.fmean(one["score"] for one in own)}
        lows, highs = ([one[end] for one in own if one.get(end) is not None] for end in ("low", "high"))
        if len(lows) == len(own):
            row |= {"low": min(lows), "high": max(highs)}
        pooled.append(row)
    return pooled


def over_tasks(rows: Sequence[dict]) -> list[dict]:
    """Where rows of `over_seeds` are of several tasks: means over tasks of each encoder's mean R2 of the state.

    Tasks are independent, so the lengths of their intervals to each side add up in quadrature.
    """
    means = [row for row in rows if row["suite"] == "state" and row["target"] == "mean"]
    tasks = {row["task"] for row in means}
    pooled = []
    for encoder, probe in dict.fromkeys((row["encoder"], row["probe"]) for row in means):
        own = [row for row in means if (row["encoder"], row["probe"]) == (encoder, probe)]
        if len(tasks) < 2 or len(own) < len(tasks):
            continue
        score, count = statistics.fmean(row["score"] for row in own), len(own)
        about = {"encoder": encoder, "task": f"all {count} tasks", "suite": "state", "probe": probe, "target": "mean"}
        if all("low" in row for row in own):
            down, up = (math.hypot(*(row[end] - row["score"] for row in own)) / count for end in ("low", "high"))
            about |= {"low": score - down, "high": score + up}
        pooled.append(about | {"score": score})
    return pooled


def print_comparison(rows: list[dict]) -> None:
    """Prints one table of all scores with their intervals: a line for each task, probe and target."""
    keys = ["task", "suite", "probe", "target"]
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    print()
    print_table(_pivoted(rows, keys), {key: key for key in keys} | {name: name for name in encoders})


def _pivoted(rows: list[dict], keys: Sequence[str]) -> list[dict]:
    """A line for each combination of `keys`, with the score and interval of each encoder as text."""
    lines: dict[tuple, dict] = {}
    for row in rows:
        place = tuple(row[key] for key in keys)
        line = lines.setdefault(place, dict(zip(keys, place, strict=True)))
        low, high = row.get("low"), row.get("high")
        spread = "" if low is None or high is None or low == high else f" [{low:.2f}, {high:.2f}]"
        line[row["encoder"]] = f"{row['score']:.2f}{spread}"
    return list(lines.values())


def _headed(keys: Sequence[str], encoders: Sequence[str]) -> dict[str, str]:
    return {key: "" for key in keys} | {name: name for name in encoders}
