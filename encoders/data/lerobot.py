"""Recordings in LeRobot data sets, versions 2 and 3 of their layout (huggingface.co/docs/lerobot)."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mindreel.encoders.data.recordings import (
    DAMAGE,
    Corpus,
    Recording,
    UnreadableError,
    choose_camera,
    optional,
    read_video,
    reason,
    resize,
)


@dataclass(frozen=True)
class _Description:
    """What meta/info.json says of a data set."""

    kinds: dict[str, str]
    """Feature -> its dtype."""
    fps: float
    """Frames a second."""
    chunk: int
    """Episodes in a folder of videos."""
    template: str | None
    """Where an episode's video is, as a format string; None if pictures are in the tables."""


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


def read_lerobot(root: Path, camera: str) -> Corpus:
    """Every episode of a data set whose pictures are there; tables and episodes that cannot be read are skipped.

    Raises:
        ValueError: the description of the data set lacks something or is wrong, or there is no such camera.
    """
    parquet = optional("pyarrow.parquet")
    about = _describe(root / "meta" / "info.json")
    key = choose_camera(camera, [name for name, kind in about.kinds.items() if kind in ("video", "image")], root)
    in_videos = about.kinds[key] == "video"
    if in_videos and not _is_template(about.template):
        raise ValueError(
            f"{root / 'meta' / 'info.json'}: expected video_path to say where videos are, as "
            f"videos/{{video_key}}/chunk-{{chunk_index:03d}}/file-{{file_index:03d}}.mp4 does, got {about.template!r}."
        )
    columns = [name for name in ("action", "next.reward") if about.kinds.get(name, "").startswith("float")]
    columns += [name for name in ("task_index",) if name in about.kinds]
    corpus = Corpus()
    tasks = _tasks(parquet, root, corpus.skipped)
    # Numbers may have gaps, where tasks were taken out, and two of them the same words.
    corpus.sentences = tuple(dict.fromkeys(tasks.values()))
    told = {index: corpus.sentences.index(words) for index, words in tasks.items()}
    places = _places(parquet, root, key, corpus.skipped) if in_videos else {}
    tables = sorted((root / "data").rglob("*.parquet"))
    if not tables:
        corpus.skipped[str(root / "data")] = "it holds no tables (.parquet)"
    for table in tables:
        try:
            episodes = _episodes(parquet, table, columns)
        except DAMAGE as error:
            corpus.skipped[str(table)] = reason(error)
            continue
        for episode in episodes:
            name = f"{root} episode {episode.index}"
            try:
                if in_videos:
                    read = _video_reader(root, about, key, places, episode.index)
                else:
                    read = _table_reader(parquet, table, key, episode.first)
                corpus.recordings.append(_recording(name, read, episode, told))
            except DAMAGE as error:
                corpus.skipped[name] = reason(error)
    return corpus


# ---- meta ----


def _describe(file: Path) -> _Description:
    """What `file` says.

    Raises:
        ValueError: it is not JSON, lacks something, or something in it is wrong.
    """
    try:
        info: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} does not describe a LeRobot data set: it is not JSON ({reason(error)}).") from error
    info = info if isinstance(info, dict) else {}
    features, fps, chunk = info.get("features"), info.get("fps"), info.get("chunks_size", 1000)
    features = features if isinstance(features, dict) else {}
    kinds: dict[str, Any] = {
        name: one.get("dtype") if isinstance(one, dict) else None for name, one in features.items()
    }
    wrong = None
    if not kinds or not all(isinstance(kind, str) for kind in kinds.values()):
        wrong = "features: expected each feature's name with its dtype", info.get("features")
    elif not {"video", "image"} & set(kinds.values()):
        wrong = "features: expected pictures, one whose dtype is video or image", kinds
    elif not isinstance(fps, int | float) or not 0 < fps < math.inf:
        wrong = "fps: expected a number above 0", fps
    elif not isinstance(chunk, int) or chunk < 1:
        wrong = "chunks_size: expected a whole number above 0", chunk
    if wrong:
        got = json.dumps(wrong[1])
        got = got if len(got) <= 200 else f"{got[:200]}..."
        raise ValueError(f"{file} does not describe a LeRobot data set: {wrong[0]}, got {got}.")
    return _Description(kinds, fps, chunk, info.get("video_path"))


def _is_template(template: Any) -> bool:
    """Whether it can be filled in for an episode."""
    numbers = dict.fromkeys(("episode_index", "episode_chunk", "chunk_index", "file_index"), 0)
    try:
        return bool(template.format(video_key="", **numbers))
    except (AttributeError, LookupError, TypeError, ValueError):
        return False


