"""Recordings in LeRobot data sets, versions 2 and 3 of their layout (huggingface.co/docs/lerobot)."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mindreel.encoders.data.lerobot_metadata import (
    Description,
    check_inside,
    check_size,
    describe,
    is_template,
    open_table,
    read_places,
    read_table,
    read_tasks,
)
from mindreel.encoders.data.recordings import (
    DAMAGE,
    Recording,
    RecordingSet,
    UnreadableError,
    choose_camera,
    read_video,
    reason,
    resize,
)
from mindreel.extras import need
from mindreel.video_input import MAX_PIXELS, VideoTimes

_NUMBERS = ("float", "int", "uint", "bool")
"""How dtypes of numbers begin."""
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class _Episode:
    """One episode's part of a table, whose rows are its frames."""

    index: int
    first: int
    """Its first row in the table."""
    frames: int
    """Its number of rows, T + 1."""
    rows: dict[str, np.ndarray]
    """Column -> (T + 1,) numbers, or arrays of numbers."""


def read_lerobot(root: Path, camera: str) -> RecordingSet:
    """Every episode of a data set whose pictures are there; tables and episodes that cannot be read are skipped.

    Raises:
        ValueError: the description of the data set lacks something or is wrong, or there is no such camera.
    """
    parquet = need("pyarrow.parquet", "data", "A LeRobot data set")
    about = describe(root)
    key = choose_camera(camera, [name for name, kind in about.kinds.items() if kind in ("video", "image")], root)
    in_videos = about.kinds[key] == "video"
    if in_videos and not is_template(about.template):
        raise ValueError(
            f"{root / 'meta' / 'info.json'}: expected video_path to say where videos are, as "
            "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4 does, got "
            f"{repr(about.template)[:200]}."
        )
    known = ("action", "next.reward", "task_index", "frame_index", "timestamp")
    columns = [name for name in known if about.kinds.get(name, "").startswith(_NUMBERS)]
    found = RecordingSet()
    tasks = read_tasks(parquet, root, found.skipped)
    # Numbers may have gaps, where tasks were taken out, and two of them the same words.
    found.sentences = tuple(dict.fromkeys(tasks.values()))
    behaviours = {index: found.sentences.index(sentence) for index, sentence in tasks.items()}
    places = read_places(parquet, root, key, found.skipped) if in_videos else {}
    tables = sorted((root / "data").rglob("*.parquet"))
    if not tables:
        found.skipped[str(root / "data")] = "it holds no tables (.parquet)"
    seen: set[int] = set()
    for table in tables:
        try:
            episodes = _episodes(parquet, root, table, columns)
        except DAMAGE as error:
            found.skipped[str(table)] = reason(error)
            continue
        for episode in episodes:
            name = f"{root} episode {episode.index}"
            try:
                if episode.index in seen:
                    raise UnreadableError("its rows lie apart, or it is there twice")
                seen.add(episode.index)
                _check_rows(episode, about.fps)
                if in_videos:
                    read = _video_reader(root, about, key, places, episode.index)
                else:
                    read = _table_reader(parquet, root, table, key, episode.first)
                found.recordings.append(_recording(name, read, episode, behaviours))
            except DAMAGE as error:
                found.skipped[name] = reason(error)
    return found


def _episodes(parquet: ModuleType, root: Path, file: Path, columns: list[str]) -> list[_Episode]:
    """The episodes in a file of `data`, at least one."""
    opened = open_table(parquet, root, file)
    there = [name for name in columns if name in opened.schema_arrow.names or name not in ("frame_index", "timestamp")]
    table = read_table(opened, ["episode_index", *there])
    if not len(table):
        raise UnreadableError("it holds no frames")
    values = {name: table[name].to_numpy() for name in there}
    index = _matrix(table["episode_index"].to_numpy(), "episode_index")[:, 0]
    if not np.isfinite(index).all():
        raise UnreadableError("episode_index is missing in some of its rows")
    cuts = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    return [
        _Episode(int(index[first]), first, last - first, {name: x[first:last] for name, x in values.items()})
        for first, last in zip(cuts, cuts[1:], strict=False)
    ]


