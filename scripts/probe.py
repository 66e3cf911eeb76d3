"""Probe a run's encoder for the simulator's state, beside the same network untrained and raw pixels.

    python scripts/probe.py run=runs/demo
    python scripts/probe.py run=runs/demo out=rows.json

Probes learn from the run's replay and are scored on fresh episodes. Fields not given are those of the run.
"""

from dataclasses import dataclass

import torch

import cli
from agents.checkpoint import fitting
from agents.replay import Replay
from assemble import GROUPS, RunConfig, checkpoint_of, choice, load_parts
from probing import print_probes, probe_table
from rows import check_out, write_rows


@dataclass(frozen=True)
class ProbeRunConfig(RunConfig):
    """Probes of a run's encoder."""

    out: str = ""
    """File for the rows, JSON."""


def run(config: ProbeRunConfig) -> None:
    """Probes and prints the table."""
    checkpoint = checkpoint_of(config.run)
    check_out(config.out)
    if choice(config, "encoder") == "state":
        raise ValueError("This run reads the simulator's state itself: there is no encoder to probe.")
    parts, state = load_parts(config, checkpoint)
    replay = Replay(config.loop.replay_capacity, config.env.num_envs, parts.env.device)
    with fitting(checkpoint):
        replay.load_state_dict(state["replay"])
    torch.manual_seed(config.seed)
    learned = state["counters"]["updates"] > 0
    rows = probe_table(config, parts, replay, config.loop.noise if learned else None)
    print(f"{config.run}: {choice(config, 'encoder')} on {config.task}")
    print_probes(rows)
    of_run = {"run": config.run, "task": config.task, "seed": config.seed}
    write_rows(config.out, [of_run | row for row in rows])


if __name__ == "__main__":
    cli.main(run, ProbeRunConfig, GROUPS, base="run")
