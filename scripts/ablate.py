"""Train every combination of listed tasks, encoders, seeds or other fields, and compare them on one page.

python scripts/ablate.py task=walker-walk,reacher-easy encoder=vjepa,untrained,cnn,state seed=1,2,3 jobs=2
python scripts/ablate.py preset=demo encoder.jepa_coef=0,1 seed=1,2,3 folder=runs/jepa
python scripts/ablate.py report=runs/jepa out=rows.json

Any field of scripts/train.py can be a list. Each combination is a run folder. The same command continues a sweep: it
skips runs that have finished and resumes interrupted ones from their checkpoints. Where several encoders are
pretrained, all get the compute of the first; encoders added later get that of the runs in the folder.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from mindreel import cli
from mindreel.devices import check_device
from mindreel.run_config import GROUPS, RunConfig
from mindreel.sweep.arguments import Axes, combinations, limited_fields, read_axes
from mindreel.sweep.cluster import ClusterConfig, check_cluster
from mindreel.sweep.equal_compute import equal_compute
from mindreel.sweep.session import report, train, training_axes
from mindreel.sweep.sweep_runs import begun_configs, plan_runs
from mindreel.tables import check_out
from mindreel.viz.sweep.page import write_sweep_page


@dataclass(frozen=True)
class AblateConfig(RunConfig):
    """A sweep of runs of scripts/train.py."""

    folder: str = "runs/ablation"
    """Folder of the sweep: a run folder for each combination, logs/ with their output, and ablation.html."""
    jobs: int = 1
    """Runs at a time; the threads are divided among them, and they take turns at the GPUs."""
    launcher: Literal["local", "submitit"] = "local"
    """Where they run: processes on this machine, or jobs of a cluster (package submitit)."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """What a cluster gives to each run."""
    report: str = ""
    """Folder of a sweep whose page is to be written, without training."""
    out: str = ""
    """File for the rows, JSON: each run, each encoder on each task, and over all tasks."""
    overwrite: bool = False
    """Replace runs in the folder whose config is another one than asked for."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"jobs={self.jobs}: expected at least one run at a time")


_OWN = {one.name for one in fields(AblateConfig)} - {one.name for one in fields(RunConfig)}


def run(config: AblateConfig, axes: Axes) -> None:
    """Trains what is not trained yet; writes the page after each run and the rows at the end."""
    check_out(config.out)
    if config.report:
        report(Path(config.report), config.out)
        return
    folder = Path(config.folder)
    wanted = training_axes(axes, _OWN)
    begun = [] if config.overwrite else begun_configs(folder)
    runs = plan_runs(folder, wanted, config.overwrite, equal_compute(wanted, begun))
    cluster = config.cluster if config.launcher == "submitit" else None
    if cluster is not None:
        check_cluster(cluster, config.device)
    else:
        check_device(config.device)
    for key, choices in limited_fields(axes).items():
        print(f"{key} is a field of {', '.join(choices)} only: the others run without it.")
    for one in runs:
        one.announce()
    undone = [one for one in runs if not one.finished()]
    done = len(runs) - len(undone)
    print(f"{len(runs)} runs in {folder}/, {done} of them done. Page: {write_sweep_page(folder)}", flush=True)
    if undone:
        train(folder, undone, config.jobs, cluster)
    report(folder, config.out)
    failed = [one for one in runs if not one.finished()]
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again.", file=sys.stderr)
        sys.exit(1)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line; help, and mistakes in names, are those of the sweep's first run."""
    axes = read_axes(arguments)

    def run_sweep(config: AblateConfig) -> None:
        run(config, axes)

    cli.main(run_sweep, AblateConfig, GROUPS, argv=combinations(axes)[0])


if __name__ == "__main__":
    main(sys.argv[1:])