def _matrix(column: np.ndarray, name: str) -> np.ndarray:
    """float64 (T, n) of a column (T,) of numbers, or of arrays of n numbers."""
    try:
        return np.stack(list(column)).astype(np.float64).reshape(len(column), -1)
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"its {name} is not equally many numbers in every row") from error


def _check_rows(episode: _Episode, fps: float) -> None:
    """Raises UnreadableError unless an episode's rows are its frames 0, 1, 2, ..., as its counters say."""
    expected = np.arange(episode.frames)
    for name, scale, tolerance in (("frame_index", 1.0, 0.0), ("timestamp", fps, 0.5)):
        if name in episode.rows:
            counted = _matrix(episode.rows[name], name)[:, 0] * scale
            off = np.flatnonzero(~(abs(counted - expected) <= tolerance))
            if len(off):
                row = off[0]
                raise UnreadableError(
                    f"its row {row} is frame {counted[row]:g} by its {name}: expected a row for each frame"
                )


def _recording(
    name: str, read: Callable[[int, int, int], Tensor], episode: _Episode, behaviours: dict[int, int]
) -> Recording:
    """One episode; `behaviours` says which sentence stands for a `task_index`."""
    known = {column: _matrix(rows, column).astype(np.float32) for column, rows in episode.rows.items()}
    action, reward = known.get("action"), known.get("next.reward")
    if reward is not None and reward.shape[1] != 1:
        raise UnreadableError(f"its next.reward has {reward.shape[1]} numbers in a row: expected one")
    task = known["task_index"][0, 0] if "task_index" in known else -1
    return Recording(
        name,
        episode.frames,
        read,
        None if action is None else action[:-1],
        None if reward is None else reward[:-1, 0],
        behaviours.get(task, -1),
    )


# ---- pictures ----


def _video_reader(
    root: Path, about: Description, key: str, places: dict[int, tuple[dict[str, int], float]], episode: int
) -> Callable[[int, int, int], Tensor]:
    """Reads an episode's frames from its video, or its part of one."""
    place, start = places.get(episode, ({}, 0.0))
    place = {"episode_index": episode, "episode_chunk": episode // about.chunk} | place
    try:
        video = root / str(about.template).format(video_key=key, **place)
    except LookupError as error:
        raise UnreadableError(f"{root / 'meta' / 'episodes'} does not say in which video it is, and where") from error
    check_inside(root, video)
    if not video.is_file():
        raise UnreadableError(f"{video} is missing")
    offset, times = round(start * about.fps), VideoTimes(Fraction(about.fps).limit_denominator(100_000))
    return lambda first, last, side: read_video(video, times, offset + first, offset + last, side)


def _table_reader(
    parquet: ModuleType, root: Path, file: Path, key: str, offset: int
) -> Callable[[int, int, int], Tensor]:
    """Reads an episode's frames from the table that they are in, each a PNG or JPEG file of its own."""

    def read(first: int, last: int, side: int) -> Tensor:
        try:
            table = open_table(parquet, root, file)
            rows = _rows(table, key, offset + first, offset + last)
            return torch.cat([resize(_picture(row["bytes"]), side) for row in rows])
        except (*DAMAGE, SyntaxError, struct.error, zlib.error, Image.DecompressionBombError) as error:  # Pillow's
            raise UnreadableError(f"{key}: {reason(error)}") from error

    return read


def _rows(table: Any, key: str, first: int, last: int) -> Iterator[dict]:
    """Rows `first` to `last`, that one not included, of a column; of a table of many episodes only the groups of rows
    that they are in are read, a few rows at once: a picture that is stored once may stand in millions of them."""
    start = 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        if start < last and end > first:
            check_size(table, [key], [group])
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[key]):
                rows = batch.slice(max(0, first - start), max(0, last - max(start, first)))
                yield from rows.column(0).to_pylist()
                start += len(batch)
                if start >= last:
                    return
        start = end


def _picture(content: bytes) -> Tensor:
    """uint8 (1, 3, H, W)."""
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise UnreadableError(f"a picture is too large: {picture.width} x {picture.height} pixels")
        upright = ImageOps.exif_transpose(picture.convert("RGB"))
        return torch.from_numpy(np.array(upright)).permute(2, 0, 1)[None]
