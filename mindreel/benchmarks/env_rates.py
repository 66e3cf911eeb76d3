"""Frames per second and memory of environments, and of dm_control's own for comparison.

A frame is a picture and the decision that led to it: `action_repeat` control steps of physics.

`both with reset` is the rate that an agent sees: all environments play whole episodes and start them together, as in
training, since these tasks end by time. Whole episodes of many environments take too long to measure, so the rate is
computed from two measurements: a decision after which no episode ends, and one after which all do, with the first
picture of the next. Of the decisions of an episode, one is of the second kind. dm_control's rate is computed likewise.

With `env.workers=N` the environments are also measured in N processes.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from mindreel.assembly import build_env, build_warp
from mindreel.benchmarks.timing import memory_free, memory_used, seconds_per_call
from mindreel.envs import Worlds
from mindreel.envs.warp.startup import compiled
from mindreel.run_config import RunConfig

_SEEN = ("pixels", "state")
_ENDLESS = 10**9  # decisions, more than are ever measured
_PROBED = (64, 128)
"""Numbers of environments from whose memory that of more is estimated; with fewer, fixed costs would dominate."""


def env_rows(config: RunConfig, worlds: tuple[int, ...], seconds: float, device: torch.device) -> list[dict]:
    """A row for each backend, number of environments, and each of physics, render, both, both with reset."""
    start, before = time.perf_counter(), compiled()
    _warp_rows(config, 1, 0.0, device)  # not counted: loads and compiles what all others use
    modules, compile_s = (now - then for now, then in zip(compiled(), before, strict=True))
    print(
        f"The first environment took {time.perf_counter() - start:.0f} s, {compile_s:.0f} s of it for compiling "
        f"{modules} modules that were not in the cache."
    )
    rows: list[dict] = []
    memory: dict[int, float] = {}  # number of worlds -> megabytes
    for count in sorted(set(worlds)):
        try:
            if not _fits(config, count, memory, device):
                break
            rows += _warp_rows(config, count, seconds, device)
            memory[count] = rows[-1]["memory_mb"]
            if config.env.workers:
                rows += _split_rows(config, count, seconds)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "alloc" not in str(error):
                raise
            print(f"{count} environments do not fit into memory: they are left out.")
            break
    rows = [row | {"compile_s": compile_s} for row in rows]
    return rows + _dm_control_rows(config, seconds)


def _fits(config: RunConfig, count: int, memory: dict[int, float], device: torch.device) -> bool:
    """Whether so many environments have room, estimated from the memory of fewer; prints it if not."""
    if count <= _PROBED[-1]:
        return True
    if sum(known >= _PROBED[0] for known in memory) < 2:
        for probed in _PROBED:
            memory.setdefault(probed, _warp_rows(config, probed, 0.0, device)[-1]["memory_mb"])
    wanted, free = (
        estimate({known: memory[known] for known in memory if known >= _PROBED[0]}, count),
        memory_free(device),
    )
    if wanted > 0.8 * free:
        print(f"{count} environments would take about {wanted:,.0f} of {free:,.0f} MB: they are left out.")
        return False
    return True


def estimate(memory: Mapping[int, float], count: int) -> float:
    """Megabytes that `count` environments would take if memory keeps growing as between the two largest known numbers.

    Args:
        memory: number of environments -> megabytes, for at least two numbers.
        count: a number of environments.
    """
    fewer, more = sorted(memory)[-2:]
    growth = max(0.0, memory[more] - memory[fewer]) / (more - fewer)  # pages that were freed before are used first
    return memory[more] + growth * (count - more)


def whole_episode(ordinary: float, last: float, decisions: float) -> float:
    """Mean seconds of a decision in an episode of `decisions`, maybe infinitely many; the last one includes a reset."""
    return ordinary if math.isinf(decisions) else ((decisions - 1) * ordinary + last) / decisions


def _rows(
    config: RunConfig,
    backend: str,
    device: torch.device,
    worlds: int,
    times: Mapping[str, float],
    before: float,
    used: float | None = None,
) -> list[dict]:
    """A row for each of `times`, the seconds in which every environment draws or decides once.

    `before` and `used` are megabytes in use before the environments were made and with them.
    """
    used = memory_used(device) if used is None else used
    about = {"backend": backend, "device": str(device), "task": config.task, "worlds": worlds}
    more = {"memory_mb": max(0.0, used - before), "action_repeat": config.env.action_repeat}
    return [about | {"what": what, "frames_per_s": worlds / one} | more for what, one in times.items()]


def _warp_rows(config: RunConfig, count: int, seconds: float, device: torch.device) -> list[dict]:
    before = memory_used(device)
    repeat = config.env.action_repeat
    env = build_warp(config, count, config.seed, _SEEN)
    spec, decisions, agent = env.action_spec, env.episode_steps, _agent(env)

    def physics() -> None:
        env.sim.ctrl.copy_(spec.rand())
        for _ in range(repeat):
            env.sim.step()

    def both() -> None:
        physics()
        env.sim.render()

    measured = env.device or device
    works = {"physics": physics, "render": env.sim.render, "both": both}
    times = {what: seconds_per_call(work, seconds, measured) for what, work in works.items()}
    env.episode_steps = _ENDLESS
    ordinary = seconds_per_call(agent, seconds, measured)
    env.episode_steps = 1
    last = seconds_per_call(agent, seconds, measured)
    times["both with reset"] = whole_episode(ordinary, last, decisions)
    return _rows(config, "warp", measured, count, times, before)


def _split_rows(config: RunConfig, count: int, seconds: float) -> list[dict]:
    """`both with reset` of environments in several processes."""
    cpu, times = torch.device("cpu"), []
    decisions = build_warp(config, 1, config.seed, ("state",)).episode_steps
    before, used = memory_used(cpu), 0.0
    for limit in (_ENDLESS, 1):
        env = build_env(replace(config, env=replace(config.env, time_limit=limit)), count, config.seed, _SEEN)
        times.append(seconds_per_call(_agent(env), seconds, cpu))
        used = memory_used(cpu)
        env.close()
    whole = {"both with reset": whole_episode(times[0], times[1], decisions)}
    return _rows(config, f"warp, {min(count, config.env.workers or 0)} processes", cpu, count, whole, before, used)


def _agent(env: Worlds) -> Callable[[], None]:
    """Makes a function that acts at random once in all environments."""
    observation = env.reset()

    def decide() -> None:
        nonlocal observation
        observation["action"] = env.action_spec.rand()
        _, observation = env.step_and_maybe_reset(observation)

    return decide


def _dm_control_rows(config: RunConfig, seconds: float) -> list[dict]:
    """Rows of dm_control's own environment, one in one process."""
    from mindreel.envs.backends.dm_control import DMControlEnv  # here: importing dm_control takes seconds

    cpu, render = torch.device("cpu"), config.env.render
    before = memory_used(cpu)
    settings: dict[str, Any] = {"action_repeat": config.env.action_repeat, "frame_skip": config.env.frame_skip}
    try:
        decisions = DMControlEnv(config.task, time_limit=config.env.time_limit, **settings).episode_steps
    except ValueError as error:  # a task of the user's own
        print(f"dm_control is not measured: {error}")
        return []
    env = DMControlEnv(config.task, config.seed, time_limit=_ENDLESS, **settings)
    env.reset()

    def physics() -> None:
        action = env.action_low + (env.action_high - env.action_low) * torch.rand(len(env.action_low)).numpy()
        if env.step(action)[2]:  # ended early
            env.reset()

    def draw() -> None:
        env.pixels(render)

    def both() -> None:
        physics()
        draw()

    def last() -> None:
        both()
        env.reset()
        draw()

    times = {"physics": seconds_per_call(physics, seconds, cpu)}
    try:
        draw()
    except ValueError as error:
        print(f"dm_control's pictures are not measured: {error}")
    else:
        times["render"] = seconds_per_call(draw, seconds, cpu)
        ordinary, ended = (seconds_per_call(work, seconds, cpu) for work in (both, last))
        times["both with reset"] = whole_episode(ordinary, ended, decisions)
    return _rows(config, "dm_control", cpu, 1, times, before)
