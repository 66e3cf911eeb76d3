"""Frames per second and memory of the worlds, beside dm_control's own environment.

A frame is a picture and the decision that led to it: `action_repeat` control steps of physics.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from assemble import RunConfig, build_warp
from timing import memory_free, memory_used, seconds_per_call


def env_rows(config: RunConfig, worlds: tuple[int, ...], seconds: float, device: torch.device) -> list[dict]:
    """A row for each backend, number of worlds, and of physics, render, both, both with reset."""
    print("Kernels are compiled at first use, which takes about a minute.")
    start = time.perf_counter()
    _warp_rows(config, 1, 0.0, device)  # not counted: what is loaded and compiled here serves all that follow
    print(f"They are ready after {time.perf_counter() - start:.0f} s.")
    rows: list[dict] = []
    for count in sorted(worlds):
        measured = [row for row in rows if row["memory_mb"] > 0]
        wanted = measured[-1]["memory_mb"] / measured[-1]["worlds"] * count if measured else 0.0
        free = memory_free(device)
        if wanted > 0.8 * free:
            print(f"{count} worlds would take about {wanted:,.0f} of {free:,.0f} MB: they are left out.")
            break
        try:
            rows += _warp_rows(config, count, seconds, device)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "alloc" not in str(error):
                raise
            print(f"{count} worlds do not fit into memory: they are left out.")
            break
    return rows + _dm_control_rows(config, seconds)


def _rows(
    config: RunConfig,
    backend: str,
    device: torch.device,
    worlds: int,
    works: Mapping[str, Callable[[], object]],
    seconds: float,
    before: float,
) -> list[dict]:
    """Measures each of `works`, one call of which draws or decides once in every world."""
    rates = {what: worlds / seconds_per_call(work, seconds, device) for what, work in works.items()}
    about = {"backend": backend, "device": str(device), "task": config.task, "worlds": worlds}
    more = {"memory_mb": max(0.0, memory_used(device) - before), "action_repeat": config.env.action_repeat}
    return [about | {"what": what, "frames_per_s": rate} | more for what, rate in rates.items()]


def _warp_rows(config: RunConfig, count: int, seconds: float, device: torch.device) -> list[dict]:
    before = memory_used(device)
    repeat = config.env.action_repeat
    env = build_warp(config, count, config.seed, ("pixels", "state"))
    observation = env.reset()
    spec = env.action_spec

    def physics() -> None:
        env.sim.ctrl.copy_(spec.rand())
        for _ in range(repeat):
            env.sim.step()

    def both() -> None:
        physics()
        env.sim.render()

    def agent() -> None:
        nonlocal observation
        observation["action"] = spec.rand()
        _, observation = env.step_and_maybe_reset(observation)

    works = {"physics": physics, "render": env.sim.render, "both": both, "both with reset": agent}
    return _rows(config, "warp", env.device or device, count, works, seconds, before)


def _dm_control_rows(config: RunConfig, seconds: float) -> list[dict]:
    """The same of dm_control's own environment: one world in one process."""
    from envs.dm_control import DMControlEnv  # here: importing dm_control takes seconds

    cpu, render = torch.device("cpu"), config.env.render
    before = memory_used(cpu)
    env: Any = DMControlEnv(config.task, config.seed, config.env.action_repeat)
    env.reset()

    def physics() -> None:
        action = env.action_low + (env.action_high - env.action_low) * torch.rand(len(env.action_low)).numpy()
        if env.step(action)[2]:
            env.reset()

    def draw() -> None:
        env.pixels(render)

    def both() -> None:
        physics()
        draw()

    works = {"physics": physics, "render": draw, "both with reset": both}
    try:
        draw()
    except ValueError as error:
        print(f"dm_control's pictures are not measured: {error}")
        works = {"physics": physics}
    return _rows(config, "dm_control", cpu, 1, works, seconds, before)
