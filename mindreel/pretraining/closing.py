"""The end of a pretraining run: what is printed and written, and whether it can continue."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindreel import cli
from mindreel.files import write_text
from mindreel.pretraining.torchrun import is_first
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.runs.provenance import git_commit, hardware, versions


def has_more_steps(
    config: TrainConfig,
    folder: Path,
    done: int,
    total: int,
    leave_out: tuple[str, ...],
    say: Callable[[str], None] = print,
) -> bool:
    """Whether a run whose pretraining has ended continues; further steps follow the learning rate of `total`.

    Args:
        config: the run's, with the number of steps that it is to have; saved over the old one if it continues.
        folder: the run's.
        done: steps taken.
        total: steps wanted in all.
        leave_out: fields that belong to the script and not to the run.
        say: prints; only the first of several processes saves.
    """
    if total <= done:
        say(
            f"This pretraining has ended: its {done} steps are done. To continue, add pretrain.tflop=0 "
            f"pretrain.steps=N, N above {done}; to start another run from it, encoder_from={folder}."
        )
        return False
    if is_first():  # a run that is interrupted from here on resumes to the new end
        cli.save(config, GROUPS, folder / "config.yaml", leave_out=("resume", "overwrite", *leave_out))
    say(f"It had {done} steps and continues to step {total}.")
    return True


def print_throughput(speed: dict[str, float]) -> None:
    """Prints how fast training was; nothing if it was too short to tell."""
    if "clips_per_s" in speed:
        print(
            f"Pretraining: {speed['clips_per_s']:,.0f} clips/s, {speed['gflop_per_clip']:.2f} GFLOP each, "
            f"{speed['peak_fraction']:.0%} of the {speed['peak_gflop_per_s']:,.0f} GFLOP/s of a matrix product here."
        )


def write_summary(
    config: TrainConfig,
    folder: Path,
    wall_time: dict[str, float],
    counts: dict[str, Any],
    speed: dict[str, float],
    probes: list[dict],
) -> None:
    """Writes summary.json: what ran, for how long, how fast, on what, and what the encoder knows."""
    rounded = {name: round(seconds, 1) for name, seconds in wall_time.items()}
    summary = {
        "task": config.task,
        "seed": config.seed,
        "encoder": choice(config, "encoder"),
        **counts,
        "wall_time_s": rounded | {"total": round(sum(rounded.values()), 1)},
        "throughput": speed,
        "hardware": hardware(config.device),
        "versions": versions(),
        "git_commit": git_commit(),
        "probes": probes,
    }
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
