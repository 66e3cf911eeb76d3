"""Checks of a folder before transformers reads it: nothing in it leads elsewhere, and its sizes fit its weights.

Sizes in a config.json cost a few letters each, and a model of that size is built before its weights are looked for.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from mindreel.torch_files import check_torch_file

PREPROCESSING_FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
_LARGEST_JSON = 64_000_000  # bytes
_SIZE = re.compile(r"(.*_)?(sizes?|dims?|layers|heads|depths?|width|channels|num_frames|frames_per_clip|ratio)")
_MOST, _MOST_WORDS = 131_072, 10_000_000
_MOST_LAYERS = 1000
_POSITIVE = {"patch_size", "hidden_size", "image_size", "crop_size", "num_attention_heads", "tubelet_size"}
_POSITIVE |= {"num_frames", "frames_per_clip", "num_channels", "intermediate_size"}
_BYTES_A_PARAMETER = 0.5  # of the smallest arithmetic that weights come in


def read_json(file: Path) -> Any:
    """A JSON file's content.

    Raises:
        ValueError: it is no JSON, or too large or too deep to be a setting.
    """
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"larger than {_LARGEST_JSON / 1e6:g} MB")
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{file} is not JSON that settings are kept in ({str(error).splitlines()[0]}).") from None


def check_folder(folder: Path) -> None:
    """Makes sure that what transformers reads of a folder lies in it, and that its config.json gives sizes.

    Raises:
        ValueError: it does not.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no whole model: there is no config.json in it.")
    settings = read_json(folder / "config.json")
    if not isinstance(settings, dict):
        raise ValueError(f"{folder / 'config.json'}: expected settings by their names.")
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder} holds an adapter, which leads to another model: merge the two and save them whole.")
    for name in ("quantization_config", "transformers_weights"):
        if settings.get(name) is not None:
            raise ValueError(f"{folder / 'config.json'}: {name} is not read: save the model's own weights, whole.")
    for name, value in _settings("", settings):
        _check_size(folder / "config.json", name, value)
    for file in folder.iterdir():
        if file.suffix in (".json", ".safetensors", ".bin") and not file.is_file():
            raise ValueError(f"{file} is not a file.")
        if file.name.endswith(".index.json"):
            _check_index(file)
        if file.suffix == ".bin":
            try:
                check_torch_file(file)
            except ValueError as error:
                raise ValueError(
                    f"{folder} holds no whole model: {file.name} is not of tensors alone ({error})."
                ) from None


def _settings(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every setting, however deep, by its own name; the items of a list by that of the list."""
    rest = [(name, value)]
    while rest:
        name, value = rest.pop()
        if isinstance(value, dict):
            rest += value.items()
        elif isinstance(value, list):
            rest += [(name, item) for item in value]
        else:
            yield name, value


def _check_size(file: Path, name: str, value: Any) -> None:
    if value is None or isinstance(value, bool) or not _SIZE.fullmatch(name):
        return
    least = 1 if name in _POSITIVE else 0
    most = _MOST_LAYERS if re.search("layers|depth", name) else _MOST_WORDS if "vocab" in name else _MOST
    whole = isinstance(value, int) or isinstance(value, float) and "ratio" in name
    if not whole or not least <= value <= most:
        shown = f"{value!r}"[:60]
        raise ValueError(f"{file}: expected {name} to be a number from {least} to {most}, got {shown}.")


def _check_index(file: Path) -> None:
    """Raises ValueError unless an index of weights names files beside it."""
    index = read_json(file)
    names = index.get("weight_map") if isinstance(index, dict) else None
    names = list(names.values()) if isinstance(names, dict) else [None]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (file.parent / name).is_file():
            raise ValueError(f"{file}: expected weight_map to name files beside it, got {f'{name!r}'[:100]}.")


def check_weights(folder: Path, empty: nn.Module) -> None:
    """Raises ValueError if a model, built without memory, is far larger than the weights in its folder."""
    held = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".bin"))
    declared = sum(value.numel() for value in (*empty.parameters(), *empty.buffers()))
    if declared * _BYTES_A_PARAMETER > held + 50_000_000:
        raise ValueError(
            f"{folder} holds no whole model: its config.json declares {declared:.3g} parameters, and its weights are "
            f"{held / 1e6:.3g} MB."
        )


def check_preprocessing(file: Path, settings: Any) -> None:
    """Raises ValueError unless means, standard deviations and sizes in a preprocessor's settings are numbers."""
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: expected settings by their names.")
    for name in ("image_mean", "image_std"):
        value = settings.get(name)
        least = -math.inf if name == "image_mean" else 0.0
        three = isinstance(value, list) and len(value) == 3
        if value is not None and not (three and all(_is_number(x) and least < x for x in value)):
            raise ValueError(f"{file}: expected {name} to be three numbers{' above 0' * (least == 0)}, got {value!r}.")
    factor = settings.get("rescale_factor", 1.0)
    if not _is_number(factor) or not 1e-6 <= factor <= 1e6:
        raise ValueError(f"{file}: expected rescale_factor to be a number above 0, got {f'{factor!r}'[:60]}.")
    for name in ("size", "crop_size"):
        for _, value in _settings(name, settings.get(name)):
            if value is not None and not (isinstance(value, int) and 1 <= value <= _MOST):
                raise ValueError(f"{file}: expected {name} to be pixels, got {f'{value!r}'[:60]}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
