"""Frozen dataclasses to plain values and back, checked against their annotations.

`plain` and `build` are inverse to each other: what a config holds can be written to YAML and read
back as the same dataclasses. Errors are `ValueError`s that name the field, what was expected and
what came. `sentences` reads the line of text under each field, which is its documentation.
"""

import ast
import dataclasses
import difflib
import inspect
import textwrap
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

MISSING = "???"  # OmegaConf's mark for a field that has no default and must be given


def nearest(name: str, valid: Collection[str], count: int = 3) -> str:
    """A clause that names the valid names closest to a mistyped one, or those beside it if none is."""
    parent, _, leaf = name.rpartition(".")
    beside = {full.rpartition(".")[2]: full for full in sorted(valid) if full.rpartition(".")[0] == parent}
    # A typo most likely stays in its place; else the right leaf may be at the wrong place.
    found = [beside[one] for one in difflib.get_close_matches(leaf, beside, count, cutoff=0.6)]
    found = found or [full for full in sorted(valid) if full.rpartition(".")[2] == leaf][:count]
    if not found and not (parent and beside):
        found = difflib.get_close_matches(name, sorted(valid), count, cutoff=0.75)
    if found:
        return "did you mean " + " or ".join(repr(one) for one in found) + "?"
    rest = list(beside.values()) or sorted(full for full in valid if "." not in full)
    return "valid are: " + ", ".join(rest) if rest else "there are none"


def plain(value: Any) -> Any:
    """Dataclasses become dicts, tuples lists, paths text; everything else stays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def default(field: dataclasses.Field) -> Any:
    """The field's default, or `MISSING` where it has none."""
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING


def defaults(cls: type) -> dict[str, Any]:
    """Every field of a dataclass with its default as a plain value."""
    return {field.name: plain(default(field)) for field in dataclasses.fields(cls)}


def nested(annotation: Any) -> type | None:
    """The dataclass an annotation allows (`Inner`, `Inner | None`), if it allows one."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((one for one in options if isinstance(one, type) and dataclasses.is_dataclass(one)), None)


def names(cls: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, nested dataclasses' included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield prefix + field.name
        inner = nested(hints[field.name])
        if inner is not None:
            yield from names(inner, f"{prefix}{field.name}.")


def build(cls: type, values: Any, where: str = "") -> Any:
    """An instance of a dataclass from plain values; fields that are not given keep their defaults.

    Args:
        cls: the dataclass.
        values: a mapping from field name to plain value.
        where: dotted name of this dataclass in the whole config, for messages.

    Raises:
        ValueError: on an unknown field, a missing one, or a value of the wrong type; and whatever
            the dataclass' own `__post_init__` refuses, with `where` put before it.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'config'}: expected fields of {cls.__name__}, got {values!r}")
    prefix = f"{where}." if where else ""
    fields = {field.name for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise ValueError(f"unknown field {prefix + str(key)!r}: {nearest(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    given = {key: convert(value, hints[key], prefix + key) for key, value in values.items()}
    for field in dataclasses.fields(cls):
        if field.name not in given and default(field) is MISSING:
            raise ValueError(f"{prefix}{field.name} has no default: give {prefix}{field.name}=...")
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def convert(value: Any, annotation: Any, where: str) -> Any:
    """One plain value as the annotation wants it; `ValueError` where it cannot be had exactly."""
    if isinstance(value, str) and value == MISSING:
        raise ValueError(f"{where} has no default: give {where}=...")
    if annotation is Any:
        return value
    if _is_union(annotation):
        return _convert_union(value, annotation, where)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        if value in arguments:
            return value
        clause = nearest(str(value), [str(one) for one in arguments])
        raise ValueError(f"{where}: expected {describe(annotation)}, got {value!r}: {clause}")
    if origin is tuple:
        return _convert_tuple(value, annotation, where)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return build(annotation, value, where)
    return _convert_scalar(value, annotation, where)


def _convert_scalar(value: Any, annotation: Any, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is int and number and value == value // 1:  # so that steps=1e5 is a number of steps
        return int(value)
    if annotation is float and number:
        return float(value)
    if annotation in (str, Path) and isinstance(value, str | Path):
        return annotation(value)
    if annotation is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if annotation is types.NoneType and value is None:
        return None
    if annotation not in (bool, int, float, str, Path, types.NoneType):
        raise TypeError(f"{where}: a config field cannot be a {describe(annotation)}")
    hint = " (quote it to make it text)" if annotation is str and number else ""
    raise ValueError(f"{where}: expected {describe(annotation)}, got {value!r}{hint}")


def _convert_tuple(value: Any, annotation: Any, where: str) -> tuple:
    kinds = typing.get_args(annotation)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: expected {describe(annotation)}, written [a,b,...], got {value!r}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where}: expected {len(kinds)} values, got {len(value)}: {value!r}")
    return tuple(
        convert(item, kind, f"{where}[{index}]") for index, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _convert_union(value: Any, annotation: Any, where: str) -> Any:
    options = typing.get_args(annotation)
    if value is None and types.NoneType in options:
        return None
    options = [one for one in options if one is not types.NoneType]
    # The exact type first: in `int | str` text that is text stays text, a number stays a number.
    options.sort(key=lambda one: type(value) is not one)
    if len(options) == 1:
        try:
            return convert(value, options[0], where)
        except ValueError as error:
            wanted, whole = f"expected {describe(options[0])}", f"expected {describe(annotation)}"
            raise ValueError(str(error).replace(wanted, whole)) from error
    for option in options:
        try:
            return convert(value, option, where)
        except ValueError:
            continue
    raise ValueError(f"{where}: expected {describe(annotation)}, got {value!r}")


def describe(annotation: Any) -> str:
    """The annotation in words short enough for a line of help."""
    if annotation is types.NoneType:
        return "null"
    arguments = typing.get_args(annotation)
    if _is_union(annotation):
        return " or ".join(describe(one) for one in arguments)
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(str(one) for one in arguments)
    if typing.get_origin(annotation) is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {describe(arguments[0])}"
        return "[" + ", ".join(describe(one) for one in arguments) + "]"
    return {"str": "text", "Path": "path"}.get(getattr(annotation, "__name__", ""), "") or getattr(
        annotation, "__name__", str(annotation)
    )


def sentences(cls: type) -> dict[str, str]:
    """The text literal under each field of a dataclass and of the dataclasses it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):  # a class made at run time has no source to read
            continue
        body = typing.cast(ast.ClassDef, tree.body[0]).body
        for statement, below in zip(body, body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[statement.target.id] = " ".join(below.value.value.split())
    return found


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
