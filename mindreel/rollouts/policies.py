"""Policies for a dataset of rollouts: of an agent's run, or of an agent that learns from the state for a while."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mindreel import assembly
from mindreel.agents.checkpoint import fitting, load_checkpoint, save_checkpoint
from mindreel.agents.mpc import MPCConfig
from mindreel.agents.protocols import FeatureEncoder, Policy
from mindreel.agents.trainer import LoopConfig
from mindreel.assembly import Parts, load_parts
from mindreel.encoders.baselines import StateConfig
from mindreel.rollouts.dataset import RolloutConfig
from mindreel.run_config import RunConfig
from mindreel.runs.progress import RunProgress

_AGENT = MPCConfig(plan_in_training=False, lr=1e-3, encoder_lr_scale=1.0, n_step=5, target_rate=0.02)
_LOOP = LoopConfig(seed_decisions=200, refreshes=0, replay_capacity=200_000, checkpoint_seconds=60.0)

Policies = dict[str, tuple[Policy, FeatureEncoder] | None]
"""Name -> how it acts, and the encoder it sees through; None for policies that need neither."""


def policies_of_run(config: RunConfig, checkpoint: Path) -> Policies:
    """The policy of a run's agent as the expert; as the medium one, the same with uniform noise for half of it.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: it is damaged, or of another config.
    """
    parts, _ = load_parts(config, checkpoint)
    expert = _policy(parts)

    def medium(features: Tensor, first: Tensor) -> Tensor:
        action = expert(features, first)
        return 0.5 * action + torch.rand_like(action) - 0.5

    return {"medium": (medium, parts.encoder), "expert": (expert, parts.encoder)}


def trained_policies(config: RunConfig, rollouts: RolloutConfig, folder: Path) -> Policies:
    """Policies of an agent that learns the config's task from its state, half-trained and trained.

    Its checkpoints stay in `folder`: training resumes where it was interrupted, and is not repeated.
    """
    config = _agent_config(config, rollouts)
    stages = {"medium": round(rollouts.medium_fraction * rollouts.agent_updates), "expert": rollouts.agent_updates}
    found: Policies = {}
    if any(name in rollouts.policies and not _stage(folder, name).is_file() for name in stages):
        _train(config, stages, folder)
    for name in stages:
        if name in rollouts.policies:
            parts = assembly.build(config)
            with fitting(_stage(folder, name)):
                parts.agent.model.load_state_dict(load_checkpoint(_stage(folder, name), parts.env.device)["model"])
            found[name] = (_policy(parts), parts.encoder)
    return found


def _train(config: RunConfig, stages: dict[str, int], folder: Path) -> None:
    parts = assembly.build(config)
    rows: list[dict] = []
    trainer = assembly.build_trainer(config, parts, rows.append, RunProgress(), folder / "last.pt")
    if trainer.path.is_file():
        trainer.load()
    for name, updates in stages.items():
        if not _stage(folder, name).is_file():  # else it has been trained beyond that already
            trainer.set_updates(updates)
            trainer.run()
            save_checkpoint(_stage(folder, name), {"model": parts.agent.model.state_dict()})
    trainer.path.unlink(missing_ok=True)  # with its replay it is large


def _agent_config(config: RunConfig, rollouts: RolloutConfig) -> RunConfig:
    return replace(
        config,
        encoder=StateConfig(),
        encoder_from="",
        agent=_AGENT,
        env=replace(config.env, num_envs=16, action_repeat=rollouts.agent_repeat),
        loop=replace(_LOOP, updates=rollouts.agent_updates),
    )


def _stage(folder: Path, name: str) -> Path:
    return folder / f"{name}.pt"


def _policy(parts: Parts) -> Policy:
    model = parts.agent.model
    return lambda features, first: model.pi(model.encode(features))[2]
