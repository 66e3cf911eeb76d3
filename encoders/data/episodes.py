"""Where episodes begin and end in arrays that hold many of them one after another.

Files mark episodes in many ways: their lengths, first rows or ends, a number in each row, flags of first and last
rows, counters of steps, masks. Every field whose name says that it may be one is either understood or named in an
error, since clips that cross from one episode into the next would go unnoticed.
"""

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from mindreel.encoders.data.recordings import UnreadableError

MOST_EPISODES = 300_000
"""In one file."""

_EPISODE = {"ep", "episode", "traj", "trajectory", "demo", "demonstration", "rollout", "seq", "sequence"}
_PARTS = {"segment", "boundary", "boundarie", "split", "cut", "border"}
_LENGTH, _START = {"len", "length", "size"}, {"offset", "start", "begin", "ptr", "from"}
_END = {"end", "stop", "to"}
_ID = {"id", "idx", "index", "indice", "number", "nr"}
_LAST = {"done", "terminal", "terminated", "termination", "timeout", "truncated", "truncation"}
_GOES_ON = {"nonterminal", "notdone", "continue"}
_VALID, _PADDED = {"mask", "valid"}, {"pad", "padding", "padded"}
_COUNTER, _TIME = {"step", "timestep", "frame", "t", "index"}, {"time", "timestamp"}
_AROUND = {"is", "in", "num", "step", "transition", "data", "meta", "info", "next"} | _EPISODE | _ID
"""Words that may stand beside those above."""

Bounds = list[tuple[int, int]]


def words(name: str) -> list[str]:
    """A field's name in words, lower-case and singular: `meta/ep_lens` is meta, ep, len."""
    parts = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return [part[:-1] if len(part) > 2 and part[-1] == "s" and part[-2] != "s" else part for part in parts if part]


def kind_of(name: str) -> str | None:
    """The way in which a field of that name may mark episodes; None if it does not."""
    said = set(words(name))
    episode = bool(said & _EPISODE)
    alone = lambda group: bool(said & group) and said <= group | _AROUND
    if said >= {"step", "type"}:
        return "step_type"
    if said & _GOES_ON or {"not", "done"} <= said:
        return "goes_on"
    if alone(_VALID | _PADDED):
        return "padded" if said & _PADDED else "valid"
    if said & _LAST or alone({"last"}):
        return "last"
    if alone({"first"}) or episode and said & {"reset"}:
        return "first"
    if episode and said & {"total", "n", "num", "count"} and not said & (_LENGTH | {"step"}):
        return "count"
    if episode or said <= _LENGTH | _START | _END | {"data", "meta"}:
        for kind, group in (("length", _LENGTH), ("start", _START), ("end", _END)):
            if said & group:
                return kind
    if alone(_COUNTER) and (said & (_COUNTER - {"index"}) or not episode):
        return "counter"
    if alone(_TIME):
        return "time"
    if episode and said <= _AROUND and (said & _ID or said <= _EPISODE | {"data", "meta", "info"}):
        return "id"
    return "unknown" if episode or said & _PARTS else None


