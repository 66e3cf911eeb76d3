"""From a config to the parts of a run: worlds, encoder, agent, replay, trainer."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from mindreel.agents import make_agent
from mindreel.agents.checkpoint import fitting, load_checkpoint
from mindreel.agents.collector import Collector
from mindreel.agents.learner import Learner
from mindreel.agents.protocols import Log, Progress
from mindreel.agents.replay import Replay
from mindreel.agents.trainer import Trainer
from mindreel.devices import check_device
from mindreel.encoders import ENCODERS, Encoder, make_encoder
from mindreel.encoders.objectives.internvideo2 import InternVideo2
from mindreel.encoders.pretrainer import Pretrainer
from mindreel.envs import WarpEnv, Worlds, make_env
from mindreel.pretraining.forgetting import ForgettingMonitor
from mindreel.run_config import RunConfig, check_picture_size, choice
from mindreel.transfer import find_encoder, start_from
from mindreel.world_model import LatentModel


def discount_for(episode_steps: int) -> float:
    """TD-MPC2's rule: the longer an episode, the further ahead the agent looks."""
    fraction = episode_steps / 5
    return min(max((fraction - 1) / fraction, 0.95), 0.995)


@dataclass
class Parts:
    """What a run consists of."""

    env: Worlds
    encoder: Encoder
    agent: Learner
    pretrainer: Pretrainer | None


def build_env(config: RunConfig, num_envs: int, seed: int, observations: tuple[str, ...] = ()) -> Worlds:
    """Worlds of the config's task, which show `observations`; what the encoder needs if none are named."""
    name = choice(config, "encoder")
    if not observations:
        observations = ("state",) if name == "state" else ("pixels", "state")
        if ENCODERS[name][1].needs_sentences and config.env.backend == "warp":  # the only worlds with sentences
            observations = (*observations, "behaviour")
    return make_env(
        config.task,
        replace(config.env, num_envs=num_envs),
        device=check_device(config.device),
        seed=seed,
        observations=observations,
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


def build_trainer(
    config: RunConfig,
    parts: Parts,
    log: Log,
    progress: Progress | None,
    path: Path,
    evaluate: Callable[[], dict] | None = None,
    log_lines: Callable[[], int] = lambda: 0,
    monitor_forgetting: bool = False,
) -> Trainer:
    """The training loop over these parts, whose encoder `prepare` has seen to.

    Args:
        config: the run's.
        parts: what it consists of.
        log: takes rows of metrics.
        progress: shows how far the run is.
        path: the checkpoint file.
        evaluate: measures the agent now and then.
        log_lines: how many rows have been logged.
        monitor_forgetting: whether a `ForgettingMonitor` probes the encoder while it is trained.
    """
    replay = Replay(config.loop.replay_capacity, config.env.num_envs, parts.env.device)
    collector = Collector(parts.env, parts.encoder, replay, not parts.encoder.trained_by_agent)
    return Trainer(
        config.loop,
        collector,
        parts.agent,
        parts.pretrainer,
        path,
        log,
        progress,
        evaluate,
        log_lines,
        encoder_fitted=bool(config.encoder_from),
        monitor=ForgettingMonitor(parts.encoder, replay, config.seed) if monitor_forgetting else None,
    )


def prepare(config: RunConfig, parts: Parts) -> None:
    """Hands the encoder of these parts what its training needs; before anything is written, since it may be refused.

    Raises:
        FileNotFoundError: there is no run to take an encoder from.
        ValueError: that encoder does not fit, or nothing tells what worlds do and this encoder learns from it.
    """
    if parts.encoder.needs_sentences and "behaviour" not in parts.env.observations:
        raise ValueError("This encoder learns from what worlds are said to do, which only env.backend=warp tells.")
    prepare_encoder(config, parts.encoder, parts.env.behaviours, parts.env.device)


def prepare_encoder(config: RunConfig, encoder: Encoder, sentences: tuple[str, ...], device: torch.device) -> None:
    """Hands an encoder what its training needs besides rollouts: sentences, a teacher, weights to start from."""
    if encoder.needs_sentences:
        encoder.set_sentences(sentences)
    if isinstance(encoder, InternVideo2):
        if encoder.config.teacher:
            encoder.set_teacher(find_encoder(encoder.config.teacher, encoder.clip_frames, device, "encoder.teacher"))
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
    device = check_device(config.device)
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
