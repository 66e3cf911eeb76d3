"""Public encoders that transformers has no class for, read from their published state dicts.

The .pt files of facebookresearch/jepa and vjepa2 and those of OpenGVLab/InternVideo, of stage 1, stage 2 or tuned. The
architecture follows from the tensors' names and shapes. Only tensors are read, so a file cannot run code.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mindreel.encoders.public.architectures import (
    PublishedInternVideo2,
    PublishedViT,
    PublishedVJEPA,
    PublishedVJEPA1,
    sine_grid,
)
from mindreel.torch_files import UnreadableTorchFileError, first_sentence, read_torch_file

KNOWN = "V-JEPA, V-JEPA 2, V-JEPA 2.1 or InternVideo2"


def load_published(path: Path, heads: int = 0) -> PublishedViT:
    """The encoder in a published file, in evaluation mode and float32.

    Args:
        path: a .pt, .pth, .bin or .safetensors file.
        heads: attention heads; 0 for the number that the published models of that width have.

    Raises:
        ValueError: the file holds something else than tensors, is damaged, or is of no layout known here.
    """
    state = _encoder_tensors(path, _read(path))
    kind = _kind(path, state)
    width = state["patch_embed.proj.weight"].shape[0]
    heads = heads or kind.heads_of.get(width, 0)
    if not heads or width % heads:
        raise ValueError(
            f"{path}: no published model is {width} wide, so its attention heads are not known: "
            f"set encoder.heads to a divisor of {width}."
        )
    _check_blocks(path, state)
    try:
        with torch.device("meta"):  # the file's tensors are taken as they are
            model = kind(state, heads)
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{path}: not in the layout of a published {KNOWN}: {error}.") from None
    wanted = model.state_dict()
    wrong = [name for name, value in wanted.items() if name not in state or state[name].shape != value.shape]
    unknown = [name for name in state if name not in wanted and not name.startswith(kind.unused)]
    if wrong or unknown:
        raise ValueError(
            f"{path}: not in the layout of a published {KNOWN}: of {len(wanted)} tensors {len(wrong)} are missing or "
            f"of another shape and {len(unknown)} are not known ({', '.join((wrong + unknown)[:3])})."
        )
    model.load_state_dict({name: state[name].float() for name in wanted}, assign=True)
    return model.eval()


def _kind(path: Path, state: Mapping[str, Tensor]) -> type[PublishedViT]:
    """The class of a file's model.

    The files of V-JEPA and V-JEPA 2 have the same names and shapes, tables of positions included: the first adds its
    table, the second ignores one that is left over. They differ in the size that they were trained at, which the
    table tells.
    """
    if "cls_token" in state:
        return PublishedInternVideo2
    table = state.get("pos_embed")
    grid = sine_grid(table) if table is not None else None
    if grid is None or any(name.startswith("norms_block.") for name in state):
        return PublishedVJEPA
    dim, _, _, patch, _ = state["patch_embed.proj.weight"].shape
    size = grid[1] * patch
    if size == 224 or size == 384 and dim == 1280:  # V-JEPA's ViT-L/16, ViT-H/16 and ViT-H/16 at 384 pixels
        return PublishedVJEPA1
    if size == 256 or size == 384 and dim == 1408:  # V-JEPA 2's ViT-L, ViT-H and ViT-g, and ViT-g at 384
        return PublishedVJEPA
    raise ValueError(
        f"{path}: whether this is a V-JEPA, which adds its sine positions (those of {size} x {size} pixels), or a "
        "V-JEPA 2, which does not, is not known: V-JEPA is read at 224 pixels (ViT-H at 384 too) and V-JEPA 2 at 256 "
        "(ViT-g at 384 too). Take pos_embed out of the file if it is a V-JEPA 2."
    )


def _check_blocks(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless blocks are numbered 0, 1, 2, ...: as many are built as the highest number says."""
    named = {match[1] for match in (re.match(r"blocks\.([^.]*)\.", name) for name in state) if match}
    if not named or named != {str(number) for number in range(len(named))}:
        listed = ", ".join(sorted(named)[:3]) or "none"
        raise ValueError(
            f"{path}: not in the layout of a published {KNOWN}: expected blocks.0, blocks.1 and so on, got {listed}."
        )


def _read(path: Path) -> object:
    """A file's content, read without running any code that is in it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return read_torch_file(path)
    except (SafetensorError, UnreadableTorchFileError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{path}: neither a whole safetensors file nor a whole torch file of tensors alone "
            f"({first_sentence(error)}). Files that need code to be run are not read."
        ) from None


def _encoder_tensors(path: Path, held: object) -> dict[str, Tensor]:
    """The encoder's own tensors by their published names, out of a whole training checkpoint if need be."""
    for part in ("target_encoder", "ema_encoder", "encoder", "model", "module", "state_dict"):
        if isinstance(held, dict) and isinstance(held.get(part), dict):
            held = held[part]
            break
    tensors = {}
    if isinstance(held, dict):
        tensors = {n: t for n, t in held.items() if isinstance(n, str) and isinstance(t, Tensor)}
    first = "patch_embed.proj.weight"
    prefixes = [name.removesuffix(first) for name in tensors if name.endswith(first) and "teacher" not in name]
    if len(prefixes) != 1 or tensors[prefixes[0] + first].ndim != 5 or not tensors[prefixes[0] + first].numel():
        raise ValueError(
            f"{path}: no video encoder in it that is known here: expected the published {KNOWN}, with one 3D "
            f"convolution {first!r}."
        )
    return {n.removeprefix(prefixes[0]): t for n, t in tensors.items() if n.startswith(prefixes[0])}
