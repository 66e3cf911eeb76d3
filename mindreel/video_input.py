"""Video files as evenly spaced frames: upright, in the order in which they are shown, from the file alone.

Frame i of a video is what it shows at the time i / rate. Containers that store times are read by them; where they do
not (AVI with B-frames), frames count in the order in which they are decoded.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
MAX_PIXELS = 36_000_000
"""Pixels of the largest picture that is decoded; 8K has 33 million."""

# None of these leads to another file, as playlists do. The protocol's name keeps addresses of a network out.
_OPTIONS = {
    "format_whitelist": "avi,gif,m4v,mov,mp4,matroska,webm,mpeg,mpegts,mpegvideo",
    "protocol_whitelist": "file",
}
_LIMITS = {"max_pixels": str(MAX_PIXELS)}
_LONGEST_STILL = 1000  # frames for each picture of a video, on average

T = TypeVar("T")


class UnreadableVideoError(ValueError):
    """A file, or a part of one, that does not decode."""


class _NotByTimeError(Exception):
    """Decoded frames do not come in the order of their times."""


@dataclass(frozen=True)
class VideoTimes:
    """When a video shows its pictures.

    Attributes:
        rate: frames a second.
        shown: frame at which each picture appears, rising from 0; None if every frame is a picture of its own.
        start: time of the first picture, in the stream's units; None for the one that the stream says.
        by_order: whether pictures are counted as they are decoded, since their times are not known.
    """

    rate: Fraction
    shown: np.ndarray | None = None
    start: int | None = None
    by_order: bool = False

    @property
    def frames(self) -> int:
        """Number of frames, the last picture's own included."""
        return 0 if self.shown is None else int(self.shown[-1]) + 1


