"""Write a run's encoder in the format of transformers' VJEPA2Model, with a model card, and upload it if asked.

    python scripts/export.py run=runs/demo
    python scripts/export.py run=runs/demo out=walker-encoder push=OWNER/NAME

That format holds only encoders with encoder.vit.stem=linear encoder.vit.positions=rotary. Read the folder with
encoder=pretrained encoder.source=FOLDER, or with any tool that reads transformers' models.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindreel import cli
from mindreel.devices import check_device
from mindreel.encoders.objectives.video_encoder import VideoEncoder
from mindreel.encoders.public.transformers_format import push_to_hub, save_pretrained
from mindreel.transfer import encoder_of


@dataclass(frozen=True)
class ExportConfig:
    """An export of a run's encoder."""

    run: str = ""
    """Folder of a run of train.py or pretrain.py."""
    out: str = ""
    """Folder to write to; RUN/export if empty."""
    push: str = ""
    """OWNER/NAME on the Hugging Face hub to upload the folder to; nowhere if empty."""


def run(config: ExportConfig) -> None:
    """Writes the folder and prints where it is."""
    if not config.run:
        raise ValueError("Which run? Name its folder: run=runs/demo")
    folder = Path(config.out) if config.out else Path(config.run) / "export"
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: remove it or name another with out=FOLDER.")
    encoder = encoder_of(config.run, check_device("cpu"))
    saved = cli.read(cli.config_file(config.run))
    name = saved["encoder"]["name"]
    if not isinstance(encoder, VideoEncoder):
        raise ValueError(f"encoder={name} is not one of our video transformers: there is nothing to export.")
    data = saved.get("data", "")
    title, source = (Path(data).name, data) if data else (saved["task"], _rollouts(saved))
    save_pretrained(encoder, folder, f"{title}, {name}", f"{source}, seed {saved['seed']}, with the objective {name}.")
    print(f"Encoder: {folder}")
    if config.push:
        print(f"Uploaded: {push_to_hub(folder, config.push)}")


def _rollouts(saved: Mapping[str, Any]) -> str:
    repeat = saved["env"]["action_repeat"]
    return f"rollouts of {saved['task']} (DM Control's tasks on MuJoCo Warp), action repeat {repeat}"


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, ExportConfig, argv=arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
