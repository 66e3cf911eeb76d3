"""The runs of a sweep, each with a run folder of its own."""

import fcntl
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from mindreel import cli
from mindreel.encoders import has_objective
from mindreel.envs import TASKS
from mindreel.names import check_name
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.sweep.arguments import Axes, combinations
from mindreel.viz.sweep.results import FAILURE_FILE, flat


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    folder: Path
    """Its run folder."""
    config: TrainConfig
    """What is trained."""
    arguments: tuple[str, ...]
    """The arguments of scripts/train.py that ask for it."""
    stale: bool = False
    """Whether its folder holds a run of another config, which is to be replaced."""

    @property
    def log(self) -> Path:
        """The file that its process prints to."""
        return self.folder.parent / "logs" / f"{self.folder.name}.txt"

    @property
    def failure(self) -> Path:
        """The file that says why it failed."""
        return self.folder / FAILURE_FILE

    def finished(self) -> bool:
        return "eval_return_mean" in self.summary()

    def summary(self) -> dict[str, Any]:
        """Its summary.json; empty until it has finished."""
        try:
            summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # none, or one that was cut off
            return {}
        return summary if isinstance(summary, dict) else {}

    def announce(self) -> None:
        """Writes its config into its folder, so that a page of an unfinished sweep shows it.

        Raises:
            FileExistsError: another process runs what is to be replaced.
        """
        if self.stale:
            log = self.lock()
            if log is None:
                raise FileExistsError(f"{self.folder} is being run by another process: stop that one first.")
            with log:
                shutil.rmtree(self.folder)
        if not _begun(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            cli.save(self.config, GROUPS, self.folder / "config.yaml", leave_out=("resume", "overwrite"))

    def command(self) -> list[str]:
        """Arguments of scripts/train.py: from its checkpoint on, or from the start where it has none."""
        if (self.folder / "checkpoints" / "last.pt").exists():
            return [cli.assigned("resume", str(self.folder))]
        return [*self.arguments, cli.assigned("run", str(self.folder)), "overwrite=true"]

    def lock(self) -> IO[bytes] | None:
        """Its log, locked for the process that writes there; None while another process of any sweep holds it.

        The lock goes with the file to the process that gets it as its output, and ends with that process.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        file = self.log.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file


def plan_runs(folder: Path, axes: Axes, overwrite: bool, added: Mapping[str, str] | None = None) -> list[SweepRun]:
    """The runs of a sweep in `folder`; nothing is written yet.

    Args:
        folder: the sweep's.
        axes: fields of scripts/train.py.
        overwrite: whether a run of another config may be replaced.
        added: encoder -> one more argument for its runs.

    Raises:
        ValueError: an unknown name or a wrong value in any run.
        FileExistsError: a run's folder holds a run of another config.
    """
    swept = [key for key in axes if len(axes[key]) > 1]
    runs: dict[Path, SweepRun] = {}
    for arguments in combinations(axes):
        config: TrainConfig = cli.compose(TrainConfig, GROUPS, arguments)
        more = (added or {}).get(choice(config, "encoder"))
        if more:
            arguments = [*arguments, more]
            config = cli.compose(TrainConfig, GROUPS, arguments)
        if config.env.backend != "gym" and not config.task.endswith(".py"):
            check_name(config.task, TASKS, "task")
        place = folder / _name(config, [text for text in arguments if text.partition("=")[0] in swept])
        run = SweepRun(place, replace(config, run=str(place)), tuple(arguments))
        if place in runs and runs[place].config != run.config:
            raise ValueError(f"Two runs would have the folder {place}: {runs[place].arguments} and {run.arguments}.")
        runs.setdefault(place, run)
    return [replace(run, stale=_replaces_another(run, overwrite)) for run in runs.values()]


def _name(config: TrainConfig, swept: Sequence[str]) -> str:
    """TASK-ENCODER-AGENT, then the other listed fields with their values, then the seed."""
    parts = [config.task, choice(config, "encoder"), choice(config, "agent")]
    for text in swept:
        key, _, value = text.partition("=")
        if key.removesuffix(".name") not in ("task", "seed", "encoder", "agent"):
            parts += [key.rpartition(".")[2], value]
    return "-".join(re.sub(r"[^\w.-]+", "_", part).strip("_") for part in [*parts, str(config.seed)])


def begun_configs(folder: Path) -> list[TrainConfig]:
    """The configs of the runs that have begun in a sweep's folder, as far as this version reads them."""
    configs = []
    for file in sorted(folder.glob("*/config.yaml")):
        try:
            configs += [cli.load(file, TrainConfig, GROUPS)] if _begun(file.parent) else []
        except ValueError:  # of another version or script; `plan_runs` names it where it is in the way
            continue
    return configs


def _begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("metrics.jsonl", "checkpoints", "summary.json"))


def _replaces_another(run: SweepRun, overwrite: bool) -> bool:
    """Whether the folder holds a run of another config, which may be replaced."""
    if not _begun(run.folder):
        return False
    saved = replace(cli.load(run.folder, TrainConfig, GROUPS), run=run.config.run)
    if not has_objective(run.config.encoder):  # it is not pretrained, so how long others are makes no difference
        saved = replace(saved, pretrain=run.config.pretrain)
    if saved == run.config or overwrite:
        return saved != run.config
    old, new = flat(cli.to_dict(saved, GROUPS)), flat(cli.to_dict(run.config, GROUPS))
    differing = [key for key in new | old if old.get(key) != new.get(key)]
    shown = ", ".join(f"{key}={old.get(key)} there and {new.get(key)} here" for key in differing[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise FileExistsError(
        f"{run.folder} holds a run of another config ({shown}{more}): choose another folder=FOLDER, or add "
        "overwrite=true to replace the runs that differ."
    )
