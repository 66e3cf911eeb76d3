"""Measure how fast worlds, updates and planning are here.

    python scripts/benchmark.py what=env worlds=[16,64]
    python scripts/benchmark.py preset=demo out=rows.json
    python scripts/benchmark.py what=plan world_model=m device=cuda

Worlds are measured beside dm_control's own pixel environment, in the same run.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

import assemble
import cli
from agents.trainer import Trainer
from assemble import GROUPS, RunConfig, choice
from encoders.pretrain import Pretrainer
from envs import make_env
from finish import hardware
from rows import check_out, print_table, write_rows

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


@dataclass(frozen=True)
class BenchmarkConfig(RunConfig):
    """What is measured, and with which sizes."""

    what: Literal["env", "update", "plan", "all"] = "all"
    """env (physics and render), update (agent, replay, encoder), plan (one planned action), or all."""
    worlds: tuple[int, ...] = (16, 64)
    """Numbers of worlds to measure."""
    seconds: float = 3.0
    """Time to measure each row for."""
    out: str = ""
    """File for the rows, JSON."""


def run(config: BenchmarkConfig) -> None:
    """Measures and prints a table."""
    check_out(config.out)
    if not config.worlds or min(config.worlds) < 1 or config.seconds <= 0:
        raise ValueError("worlds: at least one number of 1 or more; seconds: more than 0.")
    device = cli.check_device(config.device)
    print(f"{config.task} on {device}; kernels are compiled at first use, which takes about a minute.")
    rows: list[dict] = []
    if config.what in ("env", "all"):
        for count in config.worlds:
            rows += _warp_rows(config, count, device)
        rows += _dm_control_rows(config)
    if config.what in ("update", "all"):
        rows += _update_rows(config, device)
    if config.what in ("plan", "all"):
        rows += _plan_rows(config, device)
    print_table(rows, {key: key for key in ("measure", "engine", "worlds", "value", "unit", "note")})
    about = {"task": config.task} | hardware(config.device)
    write_rows(config.out, [about | row for row in rows])


def _seconds_per_call(work: Callable[[], object], config: BenchmarkConfig, device: torch.device) -> float:
    """Mean time of a call, after two that are not counted: the first ones compile and record."""
    for _ in range(2):
        work()
    _wait(device)
    start = time.perf_counter()
    for calls in itertools.count(1):
        work()
        if calls % 4 == 0 or device.type == "cpu":
            _wait(device)
            if time.perf_counter() - start >= config.seconds:
                return (time.perf_counter() - start) / calls
    raise AssertionError


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rate(measure: str, engine: str, worlds: int, per_second: float, unit: str, note: str = "") -> dict:
    row = {"measure": measure, "engine": engine, "worlds": worlds, "value": per_second, "unit": unit}
    return row | ({"note": note} if note else {})


def _millis(measure: str, seconds: float, worlds: int | None = None, note: str = "") -> dict:
    row = {"measure": measure, "engine": "Mindreel", "value": 1000 * seconds, "unit": "ms"}
    return row | ({} if worlds is None else {"worlds": worlds}) | ({"note": note} if note else {})


# ---- worlds ----


def _warp_rows(config: BenchmarkConfig, count: int, device: torch.device) -> list[dict]:
    """Physics alone, render alone, and both as an agent meets them."""
    repeat = config.env.action_repeat
    env = make_env(config.task, count, device, config.seed, ("pixels", "state"), repeat, config.env.render)
    observation = env.reset()
    spec = env.action_spec

    def physics() -> None:
        env.sim.ctrl.copy_(spec.rand())
        env.sim.step()

    def both() -> None:
        nonlocal observation
        observation["action"] = spec.rand()
        _, observation = env.step_and_maybe_reset(observation)

    def rate(work: Callable[[], object]) -> float:
        return count / _seconds_per_call(work, config, device)

    name = "Mindreel"
    return [
        _rate("physics", name, count, rate(physics), "control steps/s"),
        _rate("render", name, count, rate(env.sim.render), "frames/s"),
        _rate("both", name, count, rate(both), "decisions/s", f"action repeat {repeat}"),
    ]


def _dm_control_rows(config: BenchmarkConfig) -> list[dict]:
    """The same of dm_control's own environment, which is one world on one core."""
    from envs.dm_control import DMControlEnv  # here: importing dm_control takes seconds

    one = DMControlEnv(config.task, config.seed, action_repeat=1)
    many = DMControlEnv(config.task, config.seed, config.env.action_repeat)
    cpu, render = torch.device("cpu"), config.env.render
    one.reset()
    many.reset()

    def step(env: DMControlEnv) -> None:
        action = env.action_low + (env.action_high - env.action_low) * torch.rand(len(env.action_low)).numpy()
        if env.step(action)[2]:
            env.reset()

    def both() -> None:
        step(many)
        many.pixels(render)

    rows = [
        _rate(
            "physics",
            "dm_control",
            1,
            1 / _seconds_per_call(lambda: step(one), config, cpu),
            "control steps/s",
        )
    ]
    try:
        one.pixels(render)
    except ValueError as error:
        print(f"dm_control's pictures are not measured: {error}")
        return rows
    drawn, stepped = (_seconds_per_call(work, config, cpu) for work in (lambda: one.pixels(render), both))
    note = f"action repeat {config.env.action_repeat}"
    return [
        *rows,
        _rate("render", "dm_control", 1, 1 / drawn, "frames/s"),
        _rate("both", "dm_control", 1, 1 / stepped, "decisions/s", note),
    ]


