"""Recordings in HDF5 files, in the layouts of robomimic, ManiSkill, Minari, D4RL, V-D4RL and stable-worldmodel.

A file holds either one group an episode, or arrays of all episodes one after another with fields that mark them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindreel.encoders.data.episodes import episode_bounds, kind_of, words
from mindreel.encoders.data.recordings import (
    DAMAGE,
    Recording,
    RecordingSet,
    UnreadableError,
    choose_camera,
    reason,
    resize,
)
from mindreel.extras import need
from mindreel.video_input import MAX_PIXELS

SUFFIXES = (".h5", ".hdf5")
_ACTION, _REWARD = ("actions", "action"), ("rewards", "reward")
_EPISODE_GROUPS = {"ep", "episode", "traj", "trajectory", "demo", "demonstration", "rollout", "seq", "sequence", "run"}
_EPISODE_GROUPS |= {"clip", "video", "recording", "sample", "trial", "session", "ep"}
_OBSERVATIONS = {"ob", "obs", "observation", "image", "img", "picture", "pixel", "rgb", "camera", "cam", "view", "next"}

_MOST_FRAMES = 10_000_000  # of a file
_DEEPEST = 32
_LARGEST_CHUNK, _LARGEST_COLUMN, _BLOCK = 512e6, 1e9, 64e6  # bytes
_COMPRESSION = 1100  # gzip makes 1032 bytes of one at most


def read_hdf5(files: Sequence[Path], camera: str) -> RecordingSet:
    """Every episode of these files; what does not open, or holds no pictures of that camera, is skipped."""
    h5py = need("h5py", "data", "An HDF5 file")
    found = RecordingSet()
    for file in files:
        try:
            with h5py.File(file) as opened:
                root = _tree(h5py, opened, "", set())
                parts = _parts(root)
                for group, episode in parts:
                    try:
                        found.recordings += list(_episodes(h5py, file, opened, root, group, episode, camera))
                    except DAMAGE as error:
                        found.skipped[f"{file}{group.path}"] = reason(error)
        except DAMAGE as error:
            found.skipped[str(file)] = reason(error)
    return found


# ---- which groups hold what ----


@dataclass(frozen=True)
class _Array:
    """An array of a file, not read."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def picture(self) -> bool:
        """True for an array that may be pictures."""
        channels = len(self.shape) == 4 and 3 in (self.shape[-1], self.shape[1])
        return channels and self.dtype == np.uint8


@dataclass(frozen=True)
class _Group:
    """A group of a file, and all that lies in it."""

    path: str
    """Empty for the root."""
    arrays: dict[str, _Array]
    groups: dict[str, "_Group"]

    def all_arrays(self) -> Iterator[tuple[str, _Array]]:
        """Arrays to every depth, with their names from here."""
        for array in self.arrays.values():
            yield array.path[len(self.path) + 1 :], array
        for group in self.groups.values():
            for _, array in group.all_arrays():
                yield array.path[len(self.path) + 1 :], array

    def pictures(self) -> list[str]:
        """Names of the arrays, to every depth, that may be pictures, but those of the step after."""
        return [name for name, array in self.all_arrays() if array.picture and not name.startswith("next")]

    @property
    def has_columns(self) -> bool:
        """True if its own arrays hold actions, rewards or ends of episodes."""
        return any(name in self.arrays for name in (*_ACTION, *_REWARD)) or any(
            kind_of(name) == "last" for name in self.arrays
        )


def _tree(h5py: ModuleType, group, path: str, seen: set[int]) -> _Group:
    """A group and all below, each object once, since links may lead in a circle.

    Raises:
        UnreadableError: something in it lies in another file, or very deep.
    """
    if path.count("/") > _DEEPEST:
        raise UnreadableError(f"its groups lie within each other {_DEEPEST} times or more")
    arrays, groups = {}, {}
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise UnreadableError(f"its {path}/{name} is a link into another file: copy it into this one")
        item: Any = group[name] if isinstance(link, h5py.HardLink) else None
        if isinstance(item, h5py.Dataset):
            arrays[name] = _Array(f"{path}/{name}", item.shape or (), item.dtype)
        elif isinstance(item, h5py.Group) and (address := h5py.h5o.get_info(item.id).addr) not in seen:
            seen.add(address)
            groups[name] = _tree(h5py, item, f"{path}/{name}", seen)
    return _Group(path, arrays, groups)


