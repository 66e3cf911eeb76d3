"""The fields of config dataclasses: their names, their types in words, and values checked against them."""

import dataclasses
import functools
import json
import operator
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindreel.cli.notation import assigned
from mindreel.names import nearest

REQUIRED = "..."
_WORDS = {int: "an int", float: "a float", bool: "true or false", str: "text", Path: "a path", types.NoneType: "null"}
_RANGE = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below", "min_length": "of length at least"}


def walk(cls: type, instance: Any = None, **chosen: type) -> Iterator[tuple[str, Any, Any, type]]:
    """(dotted name, annotation, default, class) of all fields; `chosen` are the classes of the groups' fields."""
    hints = typing.get_type_hints(cls, include_extras=True) | chosen
    for name, value in defaults(cls, instance).items():
        yield name, hints[name], value, cls
        if inner := nested(hints[name]):
            for row in walk(inner, value if type(value) is inner else None):
                yield f"{name}.{row[0]}", *row[1:]


def field_names(cls: type) -> list[str]:
    """Dotted names of all fields, nested dataclasses' included."""
    return [name for name, *_ in walk(cls)]


def defaults(cls: type, instance: Any = None) -> dict[str, Any]:
    """Field -> its value in `instance`, else its default; `REQUIRED` if it has none."""
    found = {}
    for field in dataclasses.fields(cls):
        default = field.default_factory() if callable(field.default_factory) else field.default
        found[field.name] = getattr(instance, field.name, REQUIRED if default is dataclasses.MISSING else default)
    return found


def plain(cls: type, instance: Any = None) -> dict[str, Any]:
    """The same with dataclasses as dicts, tuples as lists, paths as text, and without what is missing."""
    from pydantic_core import to_jsonable_python  # not above, as is pydantic below: help does without

    values = {name: value for name, value in defaults(cls, instance).items() if value is not REQUIRED}
    return to_jsonable_python(values, inf_nan_mode="constants")


def nested(kind: Any) -> type | None:
    """The dataclass that an annotation allows (`Inner`, `Inner | None`), if it allows one."""
    kinds = (kind, *typing.get_args(kind))
    return next((one for one in kinds if isinstance(one, type) and dataclasses.is_dataclass(one)), None)


def describe(kind: Any) -> str:
    """An annotation in words, its range included."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        marks = [mark for item in args[1:] for mark in getattr(item, "metadata", [item])]
        limits = [(words, getattr(mark, name, None)) for mark in marks for name, words in _RANGE.items()]
        return f"{describe(args[0])} {' and '.join(f'{words} {limit}' for words, limit in limits if limit is not None)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, args))
    if origin is tuple:
        return f"a list [a,b,...], each {describe(args[0])}" if ... in args else f"[{', '.join(map(describe, args))}]"
    return _WORDS.get(kind) or ("one of " + ", ".join(map(str, args)) if args else f"the fields of {kind.__name__}")


@functools.cache
def _adapter(cls: type, chosen: tuple[tuple[str, type], ...]) -> Any:
    import pydantic
    from typing_extensions import TypedDict

    kinds = typing.get_type_hints(cls, include_extras=True) | dict(chosen)
    shape: Any = TypedDict("shape", {name: kinds[name] for name in defaults(cls)})  # type: ignore
    config = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return pydantic.TypeAdapter(pydantic.with_config(config)(shape))


def _number(text: str) -> float:
    return int(float(text)) if float(text).is_integer() else float(text)  # 1e3 is an int; an int may be a float


def validate(cls: type, chosen: dict[str, type], values: dict[str, Any]) -> dict[str, Any]:
    """Plain values as the fields want them, their dataclasses built; `ValueError(place, sentence)` on a mistake."""
    from pydantic_core import ValidationError

    values = json.loads(json.dumps(values, default=str), parse_float=_number)
    try:
        return _adapter(cls, tuple(chosen.items())).validate_json(json.dumps(values))
    except ValidationError as error:
        mistake: Any = error.errors()[0]
    kind, where = mistake["type"], ".".join(map(str, mistake["loc"]))
    kinds = {name: annotation for name, annotation, *_ in walk(cls, **chosen)}
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        raise ValueError(where, f"unknown field {where!r}: {nearest(where, kinds)}")
    if kind == "missing" and where in kinds:
        raise ValueError(where, f"{where} has no default: give {where}=...")
    if "error" in mistake.get("ctx", {}):  # of a dataclass' own __post_init__
        raise ValueError(where, f"{where}: {mistake['ctx']['error']}")
    while where not in kinds:  # a value in a list: the sentence is about the list
        where = where.rpartition(".")[0]
    value = functools.reduce(operator.getitem, where.split("."), values)
    wanted = describe(kinds[where]).replace("a float", "a finite float" if kind == "finite_number" else "a float")
    raise ValueError(where, f"{assigned(where, value)}: expected {wanted}")
