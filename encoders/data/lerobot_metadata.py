"""The descriptions in a LeRobot data set: its features, its tasks, and where its videos are."""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mindreel.encoders.data.recordings import DAMAGE, UnreadableError, reason

_LARGEST_JSON = 64_000_000  # bytes
_MOST_ROWS, _MOST_VALUES, _MOST_BYTES = 5_000_000, 50_000_000, 1e9  # of a table that is read whole
_FIELDS = {"video_key", "episode_index", "episode_chunk", "chunk_index", "file_index"}
_FPS, _MOST_SECONDS = (0.001, 100_000.0), 1e7


@dataclass(frozen=True)
class Description:
    """A data set's meta/info.json."""

    kinds: dict[str, str]
    """Feature -> its dtype."""
    fps: float
    """Frames a second."""
    chunk: int
    """Episodes in a folder of videos."""
    template: str | None
    """Where an episode's video is, as a format string; None if pictures are in the tables."""


def check_inside(root: Path, file: Path) -> None:
    """Raises UnreadableError unless `file` is a file in the data set's folder, or in the cache that it is linked from.

    The Hugging Face hub keeps NAME/snapshots/COMMIT/... as links to NAME/blobs/....
    """
    top = root.resolve()
    top = top.parent.parent if top.parent.name == "snapshots" else top
    if ".." in file.parts or not file.resolve().is_relative_to(top):
        raise UnreadableError(f"{file} leads out of the data set's folder")
    if file.exists() and not file.is_file():
        raise UnreadableError(f"{file} is not a file")


def describe(root: Path) -> Description:
    """Reads a data set's meta/info.json.

    Raises:
        ValueError: it is not JSON, lacks something, or something in it is wrong.
    """
    file = root / "meta" / "info.json"
    try:
        info: Any = json.loads(_text(root, file))
    except (ValueError, RecursionError) as error:
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
    elif isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < float("inf"):
        wrong = "fps: expected a number above 0", fps
    elif not _FPS[0] <= fps <= _FPS[1]:
        wrong = f"fps: expected a number from {_FPS[0]:g} to {_FPS[1]:g}", fps
    elif isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        wrong = "chunks_size: expected a whole number above 0", chunk
    if wrong:
        raise ValueError(f"{file} does not describe a LeRobot data set: {wrong[0]}, got {_short(wrong[1])}.")
    return Description(kinds, float(fps), chunk, info.get("video_path"))


def _text(root: Path, file: Path) -> str:
    check_inside(root, file)
    if file.stat().st_size > _LARGEST_JSON:
        raise UnreadableError(f"{file} is larger than {_LARGEST_JSON / 1e6:g} MB")
    return file.read_text(encoding="utf-8")


def _short(value: Any) -> str:
    try:
        got = json.dumps(value)
    except RecursionError:
        return "something nested too deep"
    return got if len(got) <= 200 else f"{got[:200]}..."


def is_template(template: Any) -> bool:
    """Says if it can be filled in for an episode: only known fields, and numbers of at most 99 digits."""
    if not isinstance(template, str) or len(template) > 1000:
        return False
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return False
    return all(
        field is None
        or field in _FIELDS
        and not conversion
        and re.fullmatch("" if field == "video_key" else r"0?\d{0,2}d?", spec or "") is not None
        for _, field, spec, conversion in parts
    )


# ---- tables ----


def open_table(parquet: ModuleType, root: Path, file: Path, **options: Any) -> Any:
    """A table of a data set, as pyarrow's ParquetFile.

    Raises:
        UnreadableError: it lies outside the data set's folder.
    """
    check_inside(root, file)
    return parquet.ParquetFile(file, **options)


def read_table(table: Any, columns: Sequence[str]) -> Any:
    """Columns of a table, as pyarrow's Table.

    Raises:
        UnreadableError: they are too large, which a small file can be by repeating one number.
    """
    missing = [name for name in columns if name not in table.schema_arrow.names]
    if missing:
        raise UnreadableError(f"it has no column {missing[0]}")
    check_size(table, columns, range(table.num_row_groups))
    return table.read(columns=list(columns))


def check_size(table: Any, columns: Sequence[str], groups: Sequence[int]) -> None:
    """Raises UnreadableError if these columns, of these groups of rows, declare more than is held in memory."""
    values, size = 0, 0
    for group in groups:
        about = table.metadata.row_group(group)
        for number in range(about.num_columns):
            column = about.column(number)
            if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in columns):
                values += column.num_values
                size += column.total_uncompressed_size
    rows = table.metadata.num_rows
    if rows > _MOST_ROWS or values > _MOST_VALUES or size > _MOST_BYTES:
        raise UnreadableError(
            f"it declares {rows} rows with {values} values of {', '.join(columns)} ({size / 1e6:.0f} MB): expected at "
            f"most {_MOST_ROWS} rows, {_MOST_VALUES} values and {_MOST_BYTES / 1e6:g} MB; split it into several files"
        )


def read_tasks(parquet: ModuleType, root: Path, skipped: dict[str, str]) -> dict[int, str]:
    """`task_index` -> the task in words; where they are damaged, why goes to `skipped`."""
    older, newer = (root / "meta" / name for name in ("tasks.jsonl", "tasks.parquet"))
    listed = older if older.is_file() else newer
    if not listed.is_file():
        return {}
    tasks = {}
    try:
        if listed == older:  # version 2
            rows = [json.loads(line) for line in _text(root, older).splitlines() if line.strip()]
        else:
            table = open_table(parquet, root, newer)
            rows = read_table(table, table.schema_arrow.names).to_pylist()
        for row in rows:
            index = row["task_index"]
            if not isinstance(index, int) or index < 0:
                raise UnreadableError(f"expected task_index to be a whole number from 0, got {_short(index)}")
            sentences = [x for x in row.values() if isinstance(x, str)]
            if not sentences:
                raise UnreadableError(f"task {index} has no words")
            tasks[index] = sentences[0]
    except DAMAGE as error:
        skipped[str(listed)] = reason(error)
        return {}
    return dict(sorted(tasks.items()))


def read_places(
    parquet: ModuleType, root: Path, key: str, skipped: dict[str, str]
) -> dict[int, tuple[dict[str, int], float]]:
    """Episode -> in which video it is, and at how many seconds. Version 3 puts many into one; empty for version 2."""
    found = {}
    names = [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    for file in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        try:
            for row in read_table(open_table(parquet, root, file), ["episode_index", *names]).to_pylist():
                chunk, number, start = (row[name] for name in names)
                whole = isinstance(chunk, int) and isinstance(number, int) and min(chunk, number) >= 0
                if whole and isinstance(start, int | float) and 0 <= start <= _MOST_SECONDS:
                    found[row["episode_index"]] = ({"chunk_index": chunk, "file_index": number}, float(start))
        except DAMAGE as error:
            skipped[str(file)] = reason(error)
    return found
