"""Probe what encoders know, on held-out episodes, with 95% intervals (bootstrap over episodes).

    python scripts/probe.py encoder=vjepa,videomae,untrained,pixels task=cartpole-swingup,reacher-easy out=rows.json
    python scripts/probe.py encoder=vjepa,untrained task=walker-walk probes=state,dynamics pretrain.steps=1000
    python scripts/probe.py encoder=vjepa encoder.jepa_coef=0,1 task=walker-walk seed=1,2,3

These make rollouts of each task, pretrain each encoder on them for equally many steps and batches (with
pretrain.tflop, for equally many operations), and probe all on the same held-out episodes; the folder keeps what is
done, and the same command goes on from there. Any field can be a list; tables show means over seeds, rows each seed.
What is kept does not tell versions of the code apart: after a change of code, name another folder=.

    python scripts/probe.py run=runs/demo
    python scripts/probe.py run=runs/demo probes=state,recognition,anomaly

The first probes a run's encoder for the simulator's state, beside the same network untrained and raw pixels:
probes learn from the run's replay and are scored on fresh episodes. Fields not given are those of the run.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mindreel import cli
from mindreel.agents.checkpoint import fitting
from mindreel.agents.replay import Replay
from mindreel.assembly import checkpoint_of, load_parts
from mindreel.encoders.objectives.vjepa import VJEPAConfig
from mindreel.probing.comparison import CompareConfig, compare
from mindreel.probing.run_tables import over_seeds, over_tasks, print_comparison, print_probes, probe_table
from mindreel.run_config import GROUPS, choice
from mindreel.sweep.arguments import Axes, combinations, read_axes
from mindreel.tables import check_out, write_rows
from mindreel.transfer import encoder_config
from mindreel.viz.probe_page import write_probes


def run(config: CompareConfig, axes: Axes) -> None:
    """Probes, prints the table and draws the figure."""
    check_out(config.out)
    if config.run and not config.probes:
        _probe_run(config)
        return
    cells = [(config, "")] if config.run else _cells(axes)
    rows, failures = compare(cells, checkpoint_of(config.run) if config.run else None)
    if rows:
        shown = over_seeds(rows)
        shown += over_tasks(shown)
        print_comparison(shown)
        print(f"Figure: {write_probes(Path(config.folder) / 'probes.html', shown)}")
        write_rows(config.out, rows)
    if failures:
        print(f"{len(failures)} failed in {len(cells)} cells; the same command tries again.", file=sys.stderr)
        sys.exit(1)


def _cells(axes: Axes) -> list[tuple[CompareConfig, str]]:
    """The config of each combination, and in what it differs besides encoder, task and seed."""
    named = [key for key in axes if len(axes[key]) > 1 and key not in ("encoder", "task", "seed")]
    made = [(cli.compose(CompareConfig, GROUPS, arguments, base="run"), arguments) for arguments in combinations(axes)]
    others = _of_other_kinds([config for config, _ in made])
    cells = []
    for config, arguments in made:
        variant = {text.partition("=")[0]: text.removeprefix("encoder.") for text in arguments}
        if choice(config, "encoder") in others.get(config.encoder_from, ()):
            config = replace(config, encoder_from="")
            variant.pop("encoder_from", None)
        cell = config, ", ".join(text for key, text in variant.items() if key in named)
        if cell not in cells:  # as it would be where several encoder_from are listed, and none is taken
            cells.append(cell)
    return cells


def _of_other_kinds(configs: Sequence[CompareConfig]) -> dict[str, list[str]]:
    """For each encoder_from, the listed encoders that go without it, and says so: those of another kind than its.

    Where all are of another kind it is left to each, and refused as a mistake.
    """
    found = {}
    for run in dict.fromkeys(config.encoder_from for config in configs if config.encoder_from):
        try:
            kind = type(encoder_config(run))
        except FileNotFoundError:  # a VJEPA2Model's folder, or its name on the hub
            kind = VJEPAConfig
        listed = {choice(config, "encoder"): config.encoder for config in configs if config.encoder_from == run}
        others = [name for name, encoder in listed.items() if type(encoder) is not kind]
        if 0 < len(others) < len(listed):
            found[run] = others
            (taking,) = listed.keys() - others
            print(f"encoder_from={run} is for encoder={taking}; probed without it: {', '.join(others)}.")
    return found


def _probe_run(config: CompareConfig) -> None:
    """The state, as a run's encoder, the same network untrained and raw pixels know it."""
    checkpoint = checkpoint_of(config.run)
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


def main(arguments: Sequence[str]) -> None:
    """Reads the command line; help, and mistakes in names, are those of the first encoder and task."""
    # A list of suites is one setting, not several grids.
    named = [re.sub(r"^probes=([\w,]+)$", r"probes=[\1]", text) for text in arguments]
    axes = read_axes(named)
    lists = [key for key in axes if len(axes[key]) > 1 and "run" in axes]

    def probe(config: CompareConfig) -> None:
        if lists:
            raise ValueError(f"run= names the one run that is probed: give {', '.join(lists)} one value.")
        run(config, axes)

    cli.main(probe, CompareConfig, GROUPS, base="run", argv=[] if lists else combinations(axes)[0])


if __name__ == "__main__":
    main(sys.argv[1:])
