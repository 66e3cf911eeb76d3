"""Layers of values into one typed config: defaults, a preset or a saved run, the command line.

Hydra parses the command line and merges; which names exist, and what type a value must have, is
checked against the dataclasses, so that an error can name the nearest field and where it came from.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mindreel.cli import schema

Groups = Mapping[str, Mapping[str, type]]


@dataclasses.dataclass(frozen=True)
class Overrides:
    """The command line, read but not yet judged; of a repeated key the last one counts."""

    fields: dict[str, Any]
    """Dotted field -> value."""
    texts: dict[str, str]
    """Dotted field -> the argument as it was written."""
    choices: dict[str, str]
    """Group -> choice."""
    preset: str | None
    """Name of the preset, if one was asked for."""


def choice(config: Any, choices: Mapping[str, type]) -> str:
    """The name under which a group offers this config's class."""
    for name, cls in choices.items():
        if type(config) is cls:
            return name
    raise TypeError(f"{type(config).__name__} is none of the choices {sorted(choices)}")


def preset_names(presets: Path) -> list[str]:
    """Names of the preset files."""
    return sorted(file.stem for file in presets.glob("*.yaml"))


def _check_groups(config_cls: type, groups: Groups) -> None:
    """Our own invariants, so that a choice's name and its class stay one-to-one."""
    for group, choices in groups.items():
        assert group in {name.partition(".")[0] for name in schema.names(config_cls)}, group
        assert len(set(choices.values())) == len(choices), f"{group}: one class under two names"
        for cls in choices.values():
            assert "name" not in set(schema.names(cls)), f"{cls.__name__}.name is the choice's"


def parse(arguments: Sequence[str], groups: Groups) -> Overrides:
    """Read `field=value`, `group=choice` and `preset=name` arguments with Hydra's grammar."""
    fields: dict[str, Any] = {}
    texts: dict[str, str] = {}
    choices: dict[str, str] = {}
    preset = None
    for text in arguments:
        key, equals, _ = text.partition("=")
        if not equals or not key or key[0] in "-+~":
            word = key.lstrip("-+~") or "field"
            raise ValueError(f"{text!r}: expected field=value, as in {word}=value, or --help")
        value = _value(text)
        if key == "preset":
            preset = str(value)
        elif key.removesuffix(".name") in groups:  # as a saved config writes it
            choices[key.removesuffix(".name")] = str(value)
        else:
            fields[key], texts[key] = value, text
    return Overrides(fields, texts, choices, preset)


def _value(text: str) -> Any:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, _, value = text.partition("=")
        raise ValueError(f"{text!r} cannot be read: quote special characters: {key}='\"{value}\"'") from error
    if override.is_sweep_override():
        raise ValueError(f"{text!r}: expected one value; a list is written [a,b]")
    return override.value()


def read_layer(overrides: Overrides, base: str | None, presets: Path) -> tuple[Mapping[str, Any], str]:
    """What lies between the defaults and the command line, and the file that it came from."""
    saved = None if base is None else overrides.fields.get(base)
    if saved is not None:
        if overrides.preset is not None:
            raise ValueError(f"{base}={saved} brings its own config: leave out preset={overrides.preset}")
        path = config_file(str(saved))
    elif overrides.preset is not None:
        known = preset_names(presets)
        if overrides.preset not in known:
            raise ValueError(f"unknown preset {overrides.preset!r}: {schema.nearest(overrides.preset, known)}")
        path = presets / f"{overrides.preset}.yaml"
        # A preset says where a run is written; a script that reads runs is told which by the command line alone.
        return {key: value for key, value in read(path).items() if key != base}, str(path)
    else:
        return {}, ""
    return read(path), str(path)


def config_file(path: Path | str) -> Path:
    path = Path(path)
    file = path / "config.yaml" if path.is_dir() or not path.suffix else path
    if file.is_file():
        return file
    folder = file.parent if file.parent.is_dir() else file.parent.parent
    here = sorted(str(one.parent) for one in folder.glob("*/config.yaml"))
    near = difflib.get_close_matches(str(file.parent), here, 3, cutoff=0.0)
    hint = "; runs there: " + ", ".join(near) if near else ""
    raise FileNotFoundError(f"no run at {str(path)!r}: {file} is missing{hint}")


def read(path: Path) -> Mapping[str, Any]:
    try:
        loaded = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} is not a readable config: {first}") from error
    if not isinstance(loaded, DictConfig) or not loaded:
        raise ValueError(f"{path} is not a readable config: expected fields, got nothing of the kind")
    return {str(key): value for key, value in OmegaConf.to_container(loaded).items()}  # type: ignore[union-attr]


