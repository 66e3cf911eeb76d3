"""Ranges of config fields, written once as annotations: `Annotated[int, Ge(1)]`."""

import functools
import operator
import typing
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

_LIMITS = {
    Ge: ("ge", "at least", operator.ge),
    Gt: ("gt", "above", operator.gt),
    Le: ("le", "at most", operator.le),
    Lt: ("lt", "below", operator.lt),
}


def check_ranges(config: Any) -> None:
    """Raises ValueError for a number of a dataclass that is out of the range of its annotation; None is in any."""
    for field in fields(config):
        value, wanted, fits = getattr(config, field.name), [], []
        for mark in _marks(_hints(type(config))[field.name]):
            name, words, holds = _LIMITS[type(mark)]
            wanted.append(f"{words} {getattr(mark, name):g}")
            fits.append(value is None or holds(value, getattr(mark, name)))
        if not all(fits):
            raise ValueError(f"{field.name} should be {' and '.join(wanted)}, got {value}.")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _marks(kind: Any) -> Iterator[Any]:
    """The limits in an annotation, in those of a union too."""
    if typing.get_origin(kind) is typing.Annotated:
        for mark in typing.get_args(kind)[1:]:
            marks = mark if isinstance(mark, GroupedMetadata) else [mark]
            yield from (one for one in marks if type(one) in _LIMITS)
    else:
        for part in typing.get_args(kind):
            yield from _marks(part)
