"""HDF5 files that lead elsewhere, or declare more than they hold."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from hostile_cases import each


def hdf5(folder: Path, fill: Callable[[h5py.File], object]) -> None:
    with h5py.File(folder / "x.h5", "w") as file:
        fill(file)


def arrays(**columns: object) -> Callable[[h5py.File], None]:
    """Twenty frames, and other columns beside them or in their place."""

    def fill(file: h5py.File) -> None:
        for name, values in ({"pixels": np.zeros((20, 8, 8, 3), np.uint8)} | columns).items():
            file[name] = values

    return fill


def declared(shape: tuple[int, ...], chunks: tuple[int, ...] | None = None, write: int = 0, name: str = "pixels"):
    """An array that is larger than what is stored of it."""

    def fill(file: h5py.File) -> None:
        if name != "pixels":
            file["pixels"] = np.zeros((20, 8, 8, 3), np.uint8)
        made = file.create_dataset(name, shape, "u1", chunks=chunks, compression="gzip" if chunks else None)
        if write:
            made[(slice(write),) + tuple(slice(count) for count in (chunks or shape)[1:])] = 0

    return fill


def outside(kind: str) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        secret = Path(file.filename).parents[1] / "secret"
        if kind == "link":
            file["pixels"] = h5py.ExternalLink(str(secret / "secret.h5"), "/pixels")
        elif kind == "linked action":
            arrays()(file)
            file["actions"] = h5py.ExternalLink(str(secret / "secret.h5"), "/actions")
        elif kind == "linked group":
            file["data"] = h5py.ExternalLink(str(secret / "secret.h5"), "/")
        elif kind == "linked lengths":
            arrays()(file)
            file["meta/ep_len"] = h5py.ExternalLink(str(secret / "secret.h5"), "/ep_len")
        elif kind.startswith("storage"):
            shape = (20, 8, 8, 3) if kind == "storage" else (20, 1)
            stored = [(str(secret / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
            if kind != "storage":
                arrays()(file)
            name = "pixels" if kind == "storage" else kind.split()[1]
            file.create_dataset(name, shape, "u1", external=stored)
        else:
            layout = h5py.VirtualLayout((20, 8, 8, 3), "u1")
            layout[:] = h5py.VirtualSource(str(secret / "secret.h5"), "pixels", (20, 8, 8, 3))
            file.create_virtual_dataset("pixels", layout)

    return fill


def circle(file: h5py.File) -> None:
    file.create_group("a/b")
    file["a/b/a"], file["a/b/root"] = file["a"], file["/"]


def deep(file: h5py.File) -> None:
    file["/".join(["a"] * 800) + "/pixels"] = np.zeros((1, 8, 8, 3), np.uint8)


HDF5 = {
    "external link": outside("link"),
    "external link of actions": outside("linked action"),
    "external link of a group": outside("linked group"),
    "external link of lengths": outside("linked lengths"),
    "external storage": outside("storage"),
    "external storage of actions": outside("storage actions"),
    "external storage of lengths": outside("storage ep_id"),
    "virtual": outside("virtual"),
    "circle of groups": circle,
    "800 groups deep": deep,
    "2^40 frames": declared((2**40, 8, 8, 3), (1, 8, 8, 3)),
    "2^30 frames, one stored": declared((2**30, 8, 8, 3), (1, 8, 8, 3), 1),
    "chunk of 1.6 GB": declared((2, 16000, 16000, 3), (2, 16000, 16000, 3)),
    "frames of 2 GB": declared((2, 26000, 26000, 3), (1, 100, 100, 3)),
    "10^7 frames of a pixel": declared((20_000_000, 1, 1, 3), (1_000_000, 1, 1, 3), 1_000_000),
    "wide actions": declared((20, 2_000_000_000), (1, 1_000_000), 1, "actions"),
    "2^33 lengths": declared((2**33,), (1_000_000,), 10, "ep_len"),
    "2^33 flags": declared((2**33,), (1_000_000,), 10, "terminals"),
    "negative lengths": arrays(ep_len=np.array([-5, 25])),
    "lengths past 64 bits": arrays(ep_len=np.array([2**63 - 1, 20])),
    "unsigned lengths": arrays(ep_len=np.array([2**64 - 1, 21], np.uint64)),
    "offsets past the end": arrays(ep_offset=np.array([0, 10**15])),
    "endless numbers": arrays(episode_id=np.full(20, np.nan)),
    "flags of nan": arrays(terminals=np.full(20, np.nan)),
    "actions of nan": arrays(actions=np.full((20, 2), np.nan)),
    "actions of 1e300": arrays(actions=np.full((20, 2), 1e300)),
    "actions of text": arrays(actions=[b"left"] * 20),
    "actions of records": arrays(actions=np.zeros(20, [("x", "f4"), ("y", "S5")])),
    "actions of references": lambda file: arrays(actions=np.array([file.ref] * 20, h5py.ref_dtype))(file),
    "actions of no width": arrays(actions=np.zeros((20, 0))),
    "rewards of text": arrays(rewards=[b"one"] * 20),
    "no frames": arrays(pixels=np.zeros((0, 8, 8, 3), np.uint8)),
    "pixels of no width": arrays(pixels=np.zeros((20, 8, 0, 3), np.uint8)),
    "pixels in a name of dots": lambda file: file.create_dataset("../../secret", data=[1.0]),
    "a file without a name": lambda file: file.attrs.update(ep_len="twenty"),
}
each("data", hdf5, **{f"hdf5: {name}": fill for name, fill in HDF5.items()})
each(
    "data",
    lambda folder, content: (folder / "x.h5").write_bytes(content) and None,
    **{
        "hdf5: empty": b"",
        "hdf5: noise": b"\x89HDF\r\n\x1a\n" + bytes(np.random.default_rng(1).integers(0, 256, 3000, np.uint8)),
        "hdf5: zeros": b"\x89HDF\r\n\x1a\n" + bytes(3000),
    },
)


def cut_hdf5(folder: Path, fraction: float) -> None:
    hdf5(folder, arrays(actions=np.zeros((20, 2))))
    content = (folder / "x.h5").read_bytes()
    (folder / "x.h5").write_bytes(content[: int(fraction * len(content))])


each("data", cut_hdf5, **{"hdf5: cut to a third": 0.3, "hdf5: cut near its end": 0.99})
