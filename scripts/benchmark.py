"""Measure how fast environments, the agent and encoders are on this machine.

python scripts/benchmark.py                                      # all of it
python scripts/benchmark.py env task=walker-walk worlds=[16,256]
python scripts/benchmark.py agent preset=demo out=rows.json
python scripts/benchmark.py encoder encoder.vit.dim=384 encoder.vit.depth=12 device=cuda
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mindreel import cli
from mindreel.benchmarks.agent_times import CITED, agent_rows
from mindreel.benchmarks.encoder_rates import encoder_rows
from mindreel.benchmarks.env_rates import env_rows
from mindreel.devices import check_device, use_tensor_cores
from mindreel.run_config import GROUPS, RunConfig, current_names
from mindreel.runs.provenance import hardware
from mindreel.tables import check_out, print_table, write_rows

_COLUMNS = {
    "env": ("backend", "what", "worlds", "device", "frames_per_s", "memory_mb"),
    "agent": ("measure", "worlds", "device", "measured_ms", "note", "cited_ms"),
    "encoder": ("what", "engine", "device", "batch", "precision", "clips_per_s", "gflop_per_clip", "peak_fraction"),
}


@dataclass(frozen=True)
class BenchmarkConfig(RunConfig):
    """What is measured, and in which sizes."""

    what: Literal["all", "env", "agent", "encoder"] = "all"
    """env (physics and pictures), agent (updates, replay, planned actions), encoder, or all; also as first word."""
    worlds: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    """Numbers of environments to measure, as far as memory allows."""
    seconds: float = 3.0
    """Time to measure each row for."""
    out: str = ""
    """File for the rows, JSON."""


def run(config: BenchmarkConfig) -> None:
    """Measures and prints a table for each part."""
    check_out(config.out)
    if not config.worlds or min(config.worlds) < 1 or config.seconds <= 0:
        raise ValueError("worlds: at least one number of 1 or more; seconds: more than 0.")
    device = check_device(config.device)
    about = hardware(str(device))
    machine = about.get("gpu") or f"{about['cpu']}, {about['threads']} threads"
    rows: list[dict] = []
    for part in _COLUMNS if config.what == "all" else (config.what,):
        print(f"\n{part}: {config.task} on {machine}")
        if part == "env":
            found = env_rows(config, config.worlds, config.seconds, device)
        elif part == "agent":
            found = agent_rows(config, config.seconds, device)
        else:
            found = encoder_rows(config, config.seconds, device)
        print_table(found, {name: name.replace("_", " ") for name in _COLUMNS[part]})
        if part == "agent":
            print(CITED)
        rows += [{"benchmark": part, **row} for row in found]
    write_rows(config.out, [{"task": config.task} | about | row for row in rows])


def _with_subcommand(arguments: list[str]) -> list[str]:
    """The arguments with a first word such as `env` written as what=env."""
    if arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        return [f"what={arguments[0]}", *arguments[1:]]
    return arguments


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    use_tensor_cores()
    cli.main(run, BenchmarkConfig, GROUPS, base="run", argv=_with_subcommand(current_names(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
