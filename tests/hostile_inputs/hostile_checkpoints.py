"""Checkpoints that hold code, are damaged, or whose parts are of a wrong type."""

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hostile_cases import MARK, Trap, add

FORMAT = "mindreel-checkpoint-1"


def checkpoint(**parts: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save({"format": FORMAT, **parts}, folder / "x.pt")
        return folder / "x.pt"

    return make


def rewritten(change: Callable[[str, bytes], bytes], how: int = zipfile.ZIP_STORED, **parts: object):
    """A checkpoint whose parts are changed in its archive: `change(name, content)`."""

    def make(folder: Path) -> Path:
        path = checkpoint(**parts)(folder)
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", how) as archive:
            for name, data in content.items():
                archive.writestr(name, change(name, data))
        return path

    return make


def plain(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.pt").write_bytes(content)
        return folder / "x.pt"

    return make


def cut(fraction: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = checkpoint(x=torch.zeros(1000))(folder)
        path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
        return path

    return make


def pickled(content: bytes) -> Callable[[Path], Path]:
    """Another pickle in the archive's place of its own."""
    return rewritten(lambda name, data: content if name.endswith("data.pkl") else data)


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def pipe_at(folder: Path) -> Path:
    os.mkfifo(folder / "x.pt")
    return folder / "x.pt"


def folder_at(folder: Path) -> Path:
    return folder


TRAPS: dict[str, Callable[[Path], Path]] = {
    "trap in a checkpoint": checkpoint(x=Trap(os.mkdir, MARK)),
    "trap that evaluates": checkpoint(x=Trap(eval, f"__import__('os').mkdir({MARK!r})")),
    "trap that runs a program": checkpoint(x=Trap(os.system, f"touch {MARK}")),
    "trap as a plain pickle": plain(pickle.dumps(Trap(os.mkdir, MARK), protocol=2)),
    "trap of protocol 0": plain(pickle.dumps(Trap(os.mkdir, MARK), protocol=0)),
    "trap of protocol 5": plain(pickle.dumps(Trap(os.mkdir, MARK), protocol=5)),
    "trap of protocol 4 in an archive": pickled(pickle.dumps(Trap(os.mkdir, MARK), protocol=4)),
    "trap of an instance": pickled(b"(S'" + MARK.encode() + b"'\niposix\nmkdir\n."),
    "trap of an extension": pickled(b"\x80\x02\x82\x01."),
    "counter of collections": checkpoint(x=collections.Counter("abc")),
    "numpy": checkpoint(x=np.float64(3)),
    "bytes": checkpoint(x=bytearray(3)),
    "8 GB of bytes": pickled(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R."),
}
DAMAGED: dict[str, Callable[[Path], Path]] = {
    "nothing": plain(b""),
    "text": plain(b"hello"),
    "noise": plain(bytes(np.random.default_rng(2).integers(0, 256, 3000, np.uint8))),
    "cut to a tenth": cut(0.1),
    "cut in half": cut(0.5),
    "cut near its end": cut(0.99),
    "pipe": pipe_at,
    "folder": folder_at,
    "40 MB of zeros, deflated": rewritten(
        lambda name, data: bytes(40_000_000) if name.endswith("/0") else data, zipfile.ZIP_DEFLATED, x=torch.zeros(3)
    ),
    "deflated": rewritten(lambda name, data: data, zipfile.ZIP_DEFLATED, x=torch.zeros(3)),
    "storage that is too short": rewritten(
        lambda name, data: b"" if name.endswith("/0") else data, x=torch.zeros(1000)
    ),
    "tensor of 2^40 numbers": checkpoint(x=torch.zeros(1).expand(2**20, 2**20)),
    "pickle of 40 MB": pickled(b"\x80\x02" + b"N0" * 20_000_000 + b"N."),
    "lists 100000 deep": pickled(nested(100_000)),
    "list in itself": pickled(b"\x80\x02]q\x00h\x00a."),
    "pickle of nothing": pickled(b""),
    "pickle without an end": pickled(b"\x80\x02N"),
    "number of 10^6 digits": pickled(b"\x80\x02\x8b\x40\x42\x0f\x00" + b"\x01" * 1_000_000 + b"."),
    "no format": plain(b"PK\x05\x06" + bytes(18)),
    "archive of text": rewritten(lambda name, data: b"text", x=torch.zeros(3)),
    "another format": checkpoint(format="mindreel-checkpoint-0"),
    "list": pickled(b"\x80\x02]."),
    "negative updates": checkpoint(counters={"updates": -(10**9)}),
    "negative step": checkpoint(pretrainer={"step": -1}),
    "endless updates": checkpoint(counters={"owed": float("inf")}),
    "updates of nan": checkpoint(counters={"owed": float("nan")}),
    "negative rows": checkpoint(replay={"written": torch.tensor([-5, 3])}),
}
for name, make in (TRAPS | DAMAGED).items():
    add("checkpoint", f"checkpoint {name}", make)

LAYER, OPTIMIZER = torch.nn.Linear(2, 2).state_dict(), {"state": {}, "param_groups": []}
REPLAY = {"data": {}, "written": torch.zeros(2, dtype=torch.long), "episode": torch.zeros(2), "encoder_id": ""}
for name, parts in {
    "encoder a list": {"encoder": [1, 2]},
    "encoder a number": {"encoder": 3},
    "encoder of text": {"encoder": {"weight": "heavy", "bias": "none"}},
    "encoder of numbers for names": {"encoder": {1: torch.zeros(2)}},
    "encoder of other shapes": {"encoder": {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}},
    "optimizer a list": {"encoder": LAYER, "optimizer": []},
    "optimizer of text": {"encoder": LAYER, "optimizer": {"state": "x", "param_groups": "y"}},
    "optimizer of other groups": {"encoder": LAYER, "optimizer": OPTIMIZER},
    "nothing": {},
}.items():
    add("state", f"state {name}", checkpoint(**parts))
OPTIMIZED = torch.optim.Adam(torch.nn.Linear(2, 2).parameters()).state_dict()
for name, replay in {
    "a number": 5,
    "a list": [REPLAY],
    "of text": {**REPLAY, "written": "many"},
    "of numbers": {**REPLAY, "written": 7},
    "of other worlds": {**REPLAY, "written": torch.zeros(5, dtype=torch.long)},
    "of data of text": {**REPLAY, "data": {"action": "x"}},
    "of data without worlds": {**REPLAY, "data": {"action": torch.zeros(())}, "written": torch.tensor([3, 3])},
    "of half its parts": {"data": {}, "written": torch.tensor([1, 1])},
}.items():
    add("state", f"state replay {name}", checkpoint(encoder=LAYER, optimizer=OPTIMIZED, replay=replay))
