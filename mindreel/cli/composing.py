"""Layers of values into one typed config, and configs in files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mindreel.cli import fields, notation
from mindreel.files import write_text
from mindreel.names import check_name, nearest

Groups = Mapping[str, Mapping[str, type]]
"""Group -> choice -> frozen dataclass."""
PRESETS = Path(__file__).parents[1] / "scripts" / "presets"


def compose(
    config_cls: type, groups: Groups, overrides: Sequence[str] = (), *, base: str | None = None, presets: Path = PRESETS
) -> Any:
    """The config that `overrides` (`field=value`, `group=choice`, `preset=name`) ask for.

    Args:
        config_cls: frozen dataclass; a group's field is annotated Any and holds an instance of its default choice.
        groups: what there is to choose from.
        overrides: of a repeated key the last one counts.
        base: the field that names a saved run, which then lies below the overrides.
        presets: folder of the preset files.

    Raises:
        ValueError: an unknown field, choice or preset, or a value of the wrong type or out of range.
        FileNotFoundError: the saved run has no config.yaml.
    """
    given = _split(overrides, groups)
    preset, saved = given.pop("preset", None), given.get(base or "", "")
    overrides = [f"{key}={text}" for key, text in given.items()]
    if preset and saved:
        raise ValueError(f"{base}={saved} brings its own config: leave out preset={preset}")
    if notation.parse(saved):
        return load(saved if saved[0] not in "'\"" else notation.parse(saved), config_cls, groups, overrides)
    if preset is None:
        return from_dict({}, config_cls, groups, overrides)
    check_name(preset, [file.stem for file in presets.glob("*.yaml")], "preset")
    # A preset says where a run is written; a command that reads runs is told which by the command line alone.
    layer = {key: value for key, value in notation.read(presets / f"{preset}.yaml").items() if key != base}
    return from_dict(layer, config_cls, groups, overrides, presets / f"{preset}.yaml")


def load(path: Path | str, config_cls: type, groups: Groups, overrides: Sequence[str] = ()) -> Any:
    """The config saved in a file, or in a run folder's config.yaml, with overrides over it; raises as `compose`."""
    return from_dict(notation.read(config_file(path)), config_cls, groups, overrides, config_file(path))


def from_dict(
    values: Mapping[str, Any], config_cls: type, groups: Groups, overrides: Sequence[str] = (), source: Path | str = ""
) -> Any:
    """The config of plain values, read from the file `source`, with overrides over it; raises as `compose`."""
    given, chosen = _split(overrides, groups), {}
    initial, below = fields.defaults(config_cls), fields.plain(config_cls)
    above = {key: value for key, value in values.items() if key.partition("/")[0] not in groups}
    for group, choices in groups.items():
        default = choice_name(initial[group], choices)
        for key, value in values.items():
            if key.partition("/")[0] == group:
                if not isinstance(value, Mapping):
                    raise ValueError(f"{source}: {key}: expected fields, as in {key}: {{name: ...}}, got {value!r}")
                check_name(key.partition("/")[2] or str(value.get("name", default)), choices, group, str(source))
        own = dict(values.get(group, {}))
        stood = own.pop("name", default)
        name = given.pop(group, stood)
        check_name(name, choices, group)
        chosen[group] = choices[name]
        assert "name" not in fields.defaults(chosen[group]), f"{group}.name is the choice's"
        # A command may hold other values for its default choice than the class does.
        below[group] = fields.plain(chosen[group], initial[group] if name == default else None)
        above[group] = (own if name == stood else {}) | values.get(f"{group}/{name}", {})
    kinds = {name: kind for name, kind, *_ in fields.walk(config_cls, **chosen)}
    below = _merged(below, above)
    for key, text in given.items():
        value, wanted = notation.parse(text), fields.describe(kinds.get(key, Any))
        if type(value) in (int, float) and re.search("text|a path", wanted) and not re.search("an int|a float", wanted):
            value = text
        for part in reversed(key.split(".")):
            value = {part: value}
        below = _merged(below, value)
    try:
        built = fields.validate(config_cls, chosen, below)
    except ValueError as error:
        where, sentence = error.args
        of_call = [key for key in given if f"{key}.".startswith(f"{where}.") or f"{where}.".startswith(f"{key}.")]
        raise ValueError(sentence if of_call or not source else f"{source}: {sentence}") from error
    return config_cls(**built)


def to_dict(config: Any, groups: Groups) -> dict[str, Any]:
    """The config as plain values, each group with its choice's name first."""
    values = fields.plain(type(config), config)
    for group, choices in groups.items():
        values[group] = {"name": choice_name(getattr(config, group), choices), **values[group]}
    return values


def save(config: Any, groups: Groups, path: Path | str, leave_out: Sequence[str] = ()) -> None:
    """Writes a file that `load` reads back to an equal config, but for the fields to leave out."""
    values = {key: value for key, value in to_dict(config, groups).items() if key not in leave_out}
    write_text(path, notation.dump(values))


def choice_name(config: Any, choices: Mapping[str, type]) -> str:
    """The name under which a group offers this config's class."""
    assert len(set(choices.values())) == len(choices), "one class under two names"
    return {cls: name for name, cls in choices.items()}[type(config)]


def config_file(path: Path | str) -> Path:
    """The file itself, or the config.yaml of a run folder; `FileNotFoundError` names the runs beside it."""
    file = Path(path) if Path(path).suffix and not Path(path).is_dir() else Path(path) / "config.yaml"
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else file.parent.parent
        near = nearest(file.parent.name, [one.parent.name for one in folder.glob("*/config.yaml")])
        raise FileNotFoundError(f"no run at {str(path)!r}: {file} is missing; of the runs in {folder}, {near}")
    return file


def _split(overrides: Sequence[str], groups: Groups) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key or key[0] in "-+~":
            raise ValueError(f"{text!r}: expected field=value, as in {key.lstrip('-+~') or 'field'}=value, or --help")
        if len(notation.spread(text)) > 1:
            raise ValueError(f"{text!r}: expected one value; a list is written [a,b]")
        key = key.removesuffix(".name") if key.removesuffix(".name") in groups else key  # as a saved config has it
        given.pop(key, None)  # so that they are in the order of what counts
        given[key] = value
    return given


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
