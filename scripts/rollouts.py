"""Make a file of rollouts of a task: random actions, correlated noise, a half-trained and a trained agent.

    python scripts/rollouts.py task=reacher-easy out=runs/rollouts/reacher-easy.safetensors
    python scripts/rollouts.py run=runs/demo 'rollouts.policies=[noise,expert]' out=demo.safetensors

The agent is that of the run, if one is named; else one learns the task from the simulator's state first.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import cli

import corpus
from assemble import GROUPS, RunConfig, checkpoint_of
from corpus import RolloutConfig, Rollouts
from experts import Policies, policies_of_run, trained_policies
from rows import check_out, print_table
from run_folder import stage_bar


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


def make_rollouts(config: RunConfig, rollouts: RolloutConfig, path: Path) -> Rollouts:
    """The rollouts in the file `path`, made now if there are none yet."""
    if path.is_file():
        return Rollouts.load(path)
    if rollouts.seed is not None:
        config = replace(config, seed=rollouts.seed)
    policies: Policies = {}
    if config.run:
        policies = policies_of_run(config, checkpoint_of(config.run))
    elif {"medium", "expert"} & set(rollouts.policies):
        policies = trained_policies(config, rollouts, path.with_suffix(""))
    with stage_bar("rollouts", len(rollouts.policies) * rollouts.decisions) as bar:
        made = corpus.collect(config, rollouts, policies, bar.update)
    made.save(path)
    print(f"\n{config.task}: {len(made)} episodes of {made.steps} decisions, in {path}")
    pairs = zip(made.facts.policies, made.facts.returns, strict=True)
    print_table([{"policy": name, "return": mean} for name, mean in pairs], {"policy": "policy", "return": "return"})
    return made


if __name__ == "__main__":
    cli.main(run, RolloutsConfig, GROUPS, base="run")
