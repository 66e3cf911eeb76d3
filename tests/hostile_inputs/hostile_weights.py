"""Files of weights that are no encoder, or not what they seem."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hostile_cases import MARK, Trap, add


def published(**changes: object) -> dict[object, object]:
    """A small V-JEPA 2 with other tensors; None takes one out."""
    shapes = {"patch_embed.proj.weight": (24, 3, 2, 16, 16), "patch_embed.proj.bias": (24,), "norm.weight": (24,)}
    shapes |= {"norm.bias": (24,)}
    for name, shape in {
        **{f"norm{n}.{kind}": (24,) for n in (1, 2) for kind in ("weight", "bias")},
        **{"attn.qkv.weight": (72, 24), "attn.qkv.bias": (72,), "attn.proj.weight": (24, 24), "attn.proj.bias": (24,)},
        **{"mlp.fc1.weight": (48, 24), "mlp.fc1.bias": (48,), "mlp.fc2.weight": (24, 48), "mlp.fc2.bias": (24,)},
    }.items():
        shapes[f"blocks.0.{name}"] = shape
    state: dict[object, object] = {name: torch.randn(shape) for name, shape in shapes.items()}
    return {name: value for name, value in (state | changes).items() if value is not None}


def as_torch(state: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save(state, folder / "x.pt")
        return folder / "x.pt"

    return make


def as_safetensors(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.safetensors").write_bytes(content)
        return folder / "x.safetensors"

    return make


CONV, BLOCK = "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"
header = lambda text, size=None: (len(text) if size is None else size).to_bytes(8, "little") + text.encode()
for name, make in {
    "weights of nan": as_torch(published(**{BLOCK: torch.full((48, 24), float("nan"))})),
    "weights of infinity": as_torch(published(**{"norm.bias": torch.full((24,), float("inf"))})),
    "block 999999999": as_torch(published(**{"blocks.999999999.norm1.weight": torch.zeros(24)})),
    "block -1": as_torch(published(**{"blocks.-1.norm1.weight": torch.zeros(24)})),
    "block x": as_torch(published(**{"blocks.x.norm1.weight": torch.zeros(24)})),
    "block 1e9": as_torch(published(**{"blocks.1e9.norm1.weight": torch.zeros(24)})),
    "no blocks": as_torch({name: value for name, value in published().items() if "blocks" not in str(name)}),
    "no bias": as_torch(published(**{"norm.bias": None})),
    "integers for names": as_torch({0: torch.zeros(3), **published()} | {CONV: None}),
    "no tensors": as_torch({"encoder": "heavy"}),
    "a list": as_torch([torch.zeros(3)]),
    "states within states": as_torch({"encoder": {"encoder": {"model": published()}}, "epoch": "x"} | {"encoder": []}),
    "convolution of two axes": as_torch(published(**{CONV: torch.zeros(24, 3)})),
    "convolution of no size": as_torch(published(**{CONV: torch.zeros(24, 3, 2, 0, 0)})),
    "convolution of no time": as_torch(published(**{CONV: torch.zeros(24, 3, 0, 16, 16)})),
    "convolution of one channel": as_torch(published(**{CONV: torch.zeros(24, 1, 2, 16, 16)})),
    "patches of 1 pixel": as_torch(published(**{CONV: torch.zeros(24, 3, 1, 1, 1)})),
    "patches that are not square": as_torch(published(**{CONV: torch.zeros(24, 3, 2, 16, 8)})),
    "width 0": as_torch(published(**{CONV: torch.zeros(0, 3, 2, 16, 16)})),
    "positions of one axis": as_torch(published(cls_token=torch.zeros(1, 1, 24), pos_embed=torch.zeros(5))),
    "positions of nothing": as_torch(published(cls_token=torch.zeros(1, 1, 24), pos_embed=torch.zeros(1, 0, 24))),
    "positions missing": as_torch(published(cls_token=torch.zeros(1, 1, 24))),
    "block of one number": as_torch(published(**{BLOCK: torch.tensor(3.0)})),
    "block of 2^40 numbers": as_torch(published(**{BLOCK: torch.zeros(1).expand(2**20, 2**20)})),
    "sparse block": as_torch(published(**{BLOCK: torch.zeros(48, 24).to_sparse()})),
    "a trap": as_torch(published(**{BLOCK: Trap(os.mkdir, MARK)})),
    "safetensors of nothing": as_safetensors(b""),
    "safetensors of noise": as_safetensors(bytes(np.random.default_rng(3).integers(0, 256, 3000, np.uint8))),
    "safetensors whose header is 2^60": as_safetensors(header("{}", 2**60)),
    "safetensors past its end": as_safetensors(
        header('{"x": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}')
    ),
    "safetensors of deep JSON": as_safetensors(header('{"x": ' + "[" * 50_000)),
}.items():
    add("weights", f"weights {name}", make)
