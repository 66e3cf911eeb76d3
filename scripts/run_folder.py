"""The folder that a run writes to: who may write there, its metrics, and progress on the screen."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cli

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from assemble import GROUPS, TrainConfig, choice
from other_runs import check_same_network, encoder_config

# No thread that watches over bars: garbage may be collected in it, and what dm_control draws with must be freed in the
# thread that made it.
tqdm.monitor_interval = 0

OWN_FILES = ("config.yaml", "metrics.jsonl", "checkpoints", "summary.json")


def find_run(config: TrainConfig, kind: str = "") -> Path:
    """The folder that a run is to write to, after making sure that it may; nothing is written yet.

    Args:
        config: the run's.
        kind: what stands in the name of a folder that the config does not name; the agent if not given.

    Raises:
        FileExistsError: the folder holds a run, and neither `resume` nor `overwrite` was given.
        FileNotFoundError: there is nothing to resume.
        ValueError: it has another encoder than the config asks for.
    """
    if config.resume:
        folder = Path(config.resume)
        if not (folder / "checkpoints" / "last.pt").exists():
            raise FileNotFoundError(
                f"{folder}/checkpoints/last.pt does not exist: that run stopped before its first checkpoint. "
                f"Start it again with run={folder} overwrite=true."
            )
        check_same_network(encoder_config(config.resume), config.encoder, f"resume={folder}")
        return folder
    task = Path(config.task).stem if config.task.endswith(".py") else re.sub("[/:]", "-", config.task)
    name = f"{task}-{choice(config, 'encoder')}-{kind or choice(config, 'agent')}-{config.seed}"
    folder = Path(config.run) if config.run else Path("runs") / name
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        _check_replaceable(folder, config.overwrite)
    return folder


def start_run(folder: Path, config: TrainConfig, leave_out: tuple[str, ...] = ()) -> None:
    """Empties the folder that `find_run` found and saves the config there; one to resume stays as it is.

    Args:
        folder: the run's.
        config: the run's.
        leave_out: fields that belong to the script and not to the run.
    """
    if config.resume:
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    cli.save(config, GROUPS, folder / "config.yaml", leave_out=("resume", "overwrite", *leave_out))


def tell_how_to_go_on(script: str, folder: Path) -> None:
    """Says with which command an interrupted run goes on, if it has a checkpoint to go on from."""
    if os.environ.get("RANK", "0") == "0" and (folder / "checkpoints" / "last.pt").exists():
        processes = os.environ.get("WORLD_SIZE", "1")
        launcher = "python" if processes == "1" else f"torchrun --nproc-per-node={processes}"
        print(f"\nInterrupted. Continue with: {launcher} scripts/{script}.py resume={folder}", flush=True)


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    if not overwrite:
        raise FileExistsError(
            f"{folder} already exists: add resume={folder} to go on with it, overwrite=true to replace it, "
            "or run=OTHER to write elsewhere."
        )
    if not folder.is_dir() or not any((folder / name).exists() for name in OWN_FILES):
        raise FileExistsError(f"{folder} does not look like a run, so it is not deleted: choose another run=FOLDER.")


class MetricsLog:
    """Rows of metrics, to metrics.jsonl and to TensorBoard."""

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, row: dict) -> None:
        """Writes one row; `stage` prefixes the names in TensorBoard, `step` or `env_frames` is their axis."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        step = int(row.get("step", row.get("env_frames", 0)))
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "env_frames"):
                self._board.add_scalar(f"{row.get('stage', 'run')}/{name}", value, step)

    def lines(self) -> int:
        """Rows written so far."""
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def truncate(self, lines: int) -> None:
        """Drops the rows after the first `lines`, which a run that was cut off wrote after its checkpoint."""
        kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        self._file.close()
        self.path.write_text("".join(kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


def progress_bar(steps: Iterable[int], name: str, first: int, total: int) -> Iterator[int]:
    """Shows rate and time left of a stage: `steps` again, counted."""
    bar = stage_bar(name, total, first)
    try:
        for step in steps:
            yield step
            bar.update()
    finally:
        bar.close()


def stage_bar(name: str, total: int, first: int = 0) -> tqdm:
    """A bar that shows rate and time left; a line now and then where the output is no terminal."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(desc=f"{name:>9}", initial=first, total=total, mininterval=interval, dynamic_ncols=True)
