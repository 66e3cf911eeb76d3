"""Recordings in HDF5 files, as robomimic, D4RL and V-D4RL store them."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from mindreel.encoders.data.recordings import (
    DAMAGE,
    Corpus,
    Recording,
    UnreadableError,
    choose_camera,
    optional,
    reason,
    resize,
)

SUFFIXES = (".h5", ".hdf5")
_ACTION, _REWARD = ("actions", "action"), ("rewards", "reward")
_ENDED = ("terminals", "timeouts", "dones", "done", "terminated", "truncated")
"""Flags of an episode's last frame."""


def read_hdf5(files: Sequence[Path], camera: str) -> Corpus:
    """Every episode of these files; what does not open, or holds no pictures of that camera, is skipped."""
    h5py = optional("h5py")
    corpus = Corpus()
    for file in files:
        try:
            with h5py.File(file) as opened:
                for name in _group_names(h5py, opened):
                    _read_group(h5py, file, opened, name, camera, corpus)
        except DAMAGE as error:
            corpus.skipped[str(file)] = reason(error)
    return corpus


def _group_names(h5py: ModuleType, opened) -> list[str]:
    """robomimic's groups data/demo_N, or else the one group that the arrays are in."""
    data = opened.get("data")
    if not isinstance(data, h5py.Group):
        return [""]
    inner = [name for name in sorted(data, key=_natural) if not isinstance(data.get(name), h5py.Dataset)]
    if any(isinstance(data.get(name), h5py.Dataset) for name in (*_ACTION, *_REWARD, *_ENDED)):
        inner = []  # such as its pictures in data/obs
    return [f"/data/{name}" for name in inner] or ["/data"]


def _read_group(h5py: ModuleType, file: Path, opened, name: str, camera: str, corpus: Corpus) -> None:
    """Adds a group's episodes to the corpus: all of them, or none and why."""
    try:
        corpus.recordings += list(_episodes(h5py, file, opened[name or "/"], camera))
    except DAMAGE as error:
        corpus.skipped[f"{file}{name}"] = reason(error)


def _episodes(h5py: ModuleType, file: Path, group, camera: str) -> Iterator[Recording]:
    """One of robomimic's groups data/demo_N, an episode, or one long array that flags cut into episodes."""
    pictures = group[choose_camera(camera, _picture_names(h5py, group), file)]
    if len(pictures) == 0:
        raise UnreadableError(f"its {pictures.name} holds no frames")
    action, reward = (_array(group, names) for names in (_ACTION, _REWARD))
    if reward is not None and reward.size != len(reward):
        raise UnreadableError(f"its rewards are {reward.shape}: expected one for each frame, (T,) or (T, 1)")
    if "step_type" in group:  # as dm_env counts: the action and the reward that led to a frame
        action, reward = (None if x is None else np.concatenate([x[1:], x[:1]]) for x in (action, reward))
    action = None if action is None else action.reshape(len(action), -1)
    reward = None if reward is None else reward.reshape(-1)
    for first, last in _bounds(group, len(pictures)):
        yield Recording(
            f"{file}{group.name.rstrip('/')}[{first}:{last}]",
            last - first,
            _hdf5_reader(h5py, file, pictures.name, first),
            None if action is None else action[first : last - 1],
            None if reward is None else reward[first : last - 1],
        )


def _hdf5_reader(h5py: ModuleType, file: Path, name: str, offset: int) -> Callable[[int, int, int], Tensor]:
    def read(first: int, last: int, side: int) -> Tensor:
        try:
            with h5py.File(file) as opened:
                pictures = torch.from_numpy(opened[name][offset + first : offset + last])
        except DAMAGE as error:
            raise UnreadableError(reason(error)) from error
        channels_last = pictures.shape[-1] == 3
        return resize(pictures.permute(0, 3, 1, 2) if channels_last else pictures, side)

    return read


def _picture_names(h5py: ModuleType, group) -> list[str]:
    """Names of the arrays that may be pictures, at least one."""
    names: list[str] = []
    others = []

    def visit(name: str, item) -> None:
        seen = isinstance(item, h5py.Dataset) and item.dtype == np.uint8 and item.ndim == 4
        if seen and 3 in (item.shape[-1], item.shape[1]) and not name.startswith("next"):
            names.append(name)
        elif isinstance(item, h5py.Dataset):
            others.append(item)

    group.visititems(visit)
    if not names:
        others.sort(key=lambda item: -item.ndim)  # those with the most axes may be meant as pictures
        found = ", ".join(f"{item.name} {item.dtype} {item.shape}" for item in others[:3]) or "no array"
        raise UnreadableError(
            "it holds no pictures: expected an array uint8 (T, H, W, 3) or (T, 3, H, W), found "
            f"{found}{' and more' if len(others) > 3 else ''}"
        )
    return names


def _array(group, names: Sequence[str]) -> np.ndarray | None:
    found = next((name for name in names if hasattr(group.get(name), "shape")), None)
    if found is None:
        return None
    if not group[found].shape:
        raise UnreadableError(f"its array {found} is a single value: expected one row for each frame")
    return np.asarray(group[found], np.float32)


def _bounds(group, length: int) -> list[tuple[int, int]]:
    """First row of each episode and the one after its last, from whichever flags there are."""
    if re.fullmatch(r"/data/demo_\d+", group.name):
        return [(0, length)]  # robomimic's flags say at which frames the task is solved
    ended = np.zeros(length, bool)
    for name in _ENDED:
        if name in group:
            ended |= _flags(group, name, length).astype(bool)
    if "step_type" in group:
        ended |= _flags(group, "step_type", length) == 2
    ends = group.get("episode_ends", group.file.get("meta/episode_ends"))
    if ends is not None:  # counts of rows, as diffusion policies store them
        ended[np.asarray(ends, np.int64) - 1] = True
    cuts = [0, *(np.flatnonzero(ended) + 1).tolist(), length]
    return [(first, last) for first, last in zip(cuts, cuts[1:], strict=False) if last > first]


def _flags(group, name: str, length: int) -> np.ndarray:
    """One value for each frame, (length,)."""
    flags = np.asarray(group[name])
    if flags.shape not in ((length,), (length, 1)):
        raise UnreadableError(f"its array {name} is {flags.shape}: expected ({length},), one flag for each frame")
    return flags.reshape(-1)


def _natural(name: str) -> tuple[int, str]:
    number = re.search(r"\d+$", name)
    return (int(number[0]) if number else -1, name)
