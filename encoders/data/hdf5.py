"""Recordings in HDF5 files, in the layouts of robomimic, ManiSkill, Minari, D4RL, V-D4RL and stable-worldmodel.

A file holds either one group an episode, or arrays of all episodes one after another with fields that mark them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

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
_LARGEST_CHUNK, _LARGEST_COLUMN, _BLOCK = 512e6, 1e9, 64e6  # bytes
_COMPRESSION = 1100  # gzip makes 1032 bytes of one at most


def read_hdf5(files: Sequence[Path], camera: str) -> RecordingSet:
    """Every episode of these files; what does not open, or holds no pictures of that camera, is skipped."""
    h5py = need("h5py", "data", "An HDF5 file")
    found = RecordingSet()
    for file in files:
        try:
            with h5py.File(file) as opened:
                parts = _Finder(h5py).parts(opened)
                for group, episode in parts:
                    try:
                        found.recordings += list(_episodes(h5py, file, group, episode, len(parts) == 1, camera))
                    except DAMAGE as error:
                        found.skipped[f"{file}{group.name.rstrip('/')}"] = reason(error)
        except DAMAGE as error:
            found.skipped[str(file)] = reason(error)
    return found


# ---- which groups hold what ----


class _Finder:
    """Finds the groups whose arrays belong together."""

    def __init__(self, h5py: ModuleType):
        self._h5py = h5py
        self._seen: set[int] = set()  # hard links may lead in a circle

    def parts(self, group) -> list[tuple]:
        """Groups that hold arrays of frames, and whether each is one episode.

        Raises:
            UnreadableError: groups hold pictures and do not say whether they are cameras or episodes.
        """
        address = self._h5py.h5o.get_info(group.id).addr
        if address in self._seen:
            return []
        self._seen.add(address)
        arrays, groups = members(self._h5py, group)
        holding = [name for name, one in groups.items() if _picture_names(self._h5py, one)]
        numbered = [name for name in groups if _is_episode(name)]
        own = any(_picture(item) for item in arrays.values()) or _has_columns(arrays)
        episodes = [name for name in holding if name in numbered]
        if own or not holding or not episodes and all(set(words(name)) & _OBSERVATIONS for name in holding):
            if own and episodes and any(_has_columns(members(self._h5py, groups[name])[0]) for name in episodes):
                raise UnreadableError(f"it holds arrays of frames in {group.name}, and in {episodes[0]} others of them")
            return [(group, False)]
        if episodes:
            return [(groups[name], True) for name in sorted(numbered, key=_natural)]
        if len(holding) > 1 and not all(_has_columns(members(self._h5py, groups[name])[0]) for name in holding):
            raise UnreadableError(
                f"its groups {', '.join(holding[:5])} hold pictures and are cameras or episodes: expected episodes "
                "as episode_0, episode_1, ..., or all arrays in one group"
            )
        return [part for name in sorted(holding, key=_natural) for part in self.parts(groups[name])]


def members(h5py: ModuleType, group) -> tuple[dict, dict]:
    """Name -> array and name -> group of what lies in a group itself.

    Raises:
        UnreadableError: something in it lies in another file.
    """
    arrays, groups = {}, {}
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise UnreadableError(f"its {name} is a link into another file: copy it into this one")
        if isinstance(link, h5py.HardLink):
            item = group[name]
            (groups if isinstance(item, h5py.Group) else arrays)[name] = item
    return {name: item for name, item in arrays.items() if isinstance(item, h5py.Dataset)}, groups


def _has_columns(arrays: dict) -> bool:
    """Whether these arrays tell what was done between frames."""
    return any(name in arrays for name in (*_ACTION, *_REWARD)) or any(kind_of(name) == "last" for name in arrays)


def _is_episode(name: str) -> bool:
    """Whether a group of that name is one of numbered episodes."""
    numbered = re.fullmatch(r"(.*?)[_\-. ]*\d+", name)
    return numbered is not None and set(words(numbered[1])) <= _EPISODE_GROUPS


def _picture(item) -> bool:
    """Whether an array may be pictures."""
    return item.ndim == 4 and item.dtype == np.uint8 and 3 in (item.shape[-1], item.shape[1])


def _picture_names(h5py: ModuleType, group) -> list[str]:
    """Names of the arrays in a group, to every depth, that may be pictures."""
    names: list[str] = []

    def visit(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and _picture(item) and not name.startswith("next"):
            names.append(name)

    group.visititems(visit)
    return names


def _natural(name: str) -> tuple[int, str]:
    number = re.search(r"\d+$", name)
    return (int(number[0]) if number else -1, name)


# ---- episodes ----


def _episodes(h5py: ModuleType, file: Path, group, episode: bool, only: bool, camera: str) -> Iterator[Recording]:
    """The episodes of a group: one, or those that its fields mark; `only` if the file has no other groups of arrays."""
    names = _picture_names(h5py, group)
    if not names:
        raise UnreadableError(_no_pictures(h5py, group))
    pictures = group[choose_camera(camera, names, file)]
    length = len(pictures)
    if length == 0:
        raise UnreadableError(f"its {pictures.name} holds no frames")
    _check_stored(pictures)
    if length > _MOST_FRAMES or np.prod(pictures.shape[1:], dtype=float) > 3 * MAX_PIXELS:
        raise UnreadableError(f"its {pictures.name} is too large: {pictures.shape}")
    bounds = [(0, length)] if episode else episode_bounds(_marks(h5py, group, length, only), length)
    arrays, _ = members(h5py, group)
    action, reward = (_column(arrays, names, length, len(bounds)) for names in (_ACTION, _REWARD))
    if reward is not None and reward.shape[1] != 1:
        raise UnreadableError(f"its rewards are {reward.shape}: expected one for each frame, (T,) or (T, 1)")
    if "step_type" in arrays:  # as dm_env counts: the action and the reward that led to a frame
        action, reward = (None if x is None else np.concatenate([x[1:], x[:1]]) for x in (action, reward))
    for first, last in bounds:
        yield Recording(
            f"{file}{group.name.rstrip('/')}[{first}:{last}]",
            last - first,
            _reader(h5py, file, pictures.name, first),
            None if action is None else action[first : last - 1],
            None if reward is None else reward[first : last - 1, 0],
        )


def _no_pictures(h5py: ModuleType, group) -> str:
    others = []
    group.visititems(lambda _, item: others.append(item) if isinstance(item, h5py.Dataset) else None)
    others.sort(key=lambda item: -item.ndim)  # those with the most axes may be meant as pictures
    found = ", ".join(f"{item.name} {item.dtype} {item.shape}" for item in others[:3]) or "no array"
    more = " and more" if len(others) > 3 else ""
    return f"it holds no pictures: expected an array uint8 (T, H, W, 3) or (T, 3, H, W), found {found}{more}"


def _marks(h5py: ModuleType, group, length: int, only: bool) -> dict[str, np.ndarray]:
    """Fields that may mark episodes: of a group, and of the whole file where it is the only one in it."""
    marks: dict[str, np.ndarray] = {}
    inner = group.name.strip("/") + "/"  # not once more by its name in the file

    def visit(name: str, item) -> None:
        numbers = isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf"
        if numbers and kind_of(name) and not name.startswith(("next_", inner)):
            if item.size not in item.shape + (1,):
                if kind_of(name) in ("last", "first", "step_type") and "/" not in name:
                    raise UnreadableError(
                        f"its array {name} is {item.shape}: expected ({length},), one flag for each frame"
                    )
                return
            _check_stored(item)
            if item.nbytes > _LARGEST_COLUMN:
                raise UnreadableError(f"its array {name} is too large: {item.shape}")
            marks[name] = np.asarray(item)

    for place in [group] + [group.file] * (only and group.name != "/"):
        members(h5py, place)  # nothing in it may lie elsewhere
        place.visititems(visit)
        for name in place.attrs:
            value = np.asarray(place.attrs[name])
            if value.dtype.kind in "biuf" and value.ndim <= 1 and kind_of(name):
                marks.setdefault(name, value)
    return marks


def _column(arrays: dict, names: Sequence[str], length: int, episodes: int) -> np.ndarray | None:
    """Actions or rewards as float32 (T, n): one row for each frame or, in a single episode, for each step."""
    found = next((name for name in names if name in arrays), None)
    if found is None:
        return None
    item = arrays[found]
    if not item.shape:
        raise UnreadableError(f"its array {found} is a single value: expected one row for each frame")
    if item.dtype.kind not in "biuf":
        raise UnreadableError(f"its array {found} is {item.dtype}: expected numbers")
    _check_stored(item)
    if item.nbytes > _LARGEST_COLUMN:
        raise UnreadableError(f"its array {found} is too large: {item.shape}")
    if len(item) != length and not (episodes == 1 and len(item) == length - 1):
        raise UnreadableError(
            f"its array {found} has {len(item)} rows beside {length} frames in {episodes} episodes: expected one for "
            "each frame or, in a single episode, for each step between frames"
        )
    return np.asarray(item).astype(np.float32).reshape(len(item), -1)


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
