"""What a run is made of, as frozen dataclasses: worlds, loop, encoder, world model, agent."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Interval

from mindreel import cli
from mindreel.agents import AGENTS
from mindreel.agents.mpc import MPCConfig
from mindreel.agents.trainer import LoopConfig
from mindreel.encoders import ALIASES, ENCODERS
from mindreel.encoders.objectives.vjepa import VJEPAConfig
from mindreel.encoders.pretrainer import PretrainConfig
from mindreel.encoders.probes.regression import ProbeConfig
from mindreel.encoders.public.public_encoder import PretrainedConfig
from mindreel.envs import EnvConfig
from mindreel.world_model import WORLD_MODELS, LatentModelConfig


@dataclass(frozen=True)
class RunConfig:
    """What a run's config.yaml holds."""

    task: str = "cartpole-swingup"
    """Task to learn, as domain-task, or a Python file with your own; a Gymnasium id if that is the backend."""
    seed: Annotated[int, Interval(ge=0, lt=2**53)] = 1
    """Seed of everything random."""
    device: str = "cpu"
    """Device that everything runs on: cpu, cuda or cuda:N."""
    run: str = ""
    """Folder of the run; runs/TASK-ENCODER-AGENT-SEED if empty."""
    eval_episodes: Annotated[int, Ge(1)] = 10
    """Episodes of an evaluation."""
    encoder_from: str = ""
    """Run whose encoder this one starts from; for vjepa also a VJEPA2Model's folder or OWNER/NAME on the hub."""
    decoder_steps: Annotated[int, Ge(0)] = 600
    """Gradient steps of the decoder that draws what the model imagines; 0 for no pictures."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The worlds."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Lengths of the stages."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Training of the encoder's own objective."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """Probes of what the encoder knows."""
    encoder: Any = field(default_factory=VJEPAConfig)
    """What turns frames into features."""
    world_model: Any = field(default_factory=LatentModelConfig)
    """Size of the latent model."""
    agent: Any = field(default_factory=MPCConfig)
    """How the agent learns and acts."""

    @classmethod
    def check_saved(cls, values: Mapping[str, Any], file: Path) -> None:
        """Raises ValueError for the config.yaml of a run that has an encoder alone, which no command goes on with."""
        if values.get("data") and not hasattr(cls, "data"):
            kind = f"pretrained on data={values['data']}"
        elif "rollouts" in values:
            kind = "that scripts/probe.py trained"
        else:
            return
        raise ValueError(
            f"{file}: that run is an encoder {kind}, without an agent or a replay. "
            f"Start from it with encoder_from={file.parent}."
        )


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A run of scripts/train.py."""

    resume: str = ""
    """Folder of a run to continue."""
    overwrite: bool = False
    """Replace the run folder if it exists."""


GROUPS = {
    "encoder": {name: config for name, (config, _) in ENCODERS.items()},
    "world_model": WORLD_MODELS,
    "agent": {name: config for name, (config, _) in AGENTS.items()},
}


def choice(config: Any, group: str) -> str:
    """The name of a group's choice."""
    return cli.choice_name(getattr(config, group), GROUPS[group])


def check_picture_size(config: RunConfig) -> None:
    """Raises ValueError unless the config's encoder reads frames of the size that its cameras draw.

    It would be refused at the first frame, when worlds are built and a run folder is made.
    """
    field = "encoder.vit.image_size" if hasattr(config.encoder, "vit") else "encoder.image_size"
    size = getattr(getattr(config.encoder, "vit", config.encoder), "image_size", None)
    _, height, width = config.env.render.shape
    if size is None or isinstance(config.encoder, PretrainedConfig) or (height, width) == (size, size):
        return  # the simulator's state has no size, and a public checkpoint scales what it gets
    rows = size // len(config.env.render.views)  # cameras lie one below another
    raise ValueError(
        f"{field}={size} does not fit the pictures of {height} x {width} pixels that are drawn: add "
        f"env.render.height={rows} env.render.width={size}, or change {field}."
    )


def current_names(arguments: Sequence[str]) -> list[str]:
    """The arguments with former names of encoders replaced; prints a sentence for each that was."""
    found = []
    for text in arguments:
        key, equals, names = text.partition("=")
        if key in ("encoder", "encoder.name"):
            for former in set(names.split(",")) & ALIASES.keys():
                print(f"encoder={former} is called encoder={ALIASES[former]}.", file=sys.stderr)
            names = ",".join(ALIASES.get(name, name) for name in names.split(","))
        found.append(key + equals + names)
    return found
