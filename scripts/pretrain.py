"""Pretrain an encoder, without an agent, on rollouts of noise, on a run's replay, or on files.

    python scripts/pretrain.py task=cartpole-swingup encoder=vjepa pretrain.steps=1000
    python scripts/pretrain.py preset=demo run=runs/encoder out=rows.json
    python scripts/pretrain.py data=runs/demo encoder=lejepa run=runs/lejepa
    python scripts/pretrain.py data=videos/ run=runs/videos
    torchrun --nproc-per-node=2 scripts/pretrain.py data=videos/ run=runs/videos
    python scripts/pretrain.py resume=runs/videos

`data` is a run, a LeRobot data set, or HDF5 files or videos, alone or in a folder. Without it the run folder
holds a checkpoint from which `python scripts/train.py resume=FOLDER` trains an agent.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mindreel import assembly, cli
from mindreel.devices import check_device, use_tensor_cores
from mindreel.encoders import has_objective
from mindreel.encoders.data.clips import ClipConfig
from mindreel.pretraining.on_data import Memory, goes_on, pretrain_on_data, print_throughput, write_summary
from mindreel.probing.run_tables import print_probes, probe_table
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.runs.folder import find_run, start_run, tell_how_to_go_on
from mindreel.runs.metrics import MetricsLog, progress_bar
from mindreel.tables import check_out, write_rows


@dataclass(frozen=True)
class PretrainRunConfig(TrainConfig):
    """A run of scripts/pretrain.py."""

    data: str = ""
    """Run, file or folder to learn from; rollouts of noise if empty."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    """Clips drawn from files."""
    out: str = ""
    """File for the probe rows, JSON."""


def run(config: PretrainRunConfig) -> None:
    """Pretrains the encoder and, where states are known, prints the probe table."""
    check_out(config.out)
    check_device(config.device)
    if not has_objective(config.encoder):
        name = choice(config, "encoder")
        way = "encoder.training_mode=refresh gives it one" if name == "pretrained" else "choose encoder=vjepa"
        raise ValueError(f"encoder={name} has no objective to pretrain it with: {way}.")
    if config.data:
        rows = pretrain_on_data(config, config.data, config.clips)
    else:
        rows = _on_rollouts(config)
    if os.environ.get("RANK", "0") == "0":  # the other processes of torchrun have no rows
        write_rows(config.out, [{"task": config.task, "seed": config.seed, **row} for row in rows])


def _on_rollouts(config: PretrainRunConfig) -> list[dict]:
    """Collects rollouts of noise, learns from them, and returns the rows of the probe table."""
    start = time.monotonic()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("Several processes share recordings, not worlds: give data=, such as a run to learn from.")
    folder = find_run(config, "pretrain")
    parts = assembly.build(config)
    assert parts.pretrainer is not None
    assembly.prepare(config, parts)
    # Without `data` and `clips` the config is one that train.py reads, to go on from here.
    left_out = ("out", "data", "clips")
    start_run(folder, config, leave_out=left_out)
    print(f"{config.task} on {parts.env.device}, into {folder}/")
    log = MetricsLog(folder)
    checkpoint = folder / "checkpoints" / "last.pt"
    trainer = assembly.build_trainer(config, parts, log, progress_bar, checkpoint, log_state=log.lines)
    parts.pretrainer.watch = Memory(parts.encoder, trainer.replay, config.seed)
    try:
        if config.resume:
            log.truncate(trainer.load()["log_lines"])
        if trainer.pretrained:
            wanted = parts.pretrainer.planned(trainer.encoder_training.sample, config.pretrain.steps)
            # Not once an agent has learned to read its features.
            total = 0 if trainer.updates else wanted
            trainer.pretrained = not goes_on(config, folder, parts.pretrainer, total, left_out)
        trainer.wall_time["setup"] = trainer.wall_time.get("setup", 0.0) + time.monotonic() - start
        trainer.prepare()
    except KeyboardInterrupt:
        tell_how_to_go_on("pretrain", folder)
        raise
    finally:
        log.close()
    speed = parts.pretrainer.throughput(trainer.encoder_training.sample)
    print_throughput(speed)
    probes = probe_table(config, parts, trainer.replay, None)
    counts = {"env_frames": trainer.env_frames, "updates": trainer.updates}
    write_summary(config, folder, trainer.wall_time, counts, speed, probes)
    print_probes(probes)
    print(f"Checkpoint: {checkpoint}\nTrain an agent with it: python scripts/train.py resume={folder}")
    return probes


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    use_tensor_cores()
    cli.main(run, PretrainRunConfig, GROUPS, base="resume", argv=arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
