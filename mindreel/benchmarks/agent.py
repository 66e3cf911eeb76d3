"""Times of an agent: an update, its batch from replay, a planned action, beside TD-MPC2's public code."""

from dataclasses import replace
from pathlib import Path

import torch

from mindreel import assembly
from mindreel.benchmarks.timing import seconds_per_call
from mindreel.run_config import RunConfig, choice

_ROLLOUT = 40
"""Decisions of noise that sequences are drawn from."""

# TD-MPC2's public code, measured by us: 2-core CPU, cartpole-swingup from pixels, 5M model, uncompiled.
_PEER = {
    "engine": "TD-MPC2 public code",
    "device": "2-core CPU",
    "note": "cartpole-swingup, pixels, 5M model",
}
_PEER_UPDATE_MS = 2040.0
_PEER_PLAN_MS = 590.0
_PEER_SAMPLE_MS = 77.0


def agent_rows(config: RunConfig, seconds: float, device: torch.device) -> list[dict]:
    """One update with its replay sample, that sample alone, one planned action."""
    return _update_rows(config, seconds, device) + _plan_rows(config, seconds, device)


def _millis(measure: str, seconds: float, worlds: int | None = None, note: str = "") -> dict:
    row = {"measure": measure, "engine": "Mindreel", "value": 1000 * seconds, "unit": "ms"}
    return row | ({} if worlds is None else {"worlds": worlds}) | ({"note": note} if note else {})


def _peer(measure: str, value: float) -> dict:
    return {"measure": measure, **_PEER, "value": value, "unit": "ms"}


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
        _millis("update", seconds_per_call(trainer.learn_once, seconds, device), note=note),
        _peer("update", _PEER_UPDATE_MS),
        _millis("replay sample", seconds_per_call(sample, seconds, device)),
        _peer("replay sample", _PEER_SAMPLE_MS),
    ]


def _plan_rows(config: RunConfig, seconds: float, device: torch.device) -> list[dict]:
    """One decision from a picture on: encoding and acting, for one world and for all of them."""
    parts = assembly.build(config)
    encoder, agent = parts.encoder, parts.agent
    note = f"{choice(config, 'encoder')}, {choice(config, 'agent')}, {choice(config, 'world_model')}"
    observation = parts.env.reset()
    rows = []
    for count in sorted({1, config.env.num_envs}):
        first = torch.zeros(count, dtype=torch.bool, device=device)
        if encoder.clip_frames:
            picture = observation["pixels"][:count, None]
            seen = picture.expand(-1, encoder.clip_frames, -1, -1, -1).contiguous()
        else:
            seen = observation["state"][:count]

        @torch.no_grad()
        def act(seen=seen, first=first) -> object:
            return agent.act(encoder(seen), first, explore=False)

        rows.append(_millis("action", seconds_per_call(act, seconds, device), count, note))
    return [*rows, _peer("action", _PEER_PLAN_MS) | {"worlds": 1}]
