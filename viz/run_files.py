"""The files of a run folder; of an unfinished or damaged run, those that are there and can be read."""

import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class RunFiles:
    """Everything that a report shows. What is missing or unreadable is empty; `notes` says what could not be read."""

    name: str
    """Name of the folder."""
    summary: dict[str, Any] = field(default_factory=dict)
    """summary.json."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    config: str = ""
    """The text of config.yaml."""
    videos: list[tuple[str, bytes]] = field(default_factory=list)
    """Name and content of videos/*.mp4, videos of evaluations first."""
    real: np.ndarray | None = None
    """Frames that the environment showed, uint8 (K, T, 3, H, W)."""
    imagined: np.ndarray | None = None
    """Frames that the decoder drew from imagined latents, of the same shape."""
    notes: list[str] = field(default_factory=list)
    """A sentence for each file that could not be read."""


def read_run(path: Path) -> RunFiles:
    """Reads the run in the folder `path`.

    Raises:
        ValueError: when there is no such folder.
    """
    if not path.is_dir():
        raise ValueError(f"Expected the folder of a run, got {path}, which is not a folder.")
    run = RunFiles(name=path.resolve().name)
    run.summary = _read_summary(path / "summary.json", run.notes)
    run.metrics = _read_metrics(path / "metrics.jsonl", run.notes)
    run.config = _read_text(path / "config.yaml", run.notes)
    run.videos = _read_videos(path / "videos", run.notes)
    pair = _read_imagination(path / "imagination.npz", run.notes)
    if pair is not None:
        run.real, run.imagined = pair
    return run


def number(value: Any) -> float | None:
    """`value` as a float when it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(value: Any) -> tuple[float, float] | None:
    """`value` as (low, high) when it is a pair of finite numbers, else None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (min(low, high), max(low, high))


def episode_interval(summary: dict[str, Any], name: str) -> tuple[float, float] | None:
    """The 95% interval of `eval_return`, `no_planning_return` or `random_return`.

    None where it is missing, or comes from one or two episodes, which say nothing of how much returns scatter.
    """
    episodes = number(summary.get("eval_episodes"))
    if episodes is not None and episodes < 3:
        return None
    return interval(summary.get(f"{name}_ci95"))


def _read_text(path: Path, notes: list[str]) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        notes.append(f"{path.name} could not be read: {error.strerror}.")
        return ""


def _read_summary(path: Path, notes: list[str]) -> dict[str, Any]:
    text = _read_text(path, notes)
    if not text:
        return {}
    try:
        summary = json.loads(text)
    except ValueError as error:
        notes.append(f"{path.name} is not valid JSON ({error}) and was left out.")
        return {}
    if not isinstance(summary, dict):
        notes.append(f"{path.name} does not hold a JSON object and was left out.")
        return {}
    return summary


def _read_metrics(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    rows, unreadable = [], 0
    for line in _read_text(path, notes).splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            unreadable += 1
    if unreadable:
        lines = "1 line" if unreadable == 1 else f"{unreadable} lines"
        notes.append(f"{lines} of {path.name} could not be read and were left out.")
    return rows


def _read_videos(folder: Path, notes: list[str]) -> list[tuple[str, bytes]]:
    videos = []
    for path in sorted(folder.glob("*.mp4"), key=lambda path: ("eval" not in path.name, path.name)):
        try:
            content = path.read_bytes()
        except OSError as error:
            notes.append(f"videos/{path.name} could not be read: {error.strerror}.")
            continue
        if content[4:8] == b"ftyp":  # how every MP4 begins
            videos.append((path.name, content))
        else:
            notes.append(f"videos/{path.name} is not an MP4 file and was left out.")
    return videos


def _read_imagination(path: Path, notes: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            real, imagined = arrays["real"], arrays["imagined"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        notes.append(f"{path.name} could not be read ({error}) and was left out.")
        return None
    pictures = real.ndim == 5 and real.shape[2] == 3 and 0 not in real.shape
    if not pictures or real.shape != imagined.shape or not real.dtype == imagined.dtype == np.uint8:
        notes.append(
            f"{path.name} was left out: expected real and imagined to be uint8 (K, T, 3, H, W) of one shape, "
            f"got {real.dtype} {real.shape} and {imagined.dtype} {imagined.shape}."
        )
        return None
    return real, imagined
