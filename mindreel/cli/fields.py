"""The fields of config dataclasses: listed with types and sentences, and changed to checked values."""

import dataclasses
import functools
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mindreel.cli.text import assigned
from mindreel.names import nearest

_RULES = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, use_attribute_docstrings=True)
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_LIMITS |= {"minItems": "length at least", "minLength": "length at least"}
_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
}


def walk(config: Any, section: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(dotted name, value, JSON schema) of all fields, those of the dataclasses in it included."""
    for key, schema in _schemas(type(config)).items():
        value = getattr(config, key)
        yield section + key, value, schema
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{section}{key}.")


@functools.cache
def _schemas(cls: type) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for base in filter(dataclasses.is_dataclass, reversed(cls.__mro__)):  # pydantic inherits fields without sentences
        schema = TypeAdapter(tuple[base], config=_RULES).json_schema()["$defs"][base.__name__]  # type: ignore
        found |= {key: found.get(key, {}) | field for key, field in schema.get("properties", {}).items()}
    return found


def in_words(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, such as "an integer (at least 0) or null"."""
    if "anyOf" in schema:
        return " or ".join(in_words(one) for one in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    words = f"a list [a,b,...], each {in_words(schema['items'])}" if "items" in schema else ""
    words = words or _TYPES.get(schema.get("type", ""), "fields")
    limits = ", ".join(f"{limit} {schema[name]}" for name, limit in _LIMITS.items() if name in schema)
    return f"{words} ({limits})" if limits else words


def updated(config: Any, values: Mapping[str, Any], known: Collection[str] = (), section: str = "") -> Any:
    """The config with other values; `ValueError` says which is wrong. `known` names are all that a typo may mean."""
    known = known or [name for name, _, _ in walk(config)]
    kinds, changed = typing.get_type_hints(type(config), include_extras=True), {}
    for key, value in values.items():
        name, current = f"{section}{key}", getattr(config, key, None)
        if name not in known:
            raise ValueError(f"unknown field {name!r}: {nearest(name, known)}")
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            changed[key] = updated(current, value, known, f"{name}.")
            continue
        try:
            (changed[key],) = TypeAdapter(tuple[kinds[key]], config=_RULES).validate_python((value,))  # type: ignore
        except ValidationError as error:
            raise ValueError(f"{assigned(name, value)}: expected {in_words(_schemas(type(config))[key])}") from error
    try:
        return dataclasses.replace(config, **changed)
    except ValueError as error:  # of its __post_init__
        raise ValueError(f"{section.rstrip('.')}: {error}".removeprefix(": ")) from error
