"""Make a file of rollouts of a task: random actions, correlated noise, a half-trained and a trained agent.

    python scripts/rollouts.py task=reacher-easy out=runs/rollouts/reacher-easy.safetensors
    python scripts/rollouts.py run=runs/demo 'rollouts.policies=[noise,expert]' out=demo.safetensors

The agent is that of the run, if one is named; else one learns the task from the simulator's state first.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mindreel import cli
from mindreel.rollouts.dataset import RolloutConfig
from mindreel.rollouts.generate import make_rollouts
from mindreel.run_config import GROUPS, RunConfig, current_names
from mindreel.tables import check_out


@dataclass(frozen=True)
class RolloutsConfig(RunConfig):
    """A file of rollouts."""

    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    """Who acts, and for how long."""
    out: str = ""
    """The file, safetensors; runs/rollouts/TASK.safetensors if empty."""


def run(config: RolloutsConfig) -> None:
    """Collects rollouts and writes them."""
    path = Path(config.out or f"runs/rollouts/{config.task}.safetensors")
    check_out(str(path))
    if path.exists():
        raise FileExistsError(f"{path} exists: name another file with out=FILE, or delete it.")
    make_rollouts(config, config.rollouts, path)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, RolloutsConfig, GROUPS, base="run", argv=current_names(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
