"""From a config to the parts of a run: worlds, encoder, agent, replay, trainer."""

import os
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import cli

import torch

from agents import AGENTS, make_agent
from agents.checkpoint import fitting, load_checkpoint
from agents.collector import Collector, Eyes
from agents.mpc import MPCConfig
from agents.replay import Replay
from agents.trainer import LoopConfig, Trainer
from encoders import ENCODERS, Encoder, make_encoder
from encoders.internvideo2 import InternVideo2
from encoders.pretrain import PretrainConfig, Pretrainer
from encoders.pretrained import PretrainedConfig
from encoders.probe import ProbeConfig
from encoders.vjepa import VJEPAConfig
from envs import Backend, RandomizeConfig, RenderConfig, WarpEnv, Worlds, make_env
from other_runs import start_from, teacher_from
from world_model import WORLD_MODELS, LatentModel, LatentModelConfig


@dataclass(frozen=True)
class EnvConfig:
    """The worlds that the agent acts in."""

    backend: Backend = "warp"
    """What simulates: mujoco_warp, the official environments of dm_control, or any of Gymnasium (task=ID)."""
    num_envs: int = 16
    """Worlds that run side by side, B."""
    action_repeat: int = 2
    """Control steps for which one action holds; their rewards are summed."""
    frame_skip: int | None = None
    """Physics steps in one control step; the task's own if null."""
    time_limit: int | None = None
    """Decisions after which an episode is cut off; the task's own limit if null."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """The cameras."""
    randomize: RandomizeConfig = field(default_factory=RandomizeConfig)
    """How much worlds and episodes differ; of mujoco_warp."""
    max_contacts: int | None = None
    """Contacts that a world may have on average; mujoco_warp's guess if null."""
    max_constraints: int | None = None
    """Scalar constraints that a world may have; the task's own number, or a guess, if null."""
    fast_render: bool = True
    """Whether dm_control draws as env.render says, several times as fast as with its standard look."""
    workers: int | None = None
    """Processes that the worlds are shared out to, 0 for none; if null, none for warp, and one for each CPU
    core for dm_control and Gymnasium."""


@dataclass(frozen=True)
class RunConfig:
    """What a run's config.yaml holds."""

    task: str = "cartpole-swingup"
    """Task to learn, as domain-task, or a Python file with your own; a Gymnasium id if that is the backend."""
    seed: int = 1
    """Seed of everything random."""
    device: str = "cpu"
    """Device that everything runs on: cpu, cuda or cuda:N."""
    run: str = ""
    """Folder of the run; runs/TASK-ENCODER-AGENT-SEED if empty."""
    eval_episodes: int = 10
    """Episodes of an evaluation."""
    encoder_from: str = ""
    """Run whose encoder this one starts from; for vjepa also a VJEPA2Model's folder or OWNER/NAME on the hub."""
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

    env: Worlds
    encoder: Any
    agent: Any
    pretrainer: Pretrainer | None


def build_env(config: RunConfig, num_envs: int, seed: int, observations: tuple[str, ...] = ()) -> Worlds:
    """Worlds of the config's task, which show `observations`; what the encoder needs if none are named."""
    name = choice(config, "encoder")
    if not observations:
        observations = ("state",) if name == "state" else ("pixels", "state")
        if ENCODERS[name][1].reads_text and config.env.backend == "warp":  # elsewhere nothing tells what a world does
            observations = (*observations, "behaviour")
    return make_env(
        config.task,
        num_envs=num_envs,
        device=cli.check_device(config.device),
        seed=seed,
        observations=observations,
        action_repeat=config.env.action_repeat,
        render=config.env.render,
        frame_skip=config.env.frame_skip,
        time_limit=config.env.time_limit,
        backend=config.env.backend,
        fast_render=config.env.fast_render,
        workers=config.env.workers,
        randomize=config.env.randomize,
        max_contacts=config.env.max_contacts,
        max_constraints=config.env.max_constraints,
    )


def build_warp(config: RunConfig, num_envs: int, seed: int, observations: tuple[str, ...]) -> WarpEnv:
    """The same for work that reaches into the simulation.

    Raises:
        ValueError: another backend simulates.
    """
    if config.env.backend != "warp":
        raise ValueError(f"env.backend={config.env.backend}: this needs the worlds of env.backend=warp.")
    env = build_env(replace(config, env=replace(config.env, workers=None)), num_envs, seed, observations)
    assert isinstance(env, WarpEnv)
    return env


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


def build(config: RunConfig) -> Parts:
    """Worlds, encoder and agent, seeded, freshly initialised and on the config's device.

    Raises:
        ValueError: the encoder does not read pictures of the size that the cameras draw.
    """
    check_picture_size(config)
    env = build_env(config, config.env.num_envs, config.seed)
    torch.manual_seed(config.seed)
    encoder = make_encoder(config.encoder, env.action_dim, len(env.state_names)).to(env.device)
    encoder.eval()
    pretrainer = Pretrainer(config.pretrain, encoder) if encoder.has_objective else None
    model = LatentModel(config.world_model, encoder.feature_dim, env.action_dim).to(env.device)
    model.eval()
    trained = [p for p in encoder.parameters() if p.requires_grad] if encoder.trained_by_agent else None
    agent = make_agent(config.agent, model, discount_for(env.episode_steps), trained)
    return Parts(env, encoder, agent, pretrainer)


def build_trainer(config: RunConfig, parts: Parts, log, progress, path: Path, **kwargs) -> Trainer:
    """The training loop over these parts, whose encoder `prepare` has seen to."""
    replay = Replay(config.loop.replay_capacity, config.env.num_envs, parts.env.device)
    collector = Collector(parts.env, Eyes(parts.encoder), replay, not parts.encoder.trained_by_agent)
    trainer = Trainer(config.loop, collector, parts.agent, parts.pretrainer, log, progress, path, **kwargs)
    trainer.encoder_training.fitted = bool(config.encoder_from)
    return trainer


def prepare(config: RunConfig, parts: Parts) -> None:
    """Hands the encoder of these parts what its training needs; before anything is written, since it may be refused.

    Raises:
        FileNotFoundError: there is no run to take an encoder from.
        ValueError: that encoder does not fit, or nothing tells what worlds do and this encoder learns from it.
    """
    if parts.encoder.reads_text and "behaviour" not in parts.env.observations:
        raise ValueError("This encoder learns from what worlds are said to do, which only env.backend=warp tells.")
    prepare_encoder(config, parts.encoder, parts.env.behaviours, parts.env.device)


def prepare_encoder(config: RunConfig, encoder: Encoder, sentences: tuple[str, ...], device: torch.device) -> None:
    """Hands an encoder what its training needs besides rollouts: sentences, a teacher, weights to start from."""
    if encoder.reads_text:
        encoder.read_sentences(sentences)
    if isinstance(encoder, InternVideo2):
        if encoder.config.teacher:
            encoder.teach_with(teacher_from(encoder.config.teacher, encoder.clip_frames, device))
        else:
            _warn_of_untrained_teacher()
    # A run that is continued has the weights in its own checkpoint, wherever they came from.
    if config.encoder_from and not getattr(config, "resume", ""):
        start_from(encoder, config.encoder, config.encoder_from, device)


@cache  # said once, however many encoders are made
def _warn_of_untrained_teacher() -> None:
    if os.environ.get("RANK", "0") == "0":
        print(
            "Warning: encoder=internvideo2 without encoder.teacher=RUN matches an untrained network, from which "
            "there is little to learn."
        )


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
