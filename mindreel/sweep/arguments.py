"""A command line with comma lists as the command lines of its runs."""

import itertools
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from mindreel.cli import schema
from mindreel.names import similar
from mindreel.run_config import GROUPS

Axes = Mapping[str, Sequence[str]]
"""Field -> its arguments, several where a comma list was given."""

_OUTERMOST = ("seed", "task", "encoder")  # so that every encoder has its first seed before any has its second


def read_axes(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The arguments by field, with one argument for each value of a comma list; the last one of a repeated field."""
    axes: dict[str, list[str]] = {}
    for text in arguments:
        key = text.partition("=")[0]
        key = key.removesuffix(".name") if key.removesuffix(".name") in GROUPS else key
        axes.pop(key, None)
        axes[key] = _spread(text)
    return axes


def _spread(text: str) -> list[str]:
    try:
        override = OverridesParser.create().parse_override(text)
        if not override.is_sweep_override():
            return [text]
        return [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
    except HydraException:
        return [text]  # cli.main says what is wrong with it


def limited_fields(axes: Axes) -> dict[str, list[str]]:
    """Fields that only some of a group's listed choices have -> those choices."""
    found = {}
    for key in axes:
        group, _, name = key.partition(".")
        if group in GROUPS and name and len(axes.get(group, ())) > 1:
            choices = [text.partition("=")[2] for text in axes[group]]
            fields = {one: list(schema.names(GROUPS[group][one])) for one in choices if one in GROUPS[group]}
            having = [one for one in fields if name in fields[one]]
            # A misspelt field goes to the choices with a similar one, and the error that they raise names that one.
            having = having or [one for one in fields if similar(name, fields[one])]
            if having and len(having) < len(choices):
                found[key] = having
    return found


def combinations(axes: Axes) -> list[list[str]]:
    """The arguments of each run, seeds outermost; a run goes without fields that its choices do not have."""
    limits = limited_fields(axes)
    order = sorted(axes, key=lambda key: _OUTERMOST.index(key) if key in _OUTERMOST else len(_OUTERMOST))
    found: list[list[str]] = []
    for texts in itertools.product(*(axes[key] for key in order)):
        chosen = {key: text.partition("=")[2] for key, text in zip(order, texts, strict=True)}
        keys = [key for key in order if key not in limits or chosen[key.partition(".")[0]] in limits[key]]
        arguments = [text for key, text in zip(order, texts, strict=True) if key in keys]
        if arguments not in found:
            found.append(arguments)
    return found
