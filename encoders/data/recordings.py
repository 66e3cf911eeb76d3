"""Recordings on disk, one form for all sorts of files, decoded a stretch at a time; and those in videos.

Frame t comes before action t, then reward t and frame t + 1. Nothing in a file is executed.
"""

import difflib
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn import functional as F

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


DAMAGE = (OSError, RuntimeError, LookupError, TypeError, ValueError)
"""What libraries raise at a file that is damaged, or not laid out as expected."""


class UnreadableError(ValueError):
    """A file, or a part of one, that does not decode."""


@dataclass(frozen=True)
class Recording:
    """Successive frames of one episode or video, with what was done between them where that is known."""

    name: str
    """What messages call it."""
    frames: int
    """Number of frames, T + 1."""
    read: Callable[[int, int, int], Tensor]
    """(first, last, side): frames `first` to `last`, that one not included, as uint8 (last - first, 3, side, side)."""
    action: np.ndarray | None = None
    """Actions (T, A), float32."""
    reward: np.ndarray | None = None
    """Rewards (T,), float32."""
    behaviour: int = -1
    """Index of the sentence that describes it, -1 where there is none."""


@dataclass
class Corpus:
    """All recordings under a path."""

    recordings: list[Recording] = field(default_factory=list)
    sentences: tuple[str, ...] = ()
    """What recordings' `behaviour` points to."""
    skipped: dict[str, str] = field(default_factory=dict)
    """File or episode -> why it is left out."""


def resize(pictures: Tensor, side: int) -> Tensor:
    """uint8 (T, 3, H, W) to (T, 3, side, side), antialiased; all of the picture is kept, its proportions are not."""
    if pictures.shape[-2:] == (side, side):
        return pictures
    small = F.interpolate(pictures.float(), (side, side), mode="bilinear", antialias=True)
    return small.round_().clamp_(0, 255).byte()


def optional(module: str) -> ModuleType:
    """A module of a package that only some installations have.

    Raises:
        ValueError: it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ValueError(f'These files need {package}, which is missing: pip install "mindreel[data]"') from error


def choose_camera(camera: str, names: Sequence[str], where: Path) -> str:
    """The one of `names` that `camera` names, by its whole name or the last part; the first if it is empty."""
    if not camera:
        return names[0]
    for name in names:
        if camera in (name, re.split(r"[./]", name)[-1]):
            return name
    near = difflib.get_close_matches(camera, names, 3, cutoff=0.0)
    raise ValueError(f"{where} has no camera {camera!r}: did you mean {' or '.join(near)}?")


def read_videos(files: Sequence[Path], camera: str = "") -> Corpus:
    """Every video that opens; `camera` means nothing here."""
    corpus = Corpus()
    for file in files:
        try:
            corpus.recordings.append(_video(file))
        except UnreadableError as error:
            corpus.skipped[str(file)] = str(error)
    return corpus


def _video(file: Path) -> Recording:
    try:
        with av.open(str(file)) as container:
            stream = _pictures_of(container)
            rate = stream.average_rate
            frames = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
    except (FFmpegError, IndexError, ValueError) as error:
        raise UnreadableError(reason(error)) from error
    if not rate:
        raise UnreadableError("it has no frame rate")
    return Recording(str(file), frames, lambda first, last, side: read_video(file, first, last, side, rate))


def _pictures_of(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        others = ", ".join(sorted({stream.type for stream in container.streams}))
        raise UnreadableError(f"it holds no pictures, only {others or 'nothing'}")
    return container.streams.video[0]


def read_video(file: Path, first: int, last: int, side: int, rate: Fraction | float) -> Tensor:
    """Frames `first` to `last`, that one not included, counted in time at `rate` per second.

    A video whose frames are not evenly spaced shows each for as long as it stands.

    Returns:
        uint8 (last - first, 3, side, side).

    Raises:
        UnreadableError: half of them or more do not decode, or those at the end.
    """
    pictures: dict[int, Tensor] = {}
    try:
        with av.open(str(file)) as container:
            stream = _pictures_of(container)
            base, start = stream.time_base or Fraction(1, av.time_base), stream.start_time or 0
            container.seek(start + int(first / (rate * base)), stream=stream)  # to the key frame before it
            for frame in container.decode(stream):
                index = first if frame.pts is None else round((frame.pts - start) * base * rate)
                if index >= last:
                    break
                if index >= first:
                    picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                    pictures[index] = resize(picture[None], side)[0]
    except (FFmpegError, IndexError, ValueError) as error:
        raise UnreadableError(reason(error)) from error
    wanted = last - first
    # Frames may lie unevenly in time, but a long still at the end is where a file was cut off.
    if 2 * len(pictures) <= wanted or last - 1 - max(pictures) > wanted / 10:
        raise UnreadableError(f"only {len(pictures)} of its frames {first} to {last - 1} decode")
    shown, latest = [], pictures[min(pictures)]
    for index in range(first, last):
        latest = pictures.get(index, latest)
        shown.append(latest)
    return torch.stack(shown)


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