def episode_bounds(fields: Mapping[str, np.ndarray], length: int) -> Bounds:
    """First row of each episode and the one after its last.

    Args:
        fields: name -> array of each field that may mark episodes (`kind_of` is not None), single numbers included.
        length: number of rows.

    Raises:
        UnreadableError: a field is not understood, or two contradict each other.
    """
    kinds = {name: kind_of(name) for name in fields}
    arrays = {name: np.asarray(x).reshape(-1) for name, x in fields.items() if np.ndim(x) and np.size(x)}
    of = lambda *wanted: {name: x for name, x in arrays.items() if kinds[name] in wanted}
    stated: dict[str, Bounds] = {}
    tables = _tables(of("length", "start", "end"), kinds, length, stated, unknown := [])
    for name, x in of("id").items():
        if len(x) == length:
            stated[name] = _from_cuts(np.flatnonzero(x[1:] != x[:-1]) + 1, length)
            if len(np.unique(x)) < len(stated[name]):
                raise UnreadableError(f"the rows of an episode do not follow each other: {name} comes back to a number")
        elif len(x) > length:
            unknown.append(name)
    for name, x in of("first").items():
        stated[name] = _from_cuts(np.flatnonzero(_flags(name, x, length)), length)
    for (one, bounds), (other, others) in pairwise(stated.items()):
        if [first for first, _ in bounds] != [first for first, _ in others]:
            raise UnreadableError(f"{one} marks {len(bounds)} episodes and {other} {len(others)}, not the same")
    weak = _weak_cuts(of("last", "goes_on", "step_type", "counter", "time"), kinds, length, bool(stated))
    bounds = next((stated[name] for name in tables), None) or next(iter(stated.values()), None)
    if bounds is not None:
        inside = [name for name, cuts in weak.items() if _inside(cuts, bounds)]
        if inside:
            raise UnreadableError(f"{inside[0]} ends episodes where {next(iter(stated))} does not")
    else:
        bounds = _from_cuts(np.concatenate([np.zeros(0, np.int64), *weak.values()]), length)
        _check_unknown(fields, kinds, unknown, bounds, length)
    for name, x in of("valid", "padded").items():
        flags = _flags(name, x, length)
        bounds = _without(bounds, flags if kinds[name] == "padded" else ~flags)
    if len(bounds) > MOST_EPISODES:
        raise UnreadableError(f"it holds {len(bounds)} episodes: expected at most {MOST_EPISODES} in a file")
    return bounds


def _tables(
    arrays: Mapping[str, np.ndarray], kinds: Mapping[str, str | None], length: int, stated: dict, unknown: list[str]
) -> list[str]:
    """Adds what lengths, starts and ends of episodes say, together, to `stated`; returns under which names."""
    whole: dict[str, tuple[str, np.ndarray]] = {}
    for name, x in arrays.items():
        kind = str(kinds[name])
        if len(x) == length and kind != "length" and np.isin(x, (0, 1)).all():  # flags of first or last rows
            rows = np.flatnonzero(x)
            stated[name] = _from_cuts(rows if kind == "start" else rows + 1, length)
        elif x.dtype.kind not in "iu" or len(x) >= length + (kind == "start"):
            unknown.append(name)
        elif kind in whole and not np.array_equal(whole[kind][1], x):
            raise UnreadableError(f"its {whole[kind][0]} and {name} are not the same")
        else:
            whole[kind] = name, x.astype(np.int64)
    if not whole:
        return []
    lengths, starts, ends = (whole.get(kind, (None, None))[1] for kind in ("length", "start", "end"))
    named = " and ".join(name for name, _ in whole.values())
    if starts is not None and starts[-1] == length:  # as pointers into rows of which the last is where they end
        starts = starts[:-1]
    if lengths is not None:
        starts = np.cumsum(lengths) - lengths if starts is None and ends is None else starts
        if starts is None and ends is not None:
            starts = ends[: len(lengths)] - lengths[: len(ends)]
    elif starts is None and ends is not None:
        starts = np.concatenate([[0], ends[:-1]])
    assert starts is not None
    alike = {len(x) for x in (lengths, starts, ends) if x is not None}
    if len(alike) > 1:
        raise UnreadableError(f"its {named} are of {' and '.join(map(str, sorted(alike)))} episodes: expected as many")
    stops = starts + lengths if lengths is not None else ends
    stops = np.concatenate([starts[1:], [length]]) if stops is None else stops
    if lengths is None and "start" in whole and ends is not None and (ends + 1 == [*starts[1:], length]).all():
        stops = ends + 1  # they count the last row in
    ordered = len(starts) and starts[0] >= 0 and (stops > starts).all() and (starts[1:] >= stops[:-1]).all()
    whole_file = len(whole) > 1 or starts[0] == 0 and stops[-1] == length
    if not ordered or stops[-1] > length or not whole_file:
        raise UnreadableError(
            f"its {named} do not cut its {length} frames into episodes: they are out of bounds, unordered, or leave "
            f"frames out (the first from {starts[0]} to {stops[0]}, the last from {starts[-1]} to {stops[-1]})"
        )
    stated[named] = list(zip(starts.tolist(), stops.tolist(), strict=True))
    return [named]


