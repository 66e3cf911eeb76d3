"""Recordings in LeRobot data sets, versions 2 and 3 of their layout (huggingface.co/docs/lerobot)."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np

from encoders.recordings import DAMAGE, Corpus, Recording, choose_camera, optional, read_video, reason


def read_lerobot(root: Path, camera: str) -> Corpus:
    """Every episode of a data set whose video is there; tables and episodes that cannot be read are skipped.

    Raises:
        ValueError: the description of the data set lacks something, its pictures are not videos, or there is no
            such camera.
    """
    parquet = optional("pyarrow.parquet")
    file = root / "meta" / "info.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        kinds = {name: about["dtype"] for name, about in info["features"].items()}
        fps, chunk, template = info["fps"], info.get("chunks_size", 1000), info.get("video_path")
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file} does not describe a LeRobot data set ({error!r}).") from error
    key = choose_camera(camera, [name for name, kind in kinds.items() if kind in ("video", "image")], root)
    if kinds[key] != "video" or not template:
        raise ValueError(f"{root} keeps {key} as single pictures: convert them to videos with LeRobot's own tools.")
    columns = [name for name in ("action", "next.reward") if kinds.get(name, "").startswith("float")]
    columns += [name for name in ("task_index",) if name in kinds]
    corpus = Corpus()
    corpus.sentences = _sentences(parquet, root, corpus.skipped)
    places = _places(parquet, root, key, corpus.skipped)
    for table in sorted((root / "data").rglob("*.parquet")):
        try:
            episodes = _episodes(parquet, table, columns)
        except DAMAGE as error:
            corpus.skipped[str(table)] = reason(error)
            continue
        for episode, rows in episodes:
            place, start = places.get(episode, ({}, 0.0))
            place = {"episode_index": episode, "episode_chunk": episode // chunk} | place
            name = f"{root} episode {episode}"
            try:
                video = root / template.format(video_key=key, **place)
            except LookupError:
                corpus.skipped[name] = f"{root / 'meta' / 'episodes'} does not say in which video it is"
                continue
            if video.is_file():
                corpus.recordings.append(_recording(name, video, fps, round(start * fps), rows, corpus.sentences))
            else:
                corpus.skipped[name] = f"{video} is missing"
    return corpus


def _recording(
    name: str, video: Path, fps: int, offset: int, rows: dict[str, np.ndarray], sentences: tuple[str, ...]
) -> Recording:
    """One episode, which starts at frame `offset` of its video; rows of each column (T + 1, n)."""
    task = int(rows["task_index"][0, 0]) if "task_index" in rows else -1
    return Recording(
        name,
        len(rows["episode_index"]),
        lambda first, last, side: read_video(video, offset + first, offset + last, side, fps),
        rows["action"][:-1].astype(np.float32) if "action" in rows else None,
        rows["next.reward"][:-1, 0].astype(np.float32) if "next.reward" in rows else None,
        task if task < len(sentences) else -1,
    )


def _episodes(parquet: ModuleType, file: Path, columns: list[str]) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Index and rows of each episode in a file of `data`."""
    table = parquet.ParquetFile(file).read(columns=["episode_index", *columns])
    values = {}
    for name in ("episode_index", *columns):
        column = table[name].combine_chunks()
        flat = column.flatten() if hasattr(column.type, "value_type") else column
        values[name] = flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
    episode = values["episode_index"][:, 0]
    cuts = [0, *(np.flatnonzero(np.diff(episode)) + 1).tolist(), len(episode)]
    stretches = [slice(first, last) for first, last in zip(cuts, cuts[1:], strict=False) if last > first]
    return [(int(episode[one.start]), {name: x[one] for name, x in values.items()}) for one in stretches]


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
                found[row["episode_index"]] = ({"chunk_index": chunk, "file_index": number}, start)
        except DAMAGE as error:
            skipped[str(file)] = reason(error)
    return found


def _sentences(parquet: ModuleType, root: Path, skipped: dict[str, str]) -> tuple[str, ...]:
    """What `task_index` points to: the tasks in words."""
    older, newer = (root / "meta" / name for name in ("tasks.jsonl", "tasks.parquet"))
    listed = older if older.is_file() else newer
    if not listed.is_file():
        return ()
    try:
        if listed == older:  # version 2
            rows = [json.loads(line) for line in older.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            rows = parquet.ParquetFile(newer).read().to_pylist()
        tasks = {row["task_index"]: [x for x in row.values() if isinstance(x, str)][0] for row in rows}
    except DAMAGE as error:
        skipped[str(listed)] = reason(error)
        return ()
    return tuple(tasks.get(index, "") for index in range(max(tasks, default=-1) + 1))
