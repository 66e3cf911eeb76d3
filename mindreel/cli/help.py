"""The text of `--help`: a page on a command, or all fields of a section or group."""

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindreel.cli.composing import Groups
from mindreel.cli.fields import defaults, describe, nested, walk
from mindreel.cli.notation import assigned
from mindreel.names import check_name

_LINES, _WIDTH = 60, 110


def page(run: Callable, config_cls: type, groups: Groups, presets: Path) -> str:
    """What a command does, its presets, groups and own fields, and the names of its sections; at most 60 lines."""
    program = f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else sys.argv[0]
    lines = [*inspect.cleandoc(getattr(inspect.getmodule(run), "__doc__", None) or run.__doc__ or "").splitlines(), ""]
    lines += [f"usage: {program} [preset=NAME] [group=CHOICE] [field=value] ..."]
    lines += ["  --config     print the config that would be used, and stop"]
    lines += ["  --help NAME  show all fields of a section, a group or group=CHOICE; --help all: of everything", ""]
    for file in sorted(presets.glob("*.yaml")):
        comment = itertools.takewhile(lambda line: line[:1] == "#", file.read_text(encoding="utf-8").splitlines())
        lines += [_row(f"preset={file.stem}", " ".join(line.strip("# ") for line in comment))]
    values, said, sections = defaults(config_cls), sentences(config_cls), []
    for group, choices in groups.items():
        names = sorted(choices, key=lambda name: type(values[group]) is not choices[name])  # the default first
        lines += textwrap.wrap(f"{group}={' | '.join(names)}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
    lines += [""]
    for name, kind, value, _ in walk(config_cls):
        if nested(kind) and "." not in name:
            sections += [name]
        elif name in values and name not in groups:
            lines += [_row(assigned(name, value), said.get(name, ""))]
    lines += ["", f"Sections: {'.*, '.join(sections)}.*: --help {sections[0]}"] if sections else []
    return "\n".join(lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "... and more: --help all"])


def details(wanted: str, config_cls: type, groups: Groups) -> str:
    """All fields of a section, a group, `group=choice`, or of "all"; `ValueError` if there is nothing of that name."""
    known, lines = {"all"}, []
    choices = [(f"{group}={name}", {group: cls}) for group in groups for name, cls in groups[group].items()]
    for title, chosen in [("", {}), *choices]:
        own = chosen or defaults(config_cls).keys() - groups
        rows = [row for row in walk(config_cls, **chosen) if row[0].partition(".")[0] in own]
        known |= {title, *(name for name, *_ in rows)}
        rows = [row for row in rows if wanted in ("all", title) or f"{row[0]}.".startswith(f"{wanted}.")]
        if rows and chosen:
            lines += ["", title, *(inspect.cleandoc(cls.__doc__ or "") for cls in chosen.values())]
        for name, kind, value, owner in rows:
            if not nested(kind):
                sentence = sentences(owner).get(name.rpartition(".")[2], "")
                lines += [f"  {assigned(name, value)}  ({describe(kind)})"]
                lines += textwrap.wrap(sentence, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    check_name(wanted, known, "section or field")
    return "\n".join(lines).strip("\n")


def _row(left: str, right: str) -> str:
    return f"  {left:<25}  {textwrap.shorten(right, max(20, _WIDTH - max(25, len(left))), placeholder=' ...')}".rstrip()


@functools.cache
def sentences(cls: type) -> dict[str, str]:
    """Field -> the text literal below it, also of the dataclasses that this one inherits from."""
    found = {}
    for base in [one for one in reversed(cls.__mro__) if dataclasses.is_dataclass(one)]:
        try:
            tree: Any = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):  # a class made at run time has no source to read
            continue
        for pair in itertools.pairwise(tree.body[0].body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = " ".join(words.split())
    return found