def _places(
    parquet: ModuleType, root: Path, key: str, skipped: dict[str, str]
) -> dict[int, tuple[dict[str, int], float]]:
    """Version 3 puts many episodes into one video: which one, and at how many seconds. Empty for version 2."""
    found = {}
    names = [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    for file in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        try:
            for row in parquet.ParquetFile(file).read(columns=["episode_index", *names]).to_pylist():
                chunk, number, start = (row[name] for name in names)
                whole = isinstance(chunk, int) and isinstance(number, int)
                if whole and isinstance(start, int | float) and 0 <= start < math.inf:
                    found[row["episode_index"]] = ({"chunk_index": chunk, "file_index": number}, start)
        except DAMAGE as error:
            skipped[str(file)] = reason(error)
    return found


def _tasks(parquet: ModuleType, root: Path, skipped: dict[str, str]) -> dict[int, str]:
    """What `task_index` points to: the tasks in words."""
    older, newer = (root / "meta" / name for name in ("tasks.jsonl", "tasks.parquet"))
    listed = older if older.is_file() else newer
    if not listed.is_file():
        return {}
    tasks = {}
    try:
        if listed == older:  # version 2
            rows = [json.loads(line) for line in older.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            rows = parquet.ParquetFile(newer).read().to_pylist()
        for row in rows:
            index = row["task_index"]
            if not isinstance(index, int) or index < 0:
                raise UnreadableError(f"expected task_index to be a whole number from 0, got {index!r}")
            words = [x for x in row.values() if isinstance(x, str)]
            if not words:
                raise UnreadableError(f"task {index} has no words")
            tasks[index] = words[0]
    except DAMAGE as error:
        skipped[str(listed)] = reason(error)
        return {}
    return dict(sorted(tasks.items()))


# ---- episodes ----


def _episodes(parquet: ModuleType, file: Path, columns: list[str]) -> list[_Episode]:
    """The episodes in a file of `data`, at least one."""
    table = parquet.ParquetFile(file).read(columns=["episode_index", *columns])
    if not len(table):
        raise UnreadableError("it holds no frames")
    values = {name: table[name].to_numpy() for name in columns}
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


def _recording(
    name: str, read: Callable[[int, int, int], Tensor], episode: _Episode, told: dict[int, int]
) -> Recording:
    """One episode; `told` says which sentence stands for a `task_index`."""
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
        told.get(task, -1),
    )


def _video_reader(
    root: Path, about: _Description, key: str, places: dict[int, tuple[dict[str, int], float]], episode: int
) -> Callable[[int, int, int], Tensor]:
    """Reads an episode's frames from its video, or its part of one."""
    place, start = places.get(episode, ({}, 0.0))
    place = {"episode_index": episode, "episode_chunk": episode // about.chunk} | place
    try:
        video = root / str(about.template).format(video_key=key, **place)
    except LookupError as error:
        raise UnreadableError(f"{root / 'meta' / 'episodes'} does not say in which video it is, and where") from error
    if not video.is_file():
        raise UnreadableError(f"{video} is missing")
    offset = round(start * about.fps)
    return lambda first, last, side: read_video(video, offset + first, offset + last, side, about.fps)


def _table_reader(parquet: ModuleType, file: Path, key: str, offset: int) -> Callable[[int, int, int], Tensor]:
    """Reads an episode's frames from the table that they are in, each a PNG or JPEG file of its own."""

    def read(first: int, last: int, side: int) -> Tensor:
        try:
            rows = _rows(parquet.ParquetFile(file), key, offset + first, offset + last)
            return torch.cat([resize(_picture(row["bytes"]), side) for row in rows])
        except (*DAMAGE, SyntaxError, Image.DecompressionBombError) as error:  # the last two are Pillow's
            raise UnreadableError(f"{key}: {reason(error)}") from error

    return read


def _rows(table: Any, key: str, first: int, last: int) -> list:
    """Rows `first` to `last`, that one not included, of a column; of a table of many episodes only the groups of rows
    that they are in are read."""
    groups, skipped, start = [], 0, 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        if end <= first:
            skipped = end
        elif start < last:
            groups.append(group)
        start = end
    return table.read_row_groups(groups, columns=[key])[key].slice(first - skipped, last - first).to_pylist()


def _picture(content: bytes) -> Tensor:
    """uint8 (1, 3, H, W)."""
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