# ---- learning and planning ----


def _update_rows(config: BenchmarkConfig, device: torch.device) -> list[dict]:
    """One agent update with its replay sample, that sample alone, one step of the encoder's objective."""
    parts = assemble.build(config)
    rows_needed = (_ROLLOUT + 4) * config.env.num_envs
    config = replace(config, loop=replace(config.loop, replay_capacity=rows_needed))
    trainer = assemble.build_trainer(config, parts, lambda row: None, iter, Path())
    for _ in range(_ROLLOUT):
        trainer.collector.step(None, 1.0, trainer.encoder_id)
    if parts.encoder.clip_frames:
        seen = trainer.replay.sample(256, 1, (), 1)
        parts.encoder.fit(seen["frames"], seen["reward"][:, 0])
    agent = config.agent
    length = agent.horizon + agent.n_step - 1
    frames = parts.encoder.clip_frames
    stored = trainer.collector.store_latents

    def sample() -> object:
        if stored:
            return trainer.replay.sample(agent.batch_size, length, ("latent",))
        return trainer.replay.sample(agent.batch_size, length, () if frames else ("state",), frames)

    note = f"{choice(config, 'agent')}, {choice(config, 'world_model')}, batch {agent.batch_size}"
    rows = [
        _millis("update", _seconds_per_call(trainer.learn_once, config, device), note=note),
        _peer("update", _PEER_UPDATE_MS),
        _millis("replay sample", _seconds_per_call(sample, config, device)),
        _peer("replay sample", _PEER_SAMPLE_MS),
    ]
    if parts.pretrainer is not None:
        seconds = _seconds_per_call(_pretraining(config, parts.pretrainer, trainer), config, device)
        rows.append(_millis("pretraining step", seconds, note=f"batch {config.pretrain.batch_size}"))
    return rows


def _pretraining(config: BenchmarkConfig, pretrainer: Pretrainer, trainer: Trainer) -> Callable[[], object]:
    """One step of the encoder's objective; its losses' sizes do not matter here."""
    sizes = config.pretrain.batch_size, config.pretrain.future_steps

    def sample() -> tuple:
        batch = trainer.replay.sample(*sizes, (), pretrainer.encoder.clip_frames)
        return batch["frames"], batch["action"], batch["reward"]

    pretrainer.config = replace(config.pretrain, log_every=10**9)
    training = pretrainer.train(sample, 10**9, config.pretrain.lr)
    return lambda: next(training)


def _plan_rows(config: BenchmarkConfig, device: torch.device) -> list[dict]:
    """One decision from a picture on: encoding and acting, for one world and for all of them."""
    parts = assemble.build(config)
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

        rows.append(_millis("action", _seconds_per_call(act, config, device), count, note))
    return [*rows, _peer("action", _PEER_PLAN_MS) | {"worlds": 1}]


def _peer(measure: str, value: float) -> dict:
    return {"measure": measure, **_PEER, "value": value, "unit": "ms"}


if __name__ == "__main__":
    cli.main(run, BenchmarkConfig, GROUPS, base="run")
