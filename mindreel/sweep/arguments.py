"""A command line with comma lists as the command lines of its runs."""

import itertools
import re
from collections.abc import Mapping, Sequence

from mindreel import cli
from mindreel.names import similar
from mindreel.run_config import GROUPS, current_names

Axes = Mapping[str, Sequence[str]]
"""Field -> its arguments, several where a comma list was given."""

_VALUE = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\[[^]]*\]|\{[^}]*\}|[^,])+""")
_OUTERMOST = ("seed", "task", "encoder")  # so that every encoder has its first seed before any has its second


def read_axes(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The arguments by field, with one argument for each value of a comma list; the last one of a repeated field."""
    axes: dict[str, list[str]] = {}
    for text in current_names(arguments):
        key = text.partition("=")[0]
        key = key.removesuffix(".name") if key.removesuffix(".name") in GROUPS else key
        axes.pop(key, None)
        axes[key] = spread(text)
    return axes


def spread(argument: str) -> list[str]:
    """One `key=value` argument for each value of a comma list; `[a,b]`, `{...}` and quoted text are one value."""
    key, _, text = argument.partition("=")
    values = _VALUE.findall(text)
    return [f"{key}={value}" for value in values] if len(values) > 1 else [argument]


def limited_fields(axes: Axes) -> dict[str, list[str]]:
    """Fields that only some of a group's listed choices have -> those choices."""
    found = {}
    for key in axes:
        group, _, name = key.partition(".")
        if group in GROUPS and name and len(axes.get(group, ())) > 1:
            choices = [text.partition("=")[2] for text in axes[group]]
            fields = {one: _names(GROUPS[group][one]) for one in choices if one in GROUPS[group]}
            having = [one for one in fields if name in fields[one]]
            # A misspelt field goes to the choices with a similar one, and the error that they raise names that one.
            having = having or [one for one in fields if similar(name, fields[one])]
            if having and len(having) < len(choices):
                found[key] = having
    return found


def _names(config_cls: type) -> list[str]:
    return [name for name, _, _ in cli.walk(config_cls())]


def combinations(axes: Axes) -> list[list[str]]:
    """The arguments of each run, seeds outermost; a run goes without fields that its choices do not have.

    `${task}` in a value stands for the run's own task, and so on for every other field that is given.
    """
    limits = limited_fields(axes)
    order = sorted(axes, key=lambda key: _OUTERMOST.index(key) if key in _OUTERMOST else len(_OUTERMOST))
    found: list[list[str]] = []
    for texts in itertools.product(*(axes[key] for key in order)):
        chosen = {key: text.partition("=")[2] for key, text in zip(order, texts, strict=True)}
        keys = [key for key in order if key not in limits or chosen[key.partition(".")[0]] in limits[key]]
        arguments = [_filled(text, chosen) for key, text in zip(order, texts, strict=True) if key in keys]
        if arguments not in found:
            found.append(arguments)
    return found


def _filled(text: str, chosen: Mapping[str, str]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda found: chosen.get(found[1], found[0]), text)