def compose(config_cls: type, groups: Groups, overrides: Overrides, layer: Mapping[str, Any], source: str) -> Any:
    """The dataclass' defaults, a layer read from `source` over them, the overrides over that."""
    _check_groups(config_cls, groups)
    initial = {field.name: schema.default(field) for field in dataclasses.fields(config_cls)}
    stood = {group: choice(initial[group], choices) for group, choices in groups.items()}
    named = _named(layer, groups)
    _check_choices(named, groups, f"{source}: ")
    _check_choices(overrides.choices, groups, "")
    stood |= named
    chosen = stood | overrides.choices
    layer = _for_choices(layer, groups, stood, chosen)
    known = [name for name in schema.names(config_cls) if name.partition(".")[0] not in groups]
    for group, name in chosen.items():
        known += [group, *schema.names(groups[group][name], f"{group}.")]
    _check_known(_paths(layer), known, chosen, f"{source}: ")
    _check_known(overrides.fields, known, chosen, "")
    composed = _merge(initial, groups, chosen, layer, list(overrides.texts.values()))
    return _typed(config_cls, groups, composed, chosen)


def _named(layer: Mapping[str, Any], groups: Groups) -> dict[str, str]:
    """The choices a layer makes; its keys such as `encoder/cnn` must name choices too."""
    named = {}
    for key, value in layer.items():
        group, slash, name = key.partition("/")
        if group not in groups:
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"{key}: expected fields, as in {key}: {{name: ...}}, got {value!r}")
        if slash:
            _check_choices({group: name}, groups, f"{key}: ")
        elif "name" in value:
            named[group] = str(value["name"])
    return named


def _for_choices(
    layer: Mapping[str, Any], groups: Groups, stood: Mapping[str, str], chosen: Mapping[str, str]
) -> dict[str, Any]:
    """The layer with only those group values that are meant for the choices that stand in the end."""
    kept = {key: value for key, value in layer.items() if key.partition("/")[0] not in groups}
    for group, name in chosen.items():
        own = dict(layer.get(group, {})) if stood[group] == name else {}
        own |= layer.get(f"{group}/{name}", {})
        own.pop("name", None)
        if own:
            kept[group] = own
    return kept


def _check_choices(choices: Mapping[str, str], groups: Groups, source: str) -> None:
    for group, name in choices.items():
        if name not in groups[group]:
            hint = schema.nearest(name, groups[group])
            raise ValueError(f"{source}unknown {group} {name!r}: {hint} ({group}={'|'.join(groups[group])})")


def _check_known(keys: Iterable[str], known: Sequence[str], chosen: Mapping[str, str], source: str) -> None:
    for key in keys:
        if key not in known:
            group = key.partition(".")[0]
            place = f" of {group}={chosen[group]}" if group in chosen else ""
            raise ValueError(f"{source}unknown field {key!r}{place}: {schema.nearest(key, known)}")


def _paths(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += _paths(value, f"{prefix}{key}.")
    return found


def _merge(
    initial: Mapping[str, Any],
    groups: Groups,
    chosen: Mapping[str, str],
    layer: Mapping[str, Any],
    texts: Sequence[str],
) -> dict[str, Any]:
    """Defaults, the groups' choices, the layer and the command line, merged and resolved by Hydra."""
    store = ConfigStore.instance()
    order: list[Any] = ["_self_"]
    for group, choices in groups.items():
        for name, cls in choices.items():
            # A script may hold other values for its default choice than the class does.
            own = schema.plain(initial[group]) if type(initial[group]) is cls else schema.defaults(cls)
            store.store(group=group, name=name, node=own)
        order.append({group: chosen[group]})
    store.store(group="layer", name="layer", node=dict(layer), package="_global_")
    top = {key: schema.plain(value) for key, value in initial.items() if key not in groups}
    store.store(name="config", node={"defaults": [*order, {"layer": "layer"}], **top})
    try:
        with hydra.initialize(config_path=None, version_base="1.3"):
            # `++` so that Hydra does not judge the fields: their names and types are checked here.
            config = hydra.compose("config", overrides=["++" + text for text in texts])
            return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"config: {str(error).splitlines()[0]}") from error


def _typed(config_cls: type, groups: Groups, composed: Mapping[str, Any], chosen: Mapping[str, str]) -> Any:
    """The composed values as dataclasses; only a group's choice names the class of its field."""
    hints = typing.get_type_hints(config_cls)
    built: dict[str, Any] = {}
    for key in hints:
        if key in groups:
            built[key] = schema.build(groups[key][chosen[key]], composed.get(key, {}), key)
        else:
            built[key] = schema.convert(composed[key], hints[key], key)
    return config_cls(**built)
