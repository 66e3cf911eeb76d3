"""The text of `--help`: what a script does, its presets, groups, and every field with its sentence."""

import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mindreel.cli import composing, schema

WIDTH = 100


def text(run: Callable[[Any], None], config_cls: type, groups: composing.Groups, presets: Path) -> str:
    """The whole help of a script, from its docstring, its dataclasses and the preset files."""
    module = inspect.getmodule(run)
    initial = {field.name: schema.default(field) for field in dataclasses.fields(config_cls)}
    lines = [inspect.cleandoc((module and module.__doc__) or run.__doc__ or ""), ""]
    lines += [f"usage: python {sys.argv[0]} [preset=NAME] [group=CHOICE] [field=value] ...", ""]
    lines += ["  --help    show this text", "  --config  print the config that would be used, and stop", ""]
    if composing.preset_names(presets):
        lines += ["Presets, under what else is given:"]
        lines += [f"  preset={name:<12} {_comment(presets, name)}" for name in composing.preset_names(presets)]
        lines += [""]
    if groups:
        lines += ["Groups, the default choice first:"]
        for group, choices in groups.items():
            chosen = composing.choice(initial[group], choices)
            rest = [name for name in choices if name != chosen]
            lines += _wrapped(f"{group}=" + " | ".join([chosen, *rest]), 2)
            sentence = schema.sentences(config_cls).get(group)
            lines += _wrapped(sentence, 6) if sentence else []
        lines += [""]
    lines += ["Fields:", *_fields(config_cls, initial, "", groups), ""]
    for group, choices in groups.items():
        for name, cls in choices.items():
            values = initial[group] if type(initial[group]) is cls else None
            lines += [f"{group}={name}: {_summary(cls)}".rstrip(": ")]
            lines += [*_fields(cls, _values(cls, values), f"{group}."), ""]
    return "\n".join(lines).rstrip()


def _fields(cls: type, values: dict[str, Any], prefix: str, skip: typing.Container[str] = ()) -> Iterator[str]:
    hints, sentences = typing.get_type_hints(cls), schema.sentences(cls)
    for field in dataclasses.fields(cls):
        if field.name in skip:
            continue
        value, kind = values[field.name], hints[field.name]
        inner = schema.nested(kind)
        if inner is not None:
            chosen = value if isinstance(value, inner) else None
            yield from _fields(inner, _values(inner, chosen), f"{prefix}{field.name}.")
            continue
        default = "required" if value == schema.MISSING else f"default {_shown(value)}"
        yield f"  {prefix}{field.name}  ({schema.describe(kind)}, {default})"
        if field.name in sentences:
            yield from _wrapped(sentences[field.name], 6)


def _values(cls: type, instance: Any) -> dict[str, Any]:
    if instance is not None:
        return {field.name: getattr(instance, field.name) for field in dataclasses.fields(cls)}
    return {field.name: schema.default(field) for field in dataclasses.fields(cls)}


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(_shown(item) for item in value) + "]"
    return str(value) if value != "" else "''"


def _summary(cls: type) -> str:
    """The first paragraph of a class' docstring; the one that dataclasses make up says nothing."""
    written = inspect.cleandoc(cls.__doc__ or "")
    return "" if written.startswith(f"{cls.__name__}(") else " ".join(written.split("\n\n")[0].split())


def _comment(presets: Path, name: str) -> str:
    """A preset's opening comment, its description."""
    found = []
    for line in (presets / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        found.append(line.lstrip("# "))
    return " ".join(found)


def _wrapped(words: str, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(words, WIDTH, initial_indent=space, subsequent_indent=space + "    " * (indent < 4))
