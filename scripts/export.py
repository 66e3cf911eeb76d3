"""Write a run's encoder in the format of transformers' VJEPA2Model, with a model card, and upload it if asked.

    python scripts/export.py run=runs/demo
    python scripts/export.py run=runs/demo out=walker-eyes push=OWNER/NAME

Only an encoder pretrained with encoder.vit.stem=linear encoder.vit.positions=rotary can be expressed so. Read one
with encoder=pretrained encoder.source=FOLDER, or with any tool that reads transformers.
"""

from dataclasses import dataclass
from pathlib import Path

import cli
from assemble import GROUPS, RunConfig, checkpoint_of, choice, load_parts
from encoders.export import push_to_hub, save_pretrained
from encoders.video import VideoEncoder


@dataclass(frozen=True)
class ExportConfig(RunConfig):
    """An export of a run's encoder."""

    out: str = ""
    """Folder to write to; RUN/export if empty."""
    push: str = ""
    """OWNER/NAME on the Hugging Face hub to upload the folder to; nowhere if empty."""


def run(config: ExportConfig) -> None:
    """Writes the folder and says where it is."""
    checkpoint = checkpoint_of(config.run)
    folder = Path(config.out) if config.out else Path(config.run) / "export"
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds something already: remove it or name another with out=FOLDER.")
    parts, _ = load_parts(config, checkpoint)
    name = choice(config, "encoder")
    if not isinstance(parts.encoder, VideoEncoder):
        raise ValueError(f"encoder={name} is no video transformer of ours: there is nothing to export.")
    save_pretrained(parts.encoder, folder, f"{config.task}, {name}", _trained_on(config, name))
    print(f"Encoder: {folder}")
    if config.push:
        print(f"Uploaded: {push_to_hub(folder, config.push)}")


def _trained_on(config: ExportConfig, name: str) -> str:
    return (
        f"rollouts of {config.task} (DM Control's tasks on MuJoCo Warp), action repeat {config.env.action_repeat}, "
        f"seed {config.seed}, with the objective encoder={name}."
    )


if __name__ == "__main__":
    cli.main(run, ExportConfig, GROUPS, base="run")
