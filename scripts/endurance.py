"""Play every task with actions that no agent should choose, and count what breaks.

    python scripts/endurance.py
    python scripts/endurance.py task=walker-walk,dog-run steps=2000 out=rows.json

All environments but the first get random actions, actions from bound to bound, far out of bounds and infinite ones.
The first plays the same calm actions as an environment that is alone: their observations must be equal, bit for bit,
whatever happens in the others. Exits 0 only if they are in every task, and every number stays finite.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mindreel import cli
from mindreel.devices import check_device
from mindreel.env_checks.hostile_actions import endure
from mindreel.envs import TASKS, WarpEnv, make_env, make_task
from mindreel.runs.progress import stage_bar
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
    """Control steps of each environment."""
    num_envs: int = 8
    """Environments that run side by side."""
    seed: int = 1
    """Seed of everything random."""
    device: str = "cpu"
    """Device that everything runs on: cpu, cuda or cuda:N."""
    max_contacts: int | None = None
    """Contacts that an environment may have on average; mujoco_warp's guess if null."""
    max_constraints: int | None = None
    """Scalar constraints that an environment may have; the task's own number, or a guess, if null."""
    out: str = ""
    """File for the rows, JSON."""


def run(config: EnduranceConfig) -> None:
    """Plays and prints; exits with 1 if an environment was disturbed or showed a number that is not finite."""
    check_out(config.out)
    tasks = config.task or tuple(TASKS)
    for task in tasks:
        make_task(task)  # an unknown one is refused before hours of work
    rows = []
    with stage_bar("endurance", len(tasks)) as bar:
        for task in tasks:
            rows.append(play(config, task))
            bar.update()
    print_table(rows, _COLUMNS)
    write_rows(config.out, rows)
    if any(row["not_finite"] or row["touched"] for row in rows):
        sys.exit(1)


def play(config: EnduranceConfig, task: str) -> dict:
    """One task's row."""

    def make(num_envs: int, max_contacts: int | None) -> WarpEnv:
        env = make_env(
            task,
            num_envs,
            device=check_device(config.device),
            seed=config.seed,
            observations=("state",),
            action_repeat=1,
            max_contacts=max_contacts,
            max_constraints=config.max_constraints,
        )
        assert isinstance(env, WarpEnv)
        return env

    return {"task": task} | endure(make, config.num_envs, config.steps, config.seed, config.max_contacts)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, EnduranceConfig, argv=with_list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
