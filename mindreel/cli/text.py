"""Values as text: YAML in files, and on the command line if it begins with a bracket or a quote."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

_NULL, _INT = r"(null|~|)\Z", r"(0|-?[1-9]\d*)\Z"
_NOT_TEXT = re.compile(rf"null\Z|{_INT}|[\[{{'\"]")


class _Loader(yaml.BaseLoader):
    """Leaves all but null and ints as text: what `no`, `007` or `1e-3` means depends on the field's type."""


_Loader.add_implicit_resolver("null", re.compile(_NULL), None)
_Loader.add_constructor("null", lambda loader, node: None)
_Loader.add_implicit_resolver("int", re.compile(_INT), None)
_Loader.add_constructor("int", lambda loader, node: int(node.value))


def read(path: Path) -> dict[str, Any]:
    """The fields of a YAML file; `ValueError` if it cannot be read or has none."""
    try:
        return dict(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except (yaml.YAMLError, OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a readable config: {' '.join(str(error).split())}") from error


def dump(values: dict[str, Any]) -> str:
    """YAML that `read` reads back."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def parse(text: str) -> Any:
    """The value that is written behind `field=`; `ValueError` if its brackets or quotes do not close."""
    try:
        return yaml.load(text, _Loader) if _NOT_TEXT.match(text) else text
    except yaml.YAMLError as error:
        raise ValueError(f"{text} cannot be read: do its brackets and quotes close?") from error


def assigned(name: str, value: Any) -> str:
    """The argument that gives a field this value, with text in quotes where it would be read as something else."""
    plain = isinstance(value, str) and not _NOT_TEXT.match(value) and "," not in value
    return f"{name}={value if plain else json.dumps(value, ensure_ascii=False, default=str)}"