def _weak_cuts(
    arrays: Mapping[str, np.ndarray], kinds: Mapping[str, str | None], length: int, lenient: bool
) -> dict[str, np.ndarray]:
    """Field -> rows that begin an episode, from fields that need not mark them all.

    Where other fields state the episodes (`lenient`), flags that stay set say from where on a task is solved.
    """
    cuts = {}
    for name, x in arrays.items():
        kind = kinds[name]
        if kind in ("counter", "time"):
            if len(x) == length:
                rises = np.diff(x.astype(np.float64))
                step = np.median(rises) if len(rises) else 1
                falls = rises <= 0 if kind == "time" or step <= 0 or lenient else rises != step
                cuts[name] = np.flatnonzero(falls) + 1 if not falls.all() else np.zeros(0, np.int64)
            continue
        if kind == "step_type":
            ended = _flags(name, x, length, binary=False) == 2
        else:
            ended = _flags(name, x, length) ^ (kind == "goes_on")
        if lenient:
            ended = ended & ~np.concatenate([ended[1:], [False]])
        cuts[name] = np.flatnonzero(ended) + 1
    return cuts


def _flags(name: str, x: np.ndarray, length: int, binary: bool = True) -> np.ndarray:
    """One value for each frame, (length,): bool, or as it is.

    One value for each action, where a recording has one action fewer than frames, may only flag the last.
    """
    if len(x) == length - 1 and not x[:-1].any():
        x = np.concatenate([np.zeros(1, x.dtype), x])
    if len(x) != length:
        raise UnreadableError(f"its array {name} is ({len(x)},): expected ({length},), one flag for each frame")
    if binary and not np.isin(x, (0, 1)).all():
        raise UnreadableError(f"its array {name} holds other numbers than 0 and 1: expected one flag for each frame")
    return x.astype(bool) if binary else x


def _check_unknown(
    fields: Mapping[str, np.ndarray], kinds: Mapping[str, str | None], unknown: list[str], bounds: Bounds, length: int
) -> None:
    """Raises UnreadableError for a field that may mark other episodes than those that were found."""
    for name, x in fields.items():
        size, number = np.size(x), np.ravel(x)[:1]
        if kinds[name] == "count" and size == 1 and number[0] > len(bounds):
            raise UnreadableError(f"it holds {number[0]:g} episodes by its {name}, {_EXPECTED}")
        listed = kinds[name] in ("unknown", "id") and size > 1 and size not in (length, len(bounds))
        single = len(bounds) == 1
        per_row = single and kinds[name] == "unknown" and size == length and len(np.unique(x)) > 1
        fixed = single and kinds[name] == "length" and not np.ndim(x) and number[0] < length
        if name in unknown or listed or per_row or fixed:
            raise UnreadableError(f"its {name} {np.shape(x)} may mark episodes, {_EXPECTED}")


_EXPECTED = (
    "in a way that is not known: expected their lengths (ep_len), first rows (ep_offset), ends (episode_ends), numbers "
    "(episode_id) or flags (is_first, terminals and timeouts)"
)


def _inside(cuts: np.ndarray, bounds: Bounds) -> bool:
    """Says if a row that begins an episode lies within one of these."""
    firsts, lasts = np.array(bounds).T
    place = np.searchsorted(firsts, cuts, side="right") - 1
    return bool(((place >= 0) & (cuts > firsts[place]) & (cuts < lasts[place])).any())


def _from_cuts(cuts: np.ndarray, length: int) -> Bounds:
    edges = np.unique(np.concatenate([[0, length], cuts])).astype(np.int64)
    return list(pairwise(edges.tolist()))


def _without(bounds: Bounds, left_out: np.ndarray) -> Bounds:
    """The same without some rows."""
    edges = np.flatnonzero(np.diff(left_out.astype(np.int8))) + 1
    cuts = np.unique(np.concatenate([np.array(bounds).ravel(), edges])).astype(np.int64)
    kept = np.zeros(len(left_out), bool)
    for first, last in bounds:
        kept[first:last] = True
    kept &= ~left_out
    return [(first, last) for first, last in pairwise(cuts.tolist()) if kept[first]]