def _parts(group: _Group) -> list[tuple[_Group, bool]]:
    """Groups that hold arrays of frames, and whether each is one episode.

    Raises:
        UnreadableError: groups hold pictures and do not say whether they are cameras or episodes.
    """
    holding = [name for name, one in group.groups.items() if one.pictures()]
    numbered = [name for name in group.groups if _is_episode(name)]
    episodes = [name for name in holding if name in numbered]
    own = any(array.picture for array in group.arrays.values()) or group.has_columns
    if own and any(group.groups[name].has_columns for name in episodes):
        raise UnreadableError(f"it holds arrays of frames in {group.path or '/'}, and in {episodes[0]} others of them")
    if own or not holding or not episodes and all(set(words(name)) & _OBSERVATIONS for name in holding):
        return [(group, False)]
    if episodes:
        return [(group.groups[name], True) for name in sorted(numbered, key=_natural)]
    if len(holding) > 1 and not all(group.groups[name].has_columns for name in holding):
        raise UnreadableError(
            f"its groups {', '.join(holding[:5])} hold pictures and are cameras or episodes: expected episodes as "
            "episode_0, episode_1, ..., or all arrays in one group"
        )
    return [part for name in sorted(holding, key=_natural) for part in _parts(group.groups[name])]


def _is_episode(name: str) -> bool:
    """Says if a group of that name is one of numbered episodes."""
    numbered = re.fullmatch(r"(.*?)[_\-. ]*\d+", name)
    return numbered is not None and set(words(numbered[1])) <= _EPISODE_GROUPS


def _natural(name: str) -> tuple[int, str]:
    number = re.search(r"\d+$", name)
    return (int(number[0][-18:]) if number else -1, name)


# ---- episodes ----


def _episodes(
    h5py: ModuleType, file: Path, opened, root: _Group, group: _Group, episode: bool, camera: str
) -> Iterator[Recording]:
    """The episodes of a group: one, or those that its fields mark."""
    names = group.pictures()
    if not names:
        raise UnreadableError(_no_pictures(group))
    pictures = opened[f"{group.path}/{choose_camera(camera, names, file)}"]
    length = len(pictures)
    if length == 0:
        raise UnreadableError(f"its {pictures.name} holds no frames")
    _check_stored(pictures)
    if length > _MOST_FRAMES or not 0 < np.prod(pictures.shape[1:], dtype=float) <= 3 * MAX_PIXELS:
        raise UnreadableError(f"its {pictures.name} is of {pictures.shape}: expected pictures of a usual size")
    bounds = [(0, length)] if episode else episode_bounds(_marks(opened, root, group, length), length)
    action, reward = (_column(opened, group, names, length, len(bounds)) for names in (_ACTION, _REWARD))
    if reward is not None and reward.shape[1] != 1:
        raise UnreadableError(f"its rewards are {reward.shape}: expected one for each frame, (T,) or (T, 1)")
    if "step_type" in group.arrays:  # as dm_env counts: the action and the reward that led to a frame
        action, reward = (None if x is None else np.concatenate([x[1:], x[:1]]) for x in (action, reward))
    for first, last in bounds:
        yield Recording(
            f"{file}{group.path}[{first}:{last}]",
            last - first,
            _reader(h5py, file, pictures.name, first),
            None if action is None else action[first : last - 1],
            None if reward is None else reward[first : last - 1, 0],
        )


def _no_pictures(group: _Group) -> str:
    # Those with the most axes may be meant as pictures.
    others = sorted((array for _, array in group.all_arrays()), key=lambda array: -len(array.shape))
    found = ", ".join(f"{array.path} {array.dtype} {array.shape}" for array in others[:3]) or "no array"
    more = " and more" if len(others) > 3 else ""
    return f"it holds no pictures: expected an array uint8 (T, H, W, 3) or (T, 3, H, W), found {found}{more}"


