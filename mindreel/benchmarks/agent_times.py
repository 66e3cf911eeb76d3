"""Times of an agent: an update, its batch from replay, a planned action."""

from dataclasses import replace
from pathlib import Path

import torch
from einops import repeat

from mindreel import assembly
from mindreel.benchmarks.timing import seconds_per_call
from mindreel.run_config import RunConfig, choice

_ROLLOUT = 40
"""Decisions of random actions that sequences are drawn from."""

CITED_MS = {"update": 2040.0, "replay sample": 77.0, "action": 590.0}
"""Milliseconds of TD-MPC2's public code, one world. Nothing here measures them."""
CITED = (
    "cited ms: TD-MPC2's public code as we once measured it on another machine, a 2-core CPU (cartpole-swingup from "
    "pixels, 5M model, not compiled). It was not run here."
)


def agent_rows(config: RunConfig, seconds: float, device: torch.device) -> list[dict]:
    """An update with its replay sample, that sample alone, and a planned action.

    Returns:
        rows: `measure`, `measured_ms` on `device` with `worlds` environments at once and what a `note` says, and
        `cited_ms`, a constant from another machine (`CITED`), None where there is none.
    """
    return _update_rows(config, seconds, device) + _plan_rows(config, seconds, device)


def _row(measure: str, seconds: float, device: torch.device, note: str, worlds: int | None = None) -> dict:
    cited = CITED_MS[measure] if worlds in (None, 1) else None
    row = {"measure": measure, "worlds": worlds, "device": str(device), "measured_ms": 1000 * seconds}
    return row | {"note": note, "cited_ms": cited}


def _update_rows(config: RunConfig, seconds: float, device: torch.device) -> list[dict]:
    parts = assembly.build(config)
    assembly.prepare(config, parts)
    rows_needed = (_ROLLOUT + 4) * config.env.num_envs
    config = replace(config, loop=replace(config.loop, replay_capacity=rows_needed))
    trainer = assembly.build_trainer(config, parts, lambda row: None, None, Path())
    for _ in range(_ROLLOUT):
        trainer.collector.step(None, 1.0, trainer.encoder_id)
    agent = config.agent
    length = agent.horizon + agent.n_step - 1
    frames = parts.encoder.clip_frames
    stored = trainer.collector.store_latents

    def sample() -> object:
        if stored:
            return trainer.replay.sample(agent.batch_size, length, ("latent",))
        return trainer.replay.sample(agent.batch_size, length, () if frames else ("state",), frames)

    note = f"{choice(config, 'agent')}, {choice(config, 'world_model')}, batch {agent.batch_size}"
    return [
        _row("update", seconds_per_call(trainer.learn_once, seconds, device), device, note),
        _row("replay sample", seconds_per_call(sample, seconds, device), device, f"batch {agent.batch_size}"),
    ]


def _plan_rows(config: RunConfig, seconds: float, device: torch.device) -> list[dict]:
    """One decision, from picture to action: encoding and acting, for one environment and for all of them."""
    parts = assembly.build(config)
    encoder, agent = parts.encoder, parts.agent
    note = f"{choice(config, 'encoder')}, {choice(config, 'agent')}, {choice(config, 'world_model')}"
    observation = parts.env.reset()
    rows = []
    for count in sorted({1, config.env.num_envs}):
        first = torch.zeros(count, dtype=torch.bool, device=device)
        if encoder.clip_frames:
            seen = repeat(observation["pixels"][:count], "b c h w -> b f c h w", f=encoder.clip_frames).contiguous()
        else:
            seen = observation["state"][:count]

        @torch.no_grad()
        def act(seen=seen, first=first) -> object:
            return agent.act(encoder(seen), first, explore=False)

        rows.append(_row("action", seconds_per_call(act, seconds, device), device, note, count))
    return rows
