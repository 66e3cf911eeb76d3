"""Play every task with actions that no agent should choose, and count what breaks.

    python scripts/endurance.py
    python scripts/endurance.py task=walker-walk,dog-run steps=2000 out=rows.json

All worlds but the first get random actions, actions from bound to bound, far out of bounds and infinite ones. The
first plays the same calm actions as a world that is alone: both must see the same, to the bit, whatever happens
beside them. Exits 0 only if they do in every task, and no world ever shows a number that is not finite.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mindreel import cli
from mindreel.devices import check_device
from mindreel.envs import TASKS, WarpEnv, make_env, make_task
from mindreel.runs.metrics import stage_bar
from mindreel.tables import check_out, print_table, with_list, write_rows

_COLUMNS = {
    "task": "task",
    "steps": "steps",
    "repaired": "repaired",
    "overflowed": "no room",
    "not_finite": "not finite",
    "touched": "neighbour touched",
}


@dataclass(frozen=True)
class EnduranceConfig:
    """What is played, and for how long."""

    task: tuple[str, ...] = ()
    """Tasks, with commas between them; all if none is named."""
    steps: int = 10_000
    """Control steps of each world."""
    num_envs: int = 8
    """Worlds that run side by side."""
    seed: int = 1
    """Seed of everything random."""
    device: str = "cpu"
    """Device that everything runs on: cpu, cuda or cuda:N."""
    max_contacts: int | None = None
    """Contacts that a world may have on average; mujoco_warp's guess if null."""
    max_constraints: int | None = None
    """Scalar constraints that a world may have; the task's own number, or a guess, if null."""
    out: str = ""
    """File for the rows, JSON."""


def run(config: EnduranceConfig) -> None:
    """Plays and prints; exits with 1 if a world showed what it should not."""
    check_out(config.out)
    rows = []
    tasks = config.task or tuple(TASKS)
    for task in tasks:
        make_task(task)  # names an unknown one before hours of work, not after them
    with stage_bar("endurance", len(tasks)) as bar:
        for task in tasks:
            rows.append(endure(config, task))
            bar.update()
    print_table(rows, _COLUMNS)
    write_rows(config.out, rows)
    if any(row["not_finite"] or row["touched"] for row in rows):
        sys.exit(1)


def endure(config: EnduranceConfig, task: str) -> dict[str, Any]:
    """One task's row."""
    worlds = _worlds(config, task, config.num_envs, config.max_contacts)
    # Worlds share the room for contacts. The lone one gets all of it, so that a pile-up does not end its episode only.
    alone = _worlds(config, task, 1, config.num_envs * worlds.sim.room["max_contacts"])
    generator = torch.Generator().manual_seed(config.seed)
    root, other = worlds.reset(), alone.reset()
    not_finite = touched = 0
    for _ in range(config.steps):
        action = _hostile(generator, config.num_envs, worlds.action_dim)
        action[0] = 0.5 * (2 * torch.rand(worlds.action_dim, generator=generator) - 1)
        action = action.to(worlds.device)
        step, root = worlds.step_and_maybe_reset(root.set("action", action))
        same, other = alone.step_and_maybe_reset(other.set("action", action[:1]))
        seen = torch.cat([step["next", "state"], step["next", "reward"], root["state"]], dim=-1)
        not_finite += int((~seen.isfinite().all(-1)).sum())
        touched += int((step["next", "state"][0] != same["next", "state"][0]).any())
    counters = worlds.counters
    return {
        "task": task,
        "steps": config.steps,
        "repaired": counters["repaired_worlds"],
        "overflowed": counters["overflowed_worlds"],
        "not_finite": not_finite,
        "touched": touched,
    }


def _worlds(config: EnduranceConfig, task: str, num_envs: int, max_contacts: int | None) -> WarpEnv:
    worlds = make_env(
        task,
        num_envs,
        check_device(config.device),
        config.seed,
        ("state",),
        action_repeat=1,
        max_contacts=max_contacts,
        max_constraints=config.max_constraints,
    )
    assert isinstance(worlds, WarpEnv)
    return worlds


def _hostile(generator: torch.Generator, num_envs: int, action_dim: int) -> torch.Tensor:
    """Actions (B, A): each world's random, at their bounds, far out of them, or infinite."""
    action = 2 * torch.rand(num_envs, action_dim, generator=generator) - 1
    kind = torch.randint(4, (num_envs, 1), generator=generator)
    beyond = torch.tensor([1.0, 1.0, 1e30, torch.inf])[kind] * torch.where(action < 0, -1.0, 1.0)
    return torch.where(kind == 0, action, beyond)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, EnduranceConfig, argv=with_list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
