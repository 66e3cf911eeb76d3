"""LeRobot data sets that lead elsewhere, or declare more than they hold."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from hostile_cases import add, png
from hostile_videos import VIDEOS, video

KEY = "observation.images.top"


def lerobot(folder: Path, table: dict | None = None, places: dict | None = None, **changes: object) -> None:
    """One episode of 12 frames in a video or, if the table has pictures, in that; with changes to its info.json."""
    pictures = table is not None and KEY in table
    kinds = {KEY: "image" if pictures else "video", "action": "float32", "episode_index": "int64"}
    info: dict[str, object] = {
        "fps": 10,
        "chunks_size": 1000,
        "video_path": "videos/{video_key}/{chunk_index}/{file_index}.mp4",
        "features": {name: {"dtype": kind} for name, kind in kinds.items()},
    }
    (folder / "meta" / "episodes").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info | changes))
    rows = {"episode_index": [0] * 12, "action": [[0.0, 1.0]] * 12} | (table or {})
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "data" / "0.parquet")
    place = {"chunk_index": [0], "file_index": [0], "from_timestamp": [0.0]} | (places or {})
    columns = {"episode_index": [0]} | {f"videos/{KEY}/{name}": value for name, value in place.items()}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "meta" / "episodes" / "0.parquet")
    (folder / "videos" / KEY / "0").mkdir(parents=True)
    video(folder / "videos" / KEY / "0" / "0.mp4")


def text_of(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        lerobot(folder)
        content_bytes = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(content_bytes)

    return make


def linked(name: str, target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        lerobot(folder)
        (folder / name).unlink()
        (folder / name).symlink_to(folder.parent / "secret" / target)

    return make


def piped(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        lerobot(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def camera(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        features = {name: {"dtype": "video"}, "episode_index": {"dtype": "int64"}}
        lerobot(folder, features=features, video_path="videos/{video_key}.mp4")

    return make


def run_of(rows: int, **columns: pyarrow.Array) -> Callable[[Path], None]:
    """A table of one number again and again, which takes a few bytes for each million."""

    def make(folder: Path) -> None:
        lerobot(folder)
        table = pyarrow.table({"episode_index": pyarrow.array(np.zeros(rows, np.int8))} | columns)
        pyarrow.parquet.write_table(table, folder / "data" / "0.parquet", row_group_size=2**30)

    return make


def lists_of(length: int) -> Callable[[Path], None]:
    """Rows of which one has many numbers, which take a bit each."""

    def make(folder: Path) -> None:
        lerobot(folder)
        offsets = pyarrow.array([0] + [length] * 12, pyarrow.int32())
        actions = pyarrow.ListArray.from_arrays(offsets, pyarrow.array(np.zeros(length, bool)))
        table = pyarrow.table({"episode_index": [0] * 12, "action": actions})
        pyarrow.parquet.write_table(table, folder / "data" / "0.parquet", use_dictionary=False)

    return make


def pictured(content: object) -> Callable[[Path], None]:
    return lambda folder: lerobot(folder, {KEY: [{"bytes": content, "path": "../secret/secret.png"}] * 12})


LEROBOT: dict[str, Callable[[Path], None]] = {
    "video_path up": lambda folder: lerobot(folder, video_path="../secret/secret.mp4"),
    "video_path from inside": lambda folder: lerobot(folder, video_path="videos/../../secret/secret.mp4"),
    "video_path from the root": lambda folder: lerobot(folder, video_path=str(folder.parent / "secret/secret.mp4")),
    "video_path of attributes": lambda folder: lerobot(folder, video_path="{video_key.__class__.__mro__}"),
    "video_path of items": lambda folder: lerobot(folder, video_path="{video_key[0]}"),
    "video_path of 3e9 zeros": lambda folder: lerobot(folder, video_path="{episode_index:03000000000d}"),
    "video_path of nested widths": lambda folder: lerobot(folder, video_path="{episode_index:{chunk_index}}"),
    "video_path of repr": lambda folder: lerobot(folder, video_path="{episode_index!r}"),
    "video_path of widths for names": lambda folder: lerobot(folder, video_path="{video_key:999999999}"),
    "video_path of nothing": lambda folder: lerobot(folder, video_path=""),
    "video_path with a null": lambda folder: lerobot(folder, video_path="videos/\0.mp4"),
    "video_path long": lambda folder: lerobot(folder, video_path="a" * 100_000),
    "video_path a list": lambda folder: lerobot(folder, video_path=["x"]),
    "camera up": camera("../../secret/secret"),
    "camera from the root": camera("/proc/self/environ"),
    "camera with a null": camera("x\0"),
    "video is a link": linked(f"videos/{KEY}/0/0.mp4", "secret.mp4"),
    "table is a link": linked("data/0.parquet", "secret.parquet"),
    "info is a link": linked("meta/info.json", "secret.json"),
    "video is a pipe": piped(f"videos/{KEY}/0/0.mp4"),
    "table is a pipe": piped("data/0.parquet"),
    "places are a pipe": piped("meta/episodes/0.parquet"),
    "video is a playlist": text_of(f"videos/{KEY}/0/0.mp4", str(VIDEOS["hls"])),
    "fps 0": lambda folder: lerobot(folder, fps=0),
    "fps negative": lambda folder: lerobot(folder, fps=-10),
    "fps 1e308": lambda folder: lerobot(folder, fps=1e308),
    "fps 1e-308": lambda folder: lerobot(folder, fps=1e-308),
    "fps nan": lambda folder: lerobot(folder, fps=float("nan")),
    "fps true": lambda folder: lerobot(folder, fps=True),
    "fps of 4000 digits": lambda folder: lerobot(folder, fps=10**4000),
    "chunks_size 0": lambda folder: lerobot(folder, chunks_size=0),
    "chunks_size text": lambda folder: lerobot(folder, chunks_size="many"),
    "features deep": lambda folder: lerobot(folder, features={"x": {"dtype": [[[[]]]]}}),
    "info deep": text_of("meta/info.json", "[" * 100_000),
    "info deep and whole": text_of("meta/info.json", '{"features": ' + "[" * 900 + "]" * 900 + "}"),
    "info of bytes": text_of("meta/info.json", b"\xff\xfe\x00"),
    "info of nothing": text_of("meta/info.json", ""),
    "info of a number": text_of("meta/info.json", "3"),
    "from_timestamp 1e300": lambda folder: lerobot(folder, places={"from_timestamp": [1e300]}),
    "from_timestamp nan": lambda folder: lerobot(folder, places={"from_timestamp": [float("nan")]}),
    "from_timestamp text": lambda folder: lerobot(folder, places={"from_timestamp": ["now"]}),
    "from_timestamp past the end": lambda folder: lerobot(folder, places={"from_timestamp": [1e6]}),
    "chunk_index negative": lambda folder: lerobot(folder, places={"chunk_index": [-1]}),
    "chunk_index text": lambda folder: lerobot(folder, places={"chunk_index": ["../../secret"]}),
    "episode_index nan": lambda folder: lerobot(folder, {"episode_index": [float("nan")] * 12}),
    "episode_index 2^62": lambda folder: lerobot(folder, {"episode_index": [2**62] * 12}),
    "episode_index text": lambda folder: lerobot(folder, {"episode_index": ["../secret"] * 12}),
    "table of noise": text_of("data/0.parquet", b"PAR1" + bytes(500) + b"PAR1"),
    "table of nothing": text_of("data/0.parquet", ""),
    "table whose footer is 2 GB": text_of("data/0.parquet", b"PAR1" + bytes(50) + b"\xff\xff\xff\x7fPAR1"),
    "table of 6 million rows": run_of(6_000_000, action=pyarrow.array(np.zeros(6_000_000, np.int8))),
    "row of 60 million numbers": lists_of(60_000_000),
    "actions of text": lambda folder: lerobot(folder, {"action": ["left"] * 12}),
    "actions of records": lambda folder: lerobot(folder, {"action": [{"x": 1}] * 12}),
    "actions of nothing": lambda folder: lerobot(folder, {"action": [None] * 12}),
    "picture of 400 megapixels": pictured(png(20_000, 20_000)),
    "picture of 50 megapixels": pictured(png(7100, 7100)),
    "picture of 2^31 pixels": pictured(png(10, 10)[:16] + b"\x7f\xff\xff\xff" * 2 + png(10, 10)[24:]),
    "picture of noise": pictured(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "picture cut": pictured(png(500, 500)[:80]),
    "picture elsewhere": pictured(None),
    "picture of another kind": pictured(b"GIF89a" + bytes(100)),
}
for name, make in LEROBOT.items():
    add("data", f"data lerobot: {name}", make)
