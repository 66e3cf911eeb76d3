"""Pretrain an encoder on rollouts of noise, without an agent, and probe what it learned.

    python scripts/pretrain.py task=cartpole-swingup encoder=vjepa pretrain.steps=1000
    python scripts/pretrain.py preset=demo run=runs/encoder out=rows.json

The run folder holds a checkpoint; `python scripts/train.py resume=FOLDER` trains an agent from there.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import assemble
import cli
from assemble import GROUPS, TrainConfig, choice
from finish import git_commit, hardware, versions
from probing import print_probes, probe_table
from rows import check_out, write_rows
from run_folder import MetricsLog, find_run, progress_bar, start_run


@dataclass(frozen=True)
class PretrainRunConfig(TrainConfig):
    """A run of scripts/pretrain.py."""

    out: str = ""
    """File for the probe rows, JSON."""


def run(config: PretrainRunConfig) -> None:
    """Collects rollouts, pretrains the encoder and prints the probe table."""
    start = time.monotonic()
    check_out(config.out)
    cli.check_device(config.device)
    folder = find_run(config, "pretrain")
    parts = assemble.build(config)
    if parts.pretrainer is None:
        name = choice(config, "encoder")
        raise ValueError(f"encoder={name} has no objective to pretrain it with: choose encoder=vjepa.")
    start_run(folder, config, leave_out=("out",))
    print(f"{config.task} on {parts.env.device}, into {folder}/")
    log = MetricsLog(folder)
    checkpoint = folder / "checkpoints" / "last.pt"
    trainer = assemble.build_trainer(config, parts, log, progress_bar, checkpoint, log_state=log.lines)
    try:
        if config.resume:
            log.truncate(trainer.load()["log_lines"])
        trainer.wall_time["setup"] = trainer.wall_time.get("setup", 0.0) + time.monotonic() - start
        trainer.prepare()
    finally:
        log.close()
    probes = probe_table(config, parts, trainer.replay, None)
    _write_summary(config, folder, trainer, probes)
    print_probes(probes)
    write_rows(config.out, [{"task": config.task, "seed": config.seed, **row} for row in probes])
    print(f"Checkpoint: {checkpoint}\nTrain an agent with it: python scripts/train.py resume={folder}")


def _write_summary(config: PretrainRunConfig, folder: Path, trainer, probes: list[dict]) -> None:
    wall_time = {name: round(seconds, 1) for name, seconds in trainer.wall_time.items()}
    summary = {
        "task": config.task,
        "seed": config.seed,
        "encoder": choice(config, "encoder"),
        "env_frames": trainer.env_frames,
        "updates": trainer.updates,
        "wall_time_s": wall_time | {"total": round(sum(wall_time.values()), 1)},
        "hardware": hardware(config.device),
        "versions": versions(),
        "git_commit": git_commit(),
        "probes": probes,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")


if __name__ == "__main__":
    cli.main(run, PretrainRunConfig, GROUPS, base="resume")
