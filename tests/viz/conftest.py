"""A fabricated run folder in the layout that training leaves."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mindreel.viz.video import write_mp4


def cart_pole_frames(angles: np.ndarray, blur: float = 0.0) -> np.ndarray:
    """Pictures of a cart with a pole at `angles` (T,): uint8 (T, 3, 64, 64)."""
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    frames = np.zeros((len(angles), 3, 64, 64), dtype=np.float32)
    frames[:, :, 44:] = np.array([35, 62, 92], dtype=np.float32)[:, None, None]
    for frame, angle in zip(frames, angles, strict=True):
        cart_x = 32 + 12 * math.sin(angle)
        along = (columns - cart_x) * math.sin(angle) - (rows - 34) * math.cos(angle)
        across = (columns - cart_x) * math.cos(angle) + (rows - 34) * math.sin(angle)
        pole = np.clip(1.6 + blur - np.abs(across), 0, 1) * ((along > 0) & (along < 20)) / (1 + blur)
        cart = (np.abs(columns - cart_x) < 5) & (np.abs(rows - 34) < 3)
        shown = np.maximum(pole, cart)
        frame += shown * (np.array([250, 170, 90])[:, None, None] - frame)
    return frames.round().astype(np.uint8)


def _metrics(generator: np.random.Generator) -> list[dict]:
    rows = []
    for step in range(0, 1300, 50):
        share = step / 1300
        rows.append({"stage": "pretrain", "step": step, "loss": 2 * math.exp(-3 * share) + 0.3})
        rows[-1] |= {"vjepa_loss": 0.4 * math.exp(-2 * share), "effective_rank": 20 + 60 * share}
        rows[-1] |= {"feature_std": 0.4 + 0.5 * share, "probe_r2": 0.4 + 0.35 * share}
    for update in range(1, 160):
        share = update / 160
        level = 30 + 760 / (1 + math.exp(-10 * (share - 0.45)))
        rows.append({"stage": "train", "env_frames": 500 * update, "updates": 25 * update})
        rows[-1] |= {"wall_s": 4.0 * update, "updates_per_s": 7 + generator.normal() / 3}
        rows[-1] |= {"episode_return": max(0.0, level + 60 * generator.normal())}
        for name, size in (("consistency", 0.02), ("reward", 1.5), ("value", 2.5), ("policy", 1.0)):
            rows[-1][f"{name}_loss"] = size * (0.2 + math.exp(-4 * share)) * math.exp(0.2 * generator.normal())
        if update % 32 == 0:
            rows.append({"stage": "eval", "env_frames": 500 * update, "eval_return_mean": level + 15})
    return rows


def _summary(generator: np.random.Generator) -> dict:
    targets = ("position[0]", "cos angle", "sin angle", "velocity[0]", "velocity[1]")
    known = {"vjepa": 0.1, "untrained": 0.0, "pixels": -0.08}
    probes = [
        {"encoder": encoder, "probe": probe, "target": target, "r2": base + gain - 0.15 * (probe == "linear")}
        for probe in ("linear", "mlp")
        for encoder, gain in known.items()
        for target, base in zip(targets, (0.88, 0.8, 0.75, 0.55, 0.1), strict=True)
    ]
    return {
        "task": "cartpole-swingup",
        "seed": 1,
        "encoder": "vjepa",
        "agent": "mpc",
        "eval_return_mean": 741.3,
        "eval_return_ci95": [702.0, 779.9],
        "eval_returns": [741 + 60 * generator.normal() for _ in range(10)],
        "eval_episodes": 10,
        "no_planning_return_mean": 655.2,
        "no_planning_return_ci95": [598.1, 701.7],
        "random_return_mean": 42.6,
        "env_frames": 160_000,
        "updates": 4000,
        "wall_time_s": {
            "setup": 21.3,
            "collect": 38.0,
            "pretrain": 301.2,
            "train": 588.8,
            "evaluate": 61.0,
            "report": 12.4,
            "total": 1022.7,
        },
        "hardware": {"cpu": "Some CPU <8 cores> & more", "cores": 2, "memory_gb": 24.0, "gpu": None},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "mujoco": "3.17.0"},
        "git_commit": "0123456789abcdef",
        "command": "python scripts/train.py preset=demo seed=1",
        "probes": probes,
    }


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run: summary, metrics, config, a video and imagined frames."""
    folder = tmp_path / "demo"
    folder.mkdir()
    generator = np.random.default_rng(0)
    (folder / "summary.json").write_text(json.dumps(_summary(generator)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _metrics(generator)))
    (folder / "config.yaml").write_text("task: cartpole-swingup\nencoder:\n  name: vjepa  # <script> & co\n")
    swing = 3.1 * np.exp(-np.arange(60) / 18) * np.cos(np.arange(60) / 5)
    write_mp4(folder / "videos" / "eval_0.mp4", cart_pole_frames(swing), fps=25)
    starts = [swing[first : first + 17] for first in (0, 20)]
    real = np.stack([cart_pole_frames(angles) for angles in starts])
    drift = np.linspace(0, 0.4, 17)
    imagined = np.stack([cart_pole_frames(angles + drift, blur=0.8) for angles in starts])
    np.savez_compressed(folder / "imagination.npz", real=real, imagined=imagined)
    return folder
