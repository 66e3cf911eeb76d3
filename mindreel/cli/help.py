"""The text of `--help`: a page on a command, or the fields of a part of it."""

import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

from mindreel.cli.composing import Groups
from mindreel.cli.fields import in_words, walk
from mindreel.cli.text import assigned
from mindreel.names import check_name

_USAGE = """
usage: {program} [preset=NAME] [group=CHOICE] [field=value] ...
  --config     print the config that would be used, and stop
  --help NAME  show all fields of a section, a group or group=CHOICE; --help all: of everything
"""


def page(description: str, cls: type, groups: Groups, presets: Path) -> str:
    """What a command does, its presets, groups and own fields, and the names of its sections."""
    program = f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else sys.argv[0]
    lines = [inspect.cleandoc(description), _USAGE.format(program=program)]
    for file in sorted(presets.glob("*.yaml")):
        comment = file.read_text(encoding="utf-8").partition("\n")[0]
        lines += [_wrapped(f"preset={file.stem:<18}  {comment.lstrip('# ')}")]
    lines += [_wrapped(f"{group}={' | '.join(choices)}") for group, choices in groups.items()] + [""]
    rows = [row for row in walk(cls()) if "." not in row[0] and row[0] not in groups]
    lines += [_field(*row) for row in rows if "$ref" not in row[2]]
    return "\n".join([*lines, "", f"Sections: {', '.join(name for name, _, schema in rows if '$ref' in schema)}"])


def details(wanted: str, cls: type, groups: Groups) -> str:
    """The fields of a section, a group, `group=choice`, or of "all"; `ValueError` if there is nothing of that name."""
    default = cls()
    rows = [("", *row) for row in walk(default) if row[0].partition(".")[0] not in groups]
    for group, choices in groups.items():
        for name, choice in choices.items():
            config = getattr(default, group) if type(getattr(default, group)) is choice else choice()
            rows += [(f"{group}={name}", *row) for row in walk(config, f"{group}.")]
    names = {part for title, name, *_ in rows for part in (title, name)}
    check_name(wanted, {"all", *groups, *names}, "section or field")
    lines = [""]
    for title, name, value, schema in rows:
        if "$ref" not in schema and (wanted in ("all", title) or f"{name}.".startswith(f"{wanted}.")):
            lines += ["", title] if title not in lines else []
            lines += [_field(name, value, schema)]
    return "\n".join(lines).strip("\n")


def _field(name: str, value: Any, schema: dict[str, Any]) -> str:
    return _wrapped(f"{assigned(name, value)}  ({in_words(schema)})  {schema.get('description', '')}")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(f"  {text.strip()}", 110, subsequent_indent=" " * 6))
