"""Values as text: YAML in files, and in `key=value` where the value begins with a bracket or a quote."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

# Instead of YAML 1.1's rules, for which `no`, `12:30`, `007` and `2024-01-01` are no text, and `1e-3` is.
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})
_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {})  # quotes what either set of rules does not take for text
for _tag, _rule in {
    "null": r"((?i:null)|~|)\Z",
    "bool": r"(?i:true|false)\Z",
    "int": r"-?(0|[1-9]\d*)\Z",
    "float": r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?\Z|[-+]?\.(?i:inf|nan)\Z",
}.items():
    yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_rule), None, _Loader, _Dumper)


def read(path: Path | str) -> dict[str, Any]:
    """The fields of a YAML file; `ValueError` if it cannot be read or has none."""
    try:
        loaded = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} is not a readable config: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError(f"{path} is not a readable config: expected fields, got nothing of the kind")
    return {str(key): value for key, value in loaded.items()}


def dump(values: dict[str, Any]) -> str:
    """YAML that `read` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse(text: str) -> Any:
    """The value that is written behind `key=`; `ValueError` if its brackets or quotes do not close."""
    if not text:
        return ""
    if text[0] not in "[{'\"":  # a number, true, false, null or text as it stands
        loader = _Loader("")
        return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text))
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{text} cannot be read: do its brackets and quotes close?") from error


def assigned(key: str, value: Any) -> str:
    """The argument that gives a field this value, with text in quotes where it would be read as something else."""
    if not isinstance(value, str | Path):
        return f"{key}={json.dumps(value)}"
    text = str(value)
    if re.search(r"[\[\]{}'\",]", text) or parse(text) != text:
        text = yaml.dump(text, default_style='"', width=10**9).strip()
    return f"{key}={text}"


def spread(argument: str) -> list[str]:
    """One `key=value` argument for each value of a comma list; `[a,b]`, `{...}` and quoted text are one value."""
    key, _, text = argument.partition("=")
    try:
        nodes = yaml.compose(f"[{text}]", _Loader).value
    except yaml.YAMLError:
        nodes = []
    values = [text[node.start_mark.index - 1 : node.end_mark.index - 1] for node in nodes]
    return [f"{key}={value}" for value in values] if len(values) > 1 else [argument]