@contextmanager
def open_video(file: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the first stream of pictures that is no cover.

    Raises:
        UnreadableVideoError: the file is not a video, or damaged where the block reads it.
    """
    if not file.is_file():  # a pipe would be waited for
        raise UnreadableVideoError("it is not a file")
    try:
        with av.open(str(file.absolute()), options=_OPTIONS) as container:
            streams = [one for one in container.streams.video if "attached_pic" not in str(one.disposition).lower()]
            if not streams:
                others = ", ".join(sorted({stream.type for stream in container.streams}))
                raise UnreadableVideoError(f"it holds no pictures, only {others or 'nothing'}")
            context = streams[0].codec_context
            if context.width * context.height > MAX_PIXELS:
                raise UnreadableVideoError(f"its pictures are too large: {context.width} x {context.height} pixels")
            context.options = _LIMITS
            yield container, streams[0]
    except ArgumentError as error:
        raise UnreadableVideoError("it is not a video, but a playlist or another kind of file") from error
    except UnreadableVideoError:
        raise
    except (FFmpegError, ArithmeticError, LookupError, OSError, ValueError) as error:
        raise UnreadableVideoError((str(error).splitlines() or [type(error).__name__])[0]) from error


def scan_video(file: Path) -> VideoTimes:
    """Reads a video through once, without decoding it, to find its frames.

    What stands before the first key frame, as in videos that were cut without encoding them, is left out.

    Raises:
        UnreadableVideoError: it is not a video, has no pictures, or shows too few for its length.
    """
    with open_video(file) as (container, stream):
        times, pictures, first = [], 0, None
        for packet in container.demux(stream):
            if not packet.size or first is None and not packet.is_keyframe:
                continue
            if first is None:
                first = packet.pts
            if packet.is_discard:  # decoded for others' sake alone
                continue
            pictures += 1
            if packet.pts is not None and first is not None and packet.pts >= first:
                times.append(packet.pts)
        base, said = stream.time_base, stream.average_rate
        # AVI stores no times, and those that are made up count in the order in which frames are stored.
        made_up = container.format.name == "avi" and stream.codec_context.has_b_frames
    if not pictures:
        raise UnreadableVideoError("it holds no key frame")
    if made_up or base is None or len(times) < pictures / 2:
        return VideoTimes(said or Fraction(25), np.arange(pictures), by_order=True)
    start = min(times)
    ticks = np.array(sorted({time - start for time in times}), dtype=object)  # Python's integers do not overflow
    rate = _rate(ticks) / base if len(ticks) > 1 else said or Fraction(25)
    if ticks[-1] * base * rate > _LONGEST_STILL * len(ticks):
        raise UnreadableVideoError(
            f"its {len(ticks)} pictures are spread over {float(ticks[-1] * base):.3g} seconds: expected a video that "
            "shows them one after another"
        )
    shown = np.rint(ticks.astype(np.float64) * float(rate * base)).astype(np.int64)
    return VideoTimes(rate, np.unique(shown), start)


def _rate(ticks: np.ndarray) -> Fraction:
    """Pictures a tick, from the times of two or more: their mean distance, gaps left out."""
    apart = ticks[1:] - ticks[:-1]
    regular = apart[apart <= 1.5 * float(np.median(apart.astype(np.float64)))]
    return Fraction(len(regular), int(regular.sum()))


def read_frames(file: Path, times: VideoTimes, first: int, last: int, convert: Callable[[VideoFrame], T]) -> list[T]:
    """Frames `first` to `last`, that one not included.

    A picture is converted once and stands in the list for as long as the video shows it.

    Args:
        file: the video.
        times: its frames, as `scan_video` finds them, or a rate alone.
        first: first frame.
        last: the one after the last.
        convert: turns a decoded picture into an item of the list.

    Raises:
        UnreadableVideoError: half of the pictures or more do not decode, or those at the end.
    """
    if times.shown is None:
        expected = np.arange(first, last)
    else:  # from the picture on that stands at `first`
        begin = max(0, int(np.searchsorted(times.shown, first, side="right")) - 1)
        expected = times.shown[begin : np.searchsorted(times.shown, last)]
    found: dict[int, T] = {}
    try:
        for index, frame in _numbered(file, times, int(expected[0])):
            if index >= last:
                break
            if index >= expected[0]:
                found[index] = convert(frame)
    except _NotByTimeError:
        return read_frames(file, replace(times, by_order=True), first, last, convert)
    # Single pictures may be damaged, but a long still at the end is where a file was cut off.
    if 2 * len(found) <= len(expected) or (expected > max(found)).sum() > len(expected) / 10:
        raise UnreadableVideoError(f"only {len(found)} of its frames {first} to {last - 1} decode")
    latest = found[min(found)]  # the one that stands at `first`, or else the next
    frames = []
    for index in range(first, last):
        latest = found.get(index, latest)
        frames.append(latest)
    return frames


def _numbered(file: Path, times: VideoTimes, first: int) -> Iterator[tuple[int, VideoFrame]]:
    """Decodes from a key frame at or before frame `first` on: (frame, picture), rising.

    Raises:
        UnreadableVideoError: as `open_video`.
        _NotByTimeError: pictures come in another order than their times.
    """
    with open_video(file) as (container, stream):
        if times.by_order:
            yield from enumerate(container.decode(stream))
            return
        base = stream.time_base or Fraction(1, av.time_base)
        start = times.start if times.start is not None else stream.start_time or 0
        if first:
            container.seek(start + int(first / (times.rate * base)), stream=stream)
        before = None
        for frame in container.decode(stream):
            if frame.pts is None or before is not None and frame.pts < before:
                raise _NotByTimeError
            index = round((frame.pts - start) * base * times.rate)
            if before is None and first and index > first:  # some containers seek to the key frame behind
                break
            before = frame.pts
            yield index, frame
        else:
            return
    yield from _numbered(file, times, 0)


def upright(frame: VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """A decoded picture as it is meant to be seen: uint8 (H, W, 3).

    Args:
        frame: the picture, with how it lies if its file says so.
        size: height and width to scale it to; its own if not given.

    Raises:
        UnreadableVideoError: it is turned by other than quarter turns.
    """
    transposed, down, across = _orientation(frame)
    if size is not None:
        height, width = size[::-1] if transposed else size
        frame = frame.reformat(width=width, height=height, format="rgb24")
    picture = frame.to_ndarray(format="rgb24")
    picture = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(picture[::down, ::across])


def _orientation(frame: VideoFrame) -> tuple[bool, int, int]:
    """Says if rows become columns, and gives the directions (1 or -1) in which rows and columns then run."""
    for data in cast(Iterable[SideData], frame.side_data):
        if data.type == Type.DISPLAYMATRIX:
            # The place (x, y) of a pixel goes to (a x + c y, b x + d y); numbers are of 65536.
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5] / 65536
            across, down, transposed = (c, b, True) if abs(b) > abs(a) else (a, d, False)
            off = (a, d) if transposed else (b, c)
            if min(abs(across), abs(down)) < 0.5 or max(map(abs, off)) > 0.1:
                raise UnreadableVideoError(
                    f"its pictures are turned by {frame.rotation} degrees: expected quarter turns"
                )
            return transposed, int(np.sign(down)), int(np.sign(across))
    return False, 1, 1
