"""Probe what encoders know, on held-out episodes, with 95% intervals (bootstrap over episodes).

    python scripts/probe.py encoder=vjepa,videomae,untrained,pixels task=cartpole-swingup,reacher-easy out=rows.json
    python scripts/probe.py encoder=vjepa,untrained task=walker-walk probes=state,dynamics pretrain.steps=1000
    python scripts/probe.py encoder=vjepa encoder.jepa_coef=0,1 task=walker-walk seed=1,2,3

These make rollouts of each task, pretrain each encoder on them for equally many steps and batches (with
pretrain.tflop, for equally many operations), and probe all on the same held-out episodes. The folder keeps what is
done, and the same command continues it. Any field can be a list; tables show means over seeds, rows each seed. The
folder does not record which version of the code made what: after a change of code, name another folder=.

    python scripts/probe.py run=runs/demo
    python scripts/probe.py run=runs/demo probes=state,recognition,anomaly

The first probes a run's encoder for the simulator's state, compared with the same network untrained and raw pixels:
probes learn from the run's replay and are scored on fresh episodes. Fields not given are those of the run.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mindreel import cli
from mindreel.assembly import checkpoint_of
from mindreel.probing.compare import Probed, compare
from mindreel.probing.printing import over_seeds, over_tasks, print_comparison, print_probes
from mindreel.probing.run_probes import probe_run
from mindreel.probing.settings import CompareConfig
from mindreel.probing.variants import listed_encoders
from mindreel.run_config import GROUPS, choice
from mindreel.sweep.arguments import Axes, combinations, read_axes
from mindreel.tables import check_out, write_rows
from mindreel.viz.probe_page import write_probes


def run(config: CompareConfig, axes: Axes) -> None:
    """Probes, prints the table and draws the figure."""
    check_out(config.out)
    if config.run and not config.probes:
        rows = probe_run(config)
        print(f"{config.run}: {choice(config, 'encoder')} on {config.task}")
        print_probes(rows)
        write_rows(config.out, [{"run": config.run, "task": config.task, "seed": config.seed} | row for row in rows])
        return
    encoders = [Probed(config)] if config.run else listed_encoders(axes)
    rows, failures = compare(encoders, checkpoint_of(config.run) if config.run else None)
    if rows:
        shown = over_seeds(rows)
        shown += over_tasks(shown)
        print_comparison(shown)
        print(f"Figure: {write_probes(Path(config.folder) / 'probes.html', shown)}")
        write_rows(config.out, rows)
    if failures:
        print(f"{len(failures)} of {len(encoders)} encoders failed; the same command tries again.", file=sys.stderr)
        sys.exit(1)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line; help, and mistakes in names, are those of the first encoder and task."""
    # A list of suites is one setting: it does not ask for several runs of the command.
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
