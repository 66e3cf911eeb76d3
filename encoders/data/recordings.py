"""Recordings on disk, one form for all sorts of files, decoded a stretch at a time; and those in videos.

Frame t comes before action t, then reward t and frame t + 1. Nothing in a file is executed.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.names import nearest
from mindreel.video_input import UnreadableVideoError, VideoTimes, read_frames, scan_video, upright

DAMAGE = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)
"""Errors that libraries raise for a file that is damaged, or not laid out as expected."""
_SCANNED_AT_ONCE = 8


class UnreadableError(ValueError):
    """A file, or a part of one, that does not decode."""


@dataclass(frozen=True)
class Recording:
    """Successive frames of one episode or video, with what was done between them where that is known."""

    name: str
    """Its name in messages."""
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
class RecordingSet:
    """All recordings under a path."""

    recordings: list[Recording] = field(default_factory=list)
    sentences: tuple[str, ...] = ()
    """Sentences that recordings' `behaviour` counts through."""
    skipped: dict[str, str] = field(default_factory=dict)
    """File or episode -> why it is left out."""


def resize(pictures: Tensor, side: int) -> Tensor:
    """uint8 (T, 3, H, W) to (T, 3, side, side), antialiased; all of the picture is kept, its proportions are not."""
    if pictures.shape[-2:] == (side, side):
        return pictures
    small = F.interpolate(pictures.float(), (side, side), mode="bilinear", antialias=True)
    return small.round_().clamp_(0, 255).byte()


def choose_camera(camera: str, names: Sequence[str], where: Path) -> str:
    """The one of `names` that `camera` names, by its whole name or the last part; the first if it is empty.

    Raises:
        ValueError: none of them is.
    """
    if not camera:
        return names[0]
    for name in names:
        if camera in (name, re.split(r"[./]", name)[-1]):
            return name
    raise ValueError(f"{where} has no camera {camera!r}: {nearest(camera, names)}")


def read_videos(files: Sequence[Path]) -> RecordingSet:
    """Every video that opens, in the order given."""
    found = RecordingSet()
    with ThreadPoolExecutor(_SCANNED_AT_ONCE) as threads:
        for file, video in zip(files, threads.map(_video, files), strict=True):
            if isinstance(video, Recording):
                found.recordings.append(video)
            else:
                found.skipped[str(file)] = video
    return found


def _video(file: Path) -> Recording | str:
    """The recording, or why there is none."""
    try:
        times = scan_video(file)
    except UnreadableVideoError as error:
        return str(error)
    return Recording(str(file), times.frames, lambda first, last, side: read_video(file, times, first, last, side))


def read_video(file: Path, times: VideoTimes, first: int, last: int, side: int) -> Tensor:
    """Frames `first` to `last`, that one not included, as uint8 (last - first, 3, side, side).

    Raises:
        UnreadableError: half of them or more do not decode, or those at the end.
    """

    def convert(frame) -> Tensor:
        return resize(torch.from_numpy(upright(frame)).permute(2, 0, 1)[None], side)[0]

    try:
        return torch.stack(read_frames(file, times, first, last, convert))
    except UnreadableVideoError as error:
        raise UnreadableError(str(error)) from error


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
