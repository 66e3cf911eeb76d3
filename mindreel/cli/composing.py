"""Configs from presets, saved runs and the command line, and into files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from mindreel.cli.fields import updated
from mindreel.cli.text import dump, parse, read
from mindreel.files import write_text
from mindreel.names import check_name, nearest

Groups = Mapping[str, Mapping[str, type]]
"""Group -> choice -> frozen dataclass."""
PRESETS = Path(__file__).parents[1] / "scripts" / "presets"


def compose(cls: type, groups: Groups, arguments: Sequence[str], *, base: str = "", presets: Path = PRESETS) -> Any:
    """The config that `arguments` (`field=value`, `group=choice`, `preset=name`) ask for.

    `base` is the field that names a saved run, which lies below the arguments. A method `check_saved(values, file)` of
    `cls` may refuse one. A mistake is a ValueError, a run that is not there a FileNotFoundError.
    """
    given = _nested(arguments, groups)
    preset, run = given.pop("preset", None), given.get(base)
    if preset and run:
        raise ValueError(f"{base}={run} brings its own config: leave out preset={preset}")
    if run:
        file = config_file(str(run))
        values = read(file)
        if hasattr(cls, "check_saved"):
            cls.check_saved(values, file)
    elif preset:
        check_name(str(preset), [one.stem for one in presets.glob("*.yaml")], "preset")
        file = presets / f"{preset}.yaml"
        values = {key: value for key, value in read(file).items() if key != base}  # it names no run to read
    else:
        file, values = "", {}
    return from_dict(values, cls, groups, file, given)


def load(path: Path | str, cls: type, groups: Groups) -> Any:
    """The config saved in a file, or in a run folder's config.yaml; raises as `compose`."""
    return from_dict(read(config_file(path)), cls, groups, config_file(path))


def from_dict(
    values: Mapping[str, Any], cls: type, groups: Groups, source: Path | str, given: Mapping[str, Any] | None = None
) -> Any:
    """The config of values from the file `source`, under the `given` ones; both nested, a group's choice at `name`."""
    config, below, above = cls(), dict(values), dict(given or {})
    for group, choices in groups.items():
        default = choice_name(getattr(config, group), choices)
        saved, asked = below.get(group, {}), dict(above.get(group, {}))
        saved = dict(saved) if isinstance(saved, Mapping) else {"name": saved}
        saved_name = str(saved.pop("name", default))
        check_name(saved_name, choices, group, str(source))
        name = str(asked.pop("name", saved_name))
        check_name(name, choices, group)
        if name != default:
            config = replace(config, **{group: choices[name]()})
        of_choices = {choice: below.pop(f"{group}/{choice}", {}) for choice in choices}
        for choice, fields in of_choices.items():
            if not isinstance(fields, Mapping):
                raise ValueError(f"{source}: {group}/{choice}: expected fields, got {fields!r}")
        below[group] = (saved if name == saved_name else {}) | dict(of_choices[name])
        above[group] = asked
    try:
        config = updated(config, below)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return updated(config, above)


def _nested(arguments: Sequence[str], groups: Groups) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for argument in arguments:
        field, equals, text = argument.partition("=")
        if not equals or not field or field.startswith("-"):
            raise ValueError(f"{argument!r}: expected field=value, as in {field.lstrip('-')}=value, or --help")
        *sections, key = (f"{field}.name" if field in groups else field).split(".")
        place = found
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[key] = parse(text)
    return found


def to_dict(config: Any, groups: Groups) -> dict[str, Any]:
    """The config as plain values, each group with its choice's name first."""
    values = to_jsonable_python(config)
    for group, choices in groups.items():
        values[group] = {"name": choice_name(getattr(config, group), choices), **values[group]}
    return values


def save(config: Any, groups: Groups, path: Path | str, leave_out: Sequence[str] = ()) -> None:
    """Writes a file that `load` reads back to an equal config, but for the fields to leave out."""
    write_text(path, dump({key: value for key, value in to_dict(config, groups).items() if key not in leave_out}))


def choice_name(config: Any, choices: Mapping[str, type]) -> str:
    """The name under which a group offers this config's class."""
    return next(name for name, cls in choices.items() if cls is type(config))


def config_file(path: Path | str) -> Path:
    """The file itself, or the config.yaml of a run folder; `FileNotFoundError` names the runs near it."""
    path = Path(path)
    file = path if path.is_file() else path / "config.yaml"
    if not file.is_file():
        near = nearest(path.name, [one.parent.name for one in path.parent.glob("*/config.yaml")])
        raise FileNotFoundError(f"no run at {path}: {file} is missing; of the runs in {path.parent}, {near}")
    return file
