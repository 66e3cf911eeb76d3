"""What observations of a Gymnasium environment become: one picture, and one vector of numbers.

A picture, (H, W), (H, W, C) or (C, H, W) of uint8, or (H, W, C) of floats bounded by 0 and 1 or by 0 and 255, becomes
`pixels`, a grey one with three equal channels. All other numbers, flattened as Gymnasium does, become `state`, and so
do maps of less than 8 x 8 entries. Without a picture `pixels` is what the environment draws of itself. Dict and Tuple
spaces may be nested. Text, graphs and sequences are no numbers: they are left out with a note, and refused where
nothing else is observed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from PIL import Image

_SMALL = 8  # rows and columns; less is a map of codes rather than a picture

Path = tuple[str | int, ...]
"""Where an entry is in nested Dict and Tuple spaces."""


@dataclass(frozen=True)
class Layout:
    """Where picture and numbers are in an observation."""

    picture: Path | None
    """Of the picture; None where there is none."""
    white: float
    """Largest value of the picture."""
    numbers: tuple[tuple[Path, spaces.Space], ...]
    """What `state` is made of, in this order."""
    notes: tuple[str, ...]
    """What a user should know of it."""

    @property
    def state_dim(self) -> int:
        """Numbers in `state`."""
        return sum(spaces.flatdim(space) for _, space in self.numbers)

    def state(self, seen: Any) -> np.ndarray:
        """The numbers of an observation, (n,) float32."""
        parts = [np.asarray(spaces.flatten(space, _entry(seen, path)), np.float32) for path, space in self.numbers]
        state = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        if len(state) != self.state_dim:
            raise ValueError(f"{len(state)} numbers in place of {self.state_dim}")
        return state

    def find_picture(self, seen: Any) -> Any:
        """The picture of an observation."""
        assert self.picture is not None
        return _entry(seen, self.picture)


def find_layout(task: str, space: spaces.Space) -> Layout:
    """The layout of an observation space.

    Raises:
        ValueError: for several pictures, uint8 that is no picture, or a space without pictures and numbers.
    """
    pictures: list[tuple[Path, float]] = []
    numbers: list[tuple[Path, spaces.Space]] = []
    notes: list[str] = []
    for path, leaf in _leaves(space):
        white = _white(task, leaf)
        if white is not None:
            pictures.append((path, white))
        elif _is_numeric(leaf):
            numbers.append((path, leaf))
        else:
            notes.append(
                f"{task}: its observation{_named(path)} is no numbers but {type(leaf).__name__}, and is left out."
            )
    if len(pictures) > 1:
        named = ", ".join(".".join(map(str, path)) for path, _ in pictures)
        raise ValueError(f"{task} shows several pictures, {named}: wrap it so that one is left.")
    if not pictures and not numbers:
        raise ValueError(f"{task} observes {space}: numbers or a picture are needed. Wrap it so that it gives some.")
    path, white = pictures[0] if pictures else (None, 0.0)
    return Layout(path, white, tuple(numbers), tuple(notes))


def to_picture(frame: Any, size: tuple[int, int], what: str, white: float = 0.0) -> np.ndarray:
    """A frame (H, W), (H, W, C) or (C, H, W) as uint8 (3, height, width), each pixel the mean of those it covers.

    Args:
        frame: the frame.
        size: width and height.
        what: who gave it, for messages.
        white: its largest value; 0 for what its type says: 1 for floats and bools, 255 for integers.

    Raises:
        ValueError: for a frame of another shape, or with values that are not between 0 and `white`.
    """
    frame = np.asarray(frame)
    if frame.dtype.kind not in "uifb" or frame.ndim not in (2, 3) or 0 in frame.shape:
        raise ValueError(f"{what} should give a picture, uint8 (H, W, 3), got {frame.dtype} {frame.shape}.")
    if frame.ndim == 3 and frame.shape[-1] not in (1, 3, 4):
        frame = frame.transpose(1, 2, 0)
        if frame.shape[-1] not in (1, 3, 4):
            raise ValueError(f"{what} should give a picture, uint8 (H, W, 3), got {frame.dtype} {frame.shape}.")
    if frame.dtype != np.uint8:
        white = white or (255.0 if frame.dtype.kind in "ui" else 1.0)
        low, high = float(frame.min()), float(frame.max())
        if not (low >= 0 and high <= white):  # NaN too
            raise ValueError(
                f"{what} gives {frame.dtype} from {low:g} to {high:g}: expected uint8, integers from 0 to 255 or "
                "floats from 0 to 1. Scale it, or say its bounds in the space."
            )
        frame = np.rint(frame * (255.0 / white)).astype(np.uint8)
    image = Image.fromarray(frame[..., 0] if frame.ndim == 3 and frame.shape[-1] == 1 else frame).convert("RGB")
    return np.ascontiguousarray(np.asarray(image.resize(size, Image.Resampling.BOX)).transpose(2, 0, 1))


def _leaves(space: spaces.Space, path: Path = ()) -> Iterator[tuple[Path, spaces.Space]]:
    if isinstance(space, spaces.Dict):
        for name, entry in space.items():
            yield from _leaves(entry, (*path, name))
    elif isinstance(space, spaces.Tuple):
        for index, entry in enumerate(space.spaces):
            yield from _leaves(entry, (*path, index))
    else:
        yield path, space


def _entry(seen: Any, path: Path) -> Any:
    for step in path:
        seen = seen[step]
    return seen


def _named(path: Path) -> str:
    return f" {'.'.join(map(str, path))!r}" if path else ""


def _is_numeric(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiBinary | spaces.MultiDiscrete)


def _white(task: str, space: spaces.Space) -> float | None:
    """The largest value of a picture; None where the space is none."""
    if not isinstance(space, spaces.Box):
        return None
    shape = space.shape
    channels_last = len(shape) == 3 and shape[-1] in (1, 3, 4)
    if len(shape) not in (2, 3) or min(shape[:2] if len(shape) == 2 or channels_last else shape[1:]) < _SMALL:
        return None
    if space.dtype != np.uint8:
        high = float(space.high.flat[0])
        bounded = high in (1.0, 255.0) and bool((space.low == 0).all() and (space.high == high).all())
        return high if bounded and channels_last else None
    if len(shape) == 2 or channels_last or shape[0] in (1, 3):
        return 255.0
    raise ValueError(
        f"{task} shows uint8 {shape}, which is no picture here: expected (H, W), (H, W, C) with 1, 3 or 4 channels, or "
        "(C, H, W) with 1 or 3. Encoders look at several frames by themselves: drop a wrapper that stacks."
    )
