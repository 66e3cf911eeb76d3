"""From a config to the parts of a run: worlds, encoder, agent, replay, trainer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import cli
from agents import AGENTS, make_agent
from agents.checkpoint import fitting, load_checkpoint
from agents.collector import Collector, Eyes
from agents.mpc import MPCConfig
from agents.replay import Replay
from agents.trainer import LoopConfig, Trainer
from encoders import ENCODERS, make_encoder
from encoders.pretrain import PretrainConfig, Pretrainer
from encoders.probe import ProbeConfig
from encoders.vjepa import VJEPAConfig
from envs import RenderConfig, WarpEnv, make_env
from world_model import WORLD_MODELS, LatentModel, LatentModelConfig


@dataclass(frozen=True)
class EnvConfig:
    """The worlds that the agent acts in."""

    num_envs: int = 16
    """Worlds that run side by side, B."""
    action_repeat: int = 2
    """Control steps for which one action holds; their rewards are summed."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """The camera."""


@dataclass(frozen=True)
class RunConfig:
    """What a run's config.yaml holds."""

    task: str = "cartpole-swingup"
    """Task to learn, as domain-task."""
    seed: int = 1
    """Seed of everything random."""
    device: str = "cpu"
    """Device that everything runs on: cpu, cuda or cuda:N."""
    run: str = ""
    """Folder of the run; runs/TASK-ENCODER-AGENT-SEED if empty."""
    eval_episodes: int = 10
    """Episodes of an evaluation."""
    decoder_steps: int = 600
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
    return next(name for name, cls in GROUPS[group].items() if type(getattr(config, group)) is cls)


def discount_for(episode_steps: int) -> float:
    """TD-MPC2's rule: the longer an episode, the further ahead the agent looks."""
    fraction = episode_steps / 5
    return min(max((fraction - 1) / fraction, 0.95), 0.995)


@dataclass
class Parts:
    """What a run consists of."""

    env: WarpEnv
    encoder: Any
    agent: Any
    pretrainer: Pretrainer | None


def build_env(config: RunConfig, num_envs: int, seed: int) -> WarpEnv:
    """Worlds of the config's task."""
    observations = ("state",) if choice(config, "encoder") == "state" else ("pixels", "state")
    return make_env(
        config.task,
        num_envs=num_envs,
        device=cli.check_device(config.device),
        seed=seed,
        observations=observations,
        action_repeat=config.env.action_repeat,
        render=config.env.render,
    )


def build(config: RunConfig) -> Parts:
    """Worlds, encoder and agent, seeded, freshly initialised and on the config's device."""
    env = build_env(config, config.env.num_envs, config.seed)
    torch.manual_seed(config.seed)
    encoder = make_encoder(config.encoder, env.action_dim, len(env.state_names)).to(env.device)
    encoder.eval()
    pretrainer = Pretrainer(config.pretrain, encoder) if encoder.has_objective else None
    model = LatentModel(config.world_model, encoder.feature_dim, env.action_dim).to(env.device)
    model.eval()
    cotrained = [p for p in encoder.parameters() if p.requires_grad] if encoder.training_mode == "cotrain" else None
    agent = make_agent(config.agent, model, discount_for(env.episode_steps), cotrained)
    return Parts(env, encoder, agent, pretrainer)


def build_trainer(config: RunConfig, parts: Parts, log, progress, path: Path, **kwargs) -> Trainer:
    """The training loop over these parts."""
    replay = Replay(config.loop.replay_capacity, config.env.num_envs, parts.env.device)
    store = parts.encoder.training_mode != "cotrain"
    collector = Collector(parts.env, Eyes(parts.encoder), replay, store)
    return Trainer(config.loop, collector, parts.agent, parts.pretrainer, log, progress, path, **kwargs)


def load_parts(config: RunConfig, path: Path) -> tuple[Parts, dict]:
    """Worlds, encoder and agent as the checkpoint of a run has them; also the checkpoint.

    An agent may be of the other kind than the one that was trained: both act through the same latent model.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged, or of another config.
    """
    device = cli.check_device(config.device)
    state = load_checkpoint(path, device)
    parts = build(config)
    with fitting(path):
        parts.encoder.load_state_dict(state["encoder"])
        parts.agent.model.load_state_dict(state["agent"]["model"])
    return parts, state


def checkpoint_of(run: str) -> Path:
    """The checkpoint of the run in a folder.

    Raises:
        ValueError: no run is named.
    """
    if not run:
        raise ValueError("Which run? Name its folder: run=runs/demo")
    return Path(run) / "checkpoints" / "last.pt"