def _marks(opened, root: _Group, group: _Group, length: int) -> dict[str, np.ndarray]:
    """Fields that may mark episodes: of a group, and of the whole file where no other group holds pictures."""
    marks: dict[str, np.ndarray] = {}
    only = len(root.pictures()) == len(group.pictures())
    for place in [group] + [root] * (only and group is not root):
        for name, array in place.all_arrays():
            outer = place is root and group is not root and array.path.startswith(f"{group.path}/")
            if outer or name.startswith("next_") or array.dtype.kind not in "biuf" or not kind_of(name):
                continue
            if np.prod(array.shape, dtype=float) not in (*array.shape, 1):
                if kind_of(name) in ("last", "first", "step_type") and "/" not in name:
                    raise UnreadableError(
                        f"its array {name} is {array.shape}: expected ({length},), one flag for each frame"
                    )
                continue
            marks[name] = _read(opened[array.path])
        attributes = opened[place.path or "/"].attrs
        for name in attributes:
            value = np.asarray(attributes[name])
            if value.dtype.kind in "biuf" and value.ndim <= 1 and kind_of(name):
                marks.setdefault(name, value)
    return marks


def _column(opened, group: _Group, names: Sequence[str], length: int, episodes: int) -> np.ndarray | None:
    """Actions or rewards as float32 (T, n): one row for each frame or, in a single episode, for each step."""
    found = next((name for name in names if name in group.arrays), None)
    if found is None:
        return None
    array = group.arrays[found]
    if not array.shape:
        raise UnreadableError(f"its array {found} is a single value: expected one row for each frame")
    if array.dtype.kind not in "biuf" or 0 in array.shape:
        raise UnreadableError(f"its array {found} is {array.dtype} {array.shape}: expected numbers")
    rows = array.shape[0]
    if rows != length and not (episodes == 1 and rows == length - 1):
        raise UnreadableError(
            f"its array {found} has {rows} rows beside {length} frames in {episodes} episodes: expected one for "
            "each frame or, in a single episode, for each step between frames"
        )
    with np.errstate(over="ignore"):  # `Clips` names recordings with infinite numbers
        return _read(opened[array.path]).astype(np.float32).reshape(rows, -1)


def _read(item) -> np.ndarray:
    """All of an array that is no picture."""
    _check_stored(item)
    if item.nbytes > _LARGEST_COLUMN:
        raise UnreadableError(f"its {item.name} is too large: {item.shape}")
    return np.asarray(item)


def _check_stored(item) -> None:
    """Raises UnreadableError unless an array lies in its own file, in such size as it says."""
    if item.is_virtual or item.external:
        raise UnreadableError(f"its {item.name} lies in other files: copy it into this one, as h5repack does")
    stored = item.id.get_storage_size()
    if item.nbytes > _COMPRESSION * stored + 4096:
        raise UnreadableError(f"its {item.name} is {item.shape}, and only {stored} bytes of it are stored")
    if item.chunks and np.prod(item.chunks, dtype=float) * item.dtype.itemsize > _LARGEST_CHUNK:
        raise UnreadableError(f"its {item.name} is stored in chunks too large to read: {item.chunks}")


def _reader(h5py: ModuleType, file: Path, name: str, offset: int) -> Callable[[int, int, int], Tensor]:
    def read(first: int, last: int, side: int) -> Tensor:
        parts = []
        try:
            with h5py.File(file) as opened:
                pictures = opened[name]
                block = max(1, int(_BLOCK / np.prod(pictures.shape[1:], dtype=float)))
                for start in range(offset + first, offset + last, block):
                    rows = torch.from_numpy(pictures[start : min(start + block, offset + last)])
                    rows = rows.permute(0, 3, 1, 2) if rows.shape[-1] == 3 else rows
                    parts.append(resize(rows, side))
        except DAMAGE as error:
            raise UnreadableError(reason(error)) from error
        return torch.cat(parts)

    return read
