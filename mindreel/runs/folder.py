"""The folder that a run writes to."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from mindreel import cli
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.transfer import check_same_network, encoder_config

_LONGEST_NAME = 255

OWN_FILES = ("config.yaml", "metrics.jsonl", "checkpoints", "summary.json")


def find_run(config: TrainConfig, kind: str = "") -> Path:
    """The folder that a run may write to; nothing is written yet.

    Args:
        config: the run's.
        kind: part of the name of a folder that the config does not name; the agent if not given.

    Raises:
        FileExistsError: the folder holds a run, and neither `resume` nor `overwrite` was given.
        FileNotFoundError: there is nothing to resume.
        ValueError: the run to resume has another encoder than the config asks for, or a folder of that name cannot be
            made.
    """
    if config.resume:
        folder = Path(config.resume)
        if not (folder / "checkpoints" / "last.pt").exists():
            raise FileNotFoundError(
                f"{folder}/checkpoints/last.pt does not exist: that run stopped before its first checkpoint. "
                f"Start it again with run={folder} overwrite=true."
            )
        check_same_network(encoder_config(config.resume), config.encoder, f"resume={folder}")
        _check_continues(config, folder)
        return folder
    task = Path(config.task).stem if config.task.endswith(".py") else re.sub("[/:]", "-", config.task)
    name = f"{task}-{choice(config, 'encoder')}-{kind or choice(config, 'agent')}-{config.seed}"
    folder = Path(config.run) if config.run else Path("runs") / name
    if len(os.fsencode(folder.name)) > _LONGEST_NAME:
        raise ValueError(f"run={config.run}: a folder's name has at most {_LONGEST_NAME} bytes.")
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        _check_replaceable(folder, config.overwrite)
    return folder


def _check_continues(config: TrainConfig, folder: Path) -> None:
    """Refuses to resume with what would mix two kinds of transitions in one replay, or would be ignored."""
    if config.overwrite:
        raise ValueError(f"resume={folder} continues that run, overwrite=true replaces one: leave one of them out.")
    saved = cli.load(folder, type(config), GROUPS)
    ours, theirs = ({"seed": one.seed, "run": one.run} for one in (config, saved))
    if not getattr(config, "data", ""):  # an encoder that learns from files has no environments
        for one, fields in ((config, ours), (saved, theirs)):
            fields["task"] = one.task
            env = cli.to_dict(replace(one.env, workers=None), {})
            fields |= {f"env.{name}": value for name, value in env.items()}
    for name, value in theirs.items():
        if ours[name] != value:
            raise ValueError(
                f"resume={folder}: that run has {name}={value} and continues with it, not with {ours[name]}. Leave "
                f"{name} out, or start another run."
            )


def start_run(folder: Path, config: TrainConfig, leave_out: tuple[str, ...] = ()) -> None:
    """Empties the folder that `find_run` found and saves the config there; does nothing to a run that is resumed.

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
    """Prints the command that continues an interrupted run, if it has a checkpoint."""
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
