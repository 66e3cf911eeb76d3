"""Files that torch wrote, read as tensors and plain values alone, and only if they hold what they declare."""

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_LARGEST_PICKLE = 32_000_000  # bytes; tensors lie outside it
_ALLOWED = re.compile(
    r"collections OrderedDict"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.nn\.parameter Parameter"
    r"|torch\.storage UntypedStorage"
    r"|torch (\w+Storage|Size|device|b?float\d+|float8_\w+|u?int\d+|bool|complex\d+)"
)
"""Names that a file of tensors needs. Calling them builds tensors and does nothing else."""
DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    AssertionError,
    zipfile.BadZipFile,
)
"""Errors that torch, pickle and zipfile raise for a file that is damaged or made to do harm."""


class UnreadableTorchFileError(ValueError):
    """A file that torch did not write, that is damaged, or that holds other things than tensors and plain values."""


def read_torch_file(path: Path, device: torch.device | str = "cpu") -> Any:
    """Reads what `torch.save` wrote: tensors and plain values in dicts, lists and tuples.

    Nothing in the file is run. It is refused before it takes memory if it declares more than it holds: compressed
    parts, or tensors larger than what is stored of them.

    Args:
        path: the file, of torch 1.6 or later.
        device: where tensors go.

    Raises:
        UnreadableTorchFileError: it is something else.
    """
    try:
        check_torch_file(path)
        state = torch.load(path, map_location=device, weights_only=True)
        for name, tensor in values_in(state):
            if not isinstance(tensor, torch.Tensor):
                continue
            if tensor.layout != torch.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
                raise UnreadableTorchFileError(f"its tensor {name} {tuple(tensor.shape)} is larger than what is stored")
        return state
    except UnreadableTorchFileError:
        raise
    except DAMAGE as error:
        raise UnreadableTorchFileError(first_sentence(error)) from error


def is_truncated(path: Path) -> bool:
    """Says if a file begins as torch writes it and lacks its end, where a ZIP archive has its directory."""
    with path.open("rb") as file:
        return file.read(2) == b"PK" and not zipfile.is_zipfile(path)


def first_sentence(error: Exception) -> str:
    """The first sentence of an error, without advice that follows: torch's is to run what is in the file."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")[:300]


def values_in(state: Any) -> Iterator[tuple[str, Any]]:
    """Every value of nested dicts, lists and tuples, each of these once, and its dotted name, cut at 200 letters."""
    seen, rest = set(), [("", state)]
    while rest:
        name, value = rest.pop()
        if not isinstance(value, dict | list | tuple):
            yield name, value
        elif id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            rest += [(f"{name}.{key}".lstrip(".")[:200], inner) for key, inner in items]


def check_torch_file(path: Path) -> None:
    """Raises UnreadableTorchFileError unless a file is an archive of tensors that torch wrote, as large as it says."""
    try:
        _check_archive(path)
    except UnreadableTorchFileError:
        raise
    except DAMAGE as error:
        raise UnreadableTorchFileError(first_sentence(error)) from error


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise UnreadableTorchFileError("it is not a file")
    if not zipfile.is_zipfile(path):
        raise UnreadableTorchFileError("it is truncated" if is_truncated(path) else "it is no archive of torch")
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > size or any(part.compress_type for part in parts):
            raise UnreadableTorchFileError("its parts are compressed or larger than the file, as torch writes none")
        pickles = [part for part in parts if part.filename.endswith(".pkl")]
        if not any(part.filename.endswith("/data.pkl") for part in pickles):
            raise UnreadableTorchFileError("it is no archive of torch")
        for part in pickles:
            if part.file_size > _LARGEST_PICKLE:
                raise UnreadableTorchFileError(f"its {part.filename} is larger than {_LARGEST_PICKLE / 1e6:g} MB")
            _check_names(archive.read(part))


def _check_names(content: bytes) -> None:
    for operation, argument, _ in pickletools.genops(content):
        named = operation.name in ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
        if named and not (operation.name == "GLOBAL" and _ALLOWED.fullmatch(str(argument))):
            name = str(argument or operation.name).replace(" ", ".")
            raise UnreadableTorchFileError(f"it names {name}, which is more than tensors and plain values")
