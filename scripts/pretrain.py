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

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from mindreel import cli
from mindreel.devices import check_device, use_tensor_cores
from mindreel.encoders import has_objective
from mindreel.encoders.data.clips import ClipConfig
from mindreel.pretraining.live_run import pretrain_on_worlds
from mindreel.pretraining.offline_run import pretrain_on_data
from mindreel.pretraining.torchrun import is_first, process_count
from mindreel.run_config import GROUPS, TrainConfig, choice, current_names
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
    elif process_count() > 1:
        raise ValueError("Several processes share recordings, not worlds: give data=, such as a run to learn from.")
    else:
        rows = pretrain_on_worlds(config, leave_out=("out", "data", "clips"))
    if is_first():  # the other processes of torchrun have no rows
        write_rows(config.out, [{"task": config.task, "seed": config.seed, **row} for row in rows])


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    use_tensor_cores()
    cli.main(run, PretrainRunConfig, GROUPS, base="resume", argv=current_names(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
