"""Metrics on disk: rows as they come, and curves whose names and axes say what they are."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mindreel.runs.metrics import MetricsLog

ROWS = [
    {"stage": "pretrain", "env_frames": 160, "updates": 0, "step": 1, "loss": 2.0},
    {"stage": "pretrain", "env_frames": 160, "updates": 0, "step": 2, "loss": 1.0},
    {"stage": "train", "env_frames": 320, "updates": 10, "reward_loss": 0.5, "episode_return": 7.0},
    {"stage": "refresh", "env_frames": 320, "updates": 10, "step": 3, "loss": 0.5},
    {"stage": "eval", "env_frames": 320, "updates": 10, "eval_return_mean": 9.0},
    {"stage": "train", "env_frames": 480, "updates": 20, "reward_loss": 0.25},
]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (place, value) of each point in TensorBoard, but for speeds."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def test_rows_and_curves(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for row in ROWS:
        log(row)
    log.close()
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == ROWS
    assert curves(tmp_path) == {
        "encoder/loss": [(1, 2.0), (2, 1.0), (3, 0.5)],
        "agent/reward_loss": [(320, 0.5), (480, 0.25)],
        "agent/return": [(320, 7.0)],
        "eval/return": [(320, 9.0)],
    }
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (frames,), (updates,) = (events.Scalars(f"speed/{what}_per_second") for what in ("frames", "updates"))
    assert frames.step == updates.step == 480
    assert frames.value == pytest.approx(16 * updates.value)


def test_what_is_cut_off_is_cut_off_in_the_curves_too(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for row in ROWS[:5]:
        log(row)
    log.close()  # as a kill does
    log = MetricsLog(tmp_path)
    log.truncate(2)
    for row in ROWS[2:]:
        log(row)
    log.close()
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == ROWS
    again = curves(tmp_path)
    assert again["agent/reward_loss"] == [(320, 0.5), (480, 0.25)]
    assert again["encoder/loss"] == [(1, 2.0), (2, 1.0), (3, 0.5)]
