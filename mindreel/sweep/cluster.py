"""Runs of a sweep as jobs of a cluster, by submitit."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from mindreel.extras import need
from mindreel.sweep.launch import POLL_SECONDS, Ended, Watch, note_failure, run_here
from mindreel.sweep.sweep_runs import SweepRun


@dataclass(frozen=True)
class ClusterConfig:
    """What the cluster gives to each run, in submitit's words."""

    name: str = ""
    """Scheduler that submitit talks to (slurm, or local for a trial); the one that is there if empty."""
    partition: str = ""
    """Slurm partition; the cluster's default if empty."""
    timeout_min: Annotated[int, Ge(1)] = 1440
    """Minutes that a job may last; running the sweep again continues what it leaves unfinished."""
    cpus_per_task: Annotated[int, Ge(1)] = 8
    """Processor cores."""
    gpus_per_node: Annotated[int, Ge(0)] = 0
    """GPUs; 1 for device=cuda."""
    mem_gb: Annotated[int, Ge(1)] = 16
    """Memory, in GB."""


class Job:
    """What the cluster runs: one run, from its start or from its checkpoint on."""

    def __init__(self, run: SweepRun):
        self.run = run

    def __call__(self) -> None:
        run_here([self.run], 1, lambda run: None)

    def checkpoint(self):
        """What submitit queues when the job is preempted or runs out of time."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def check_cluster(cluster: ClusterConfig, device: str) -> None:
    """Checks that submitit is installed and that the jobs get the device that they are to run on.

    Raises:
        ValueError: submitit is not installed, or the jobs would have no GPU.
    """
    if device.startswith("cuda") and not cluster.gpus_per_node:
        raise ValueError(f"device={device}, but the jobs get no GPU: add cluster.gpus_per_node=1.")
    need("submitit", "cluster", "launcher=submitit")


def run_on_cluster(
    runs: Sequence[SweepRun],
    jobs: int,
    cluster: ClusterConfig,
    ended: Ended,
    watch: Watch = lambda under_way: None,
) -> None:
    """Submits a job for each run, `jobs` to run at a time, and waits for them; cancels them if interrupted."""
    import submitit

    executor = submitit.AutoExecutor(runs[0].log.parent / "cluster", cluster=cluster.name or None)
    executor.update_parameters(
        name="mindreel",
        timeout_min=cluster.timeout_min,
        cpus_per_task=cluster.cpus_per_task,
        gpus_per_node=cluster.gpus_per_node,
        mem_gb=cluster.mem_gb,
        slurm_array_parallelism=jobs,
    )
    if cluster.partition:
        executor.update_parameters(slurm_partition=cluster.partition)
    with executor.batch():
        submitted = [executor.submit(Job(run)) for run in runs]
    waiting = list(zip(runs, submitted, strict=True))
    try:
        while waiting:
            for run, job in list(waiting):
                if job.done():
                    waiting.remove((run, job))
                    if not run.failure.exists():  # else the job said why; without it, it did not get so far
                        note_failure(run, 0, job.paths.stderr)
                    ended(run)
            watch([run for run, _ in waiting])
            time.sleep(POLL_SECONDS)
    finally:
        for _, job in waiting:
            job.cancel()
