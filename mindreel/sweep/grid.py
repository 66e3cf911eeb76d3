"""From a command line with comma lists to the cells of a grid, each with a run folder of its own."""

import difflib
import fcntl
import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from mindreel import cli
from mindreel.cli import schema
from mindreel.encoders import has_objective
from mindreel.envs import TASKS
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.viz.sweep.results import FAILURE_FILE, flat

Axes = Mapping[str, Sequence[str]]
"""Field -> its arguments, several where a comma list was given."""

_SLOWEST = ("seed", "task", "encoder")  # so that every encoder has its first seed before any has its second


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

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
        """What its process prints."""
        return self.folder.parent / "logs" / f"{self.folder.name}.txt"

    @property
    def failure(self) -> Path:
        """Where it is written why it failed."""
        return self.folder / FAILURE_FILE

    @property
    def label(self) -> str:
        return self.folder.name

    def finished(self) -> bool:
        return "eval_return_mean" in self.summary()

    def summary(self) -> dict[str, Any]:
        """Its summary.json; empty until it has finished."""
        try:
            summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # none, or one that was cut off
            return {}
        return summary if isinstance(summary, dict) else {}

    def plan(self) -> None:
        """Says in its folder what will be trained there, so that a page of a half-finished grid shows it."""
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
            return [_assigned("resume", str(self.folder))]
        return [*self.arguments, _assigned("run", str(self.folder)), "overwrite=true"]

    def lock(self) -> IO[bytes] | None:
        """Its log, locked for the process that writes there; None while another one, of any grid, does.

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


def read_axes(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The arguments by field, comma lists spread; of a repeated field the last one counts."""
    axes: dict[str, list[str]] = {}
    for text in arguments:
        key = text.partition("=")[0]
        key = key.removesuffix(".name") if key.removesuffix(".name") in GROUPS else key
        axes.pop(key, None)
        axes[key] = _spread(text)
    return axes


def _spread(text: str) -> list[str]:
    try:
        override = OverridesParser.create().parse_override(text)
        if not override.is_sweep_override():
            return [text]
        return [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
    except HydraException:
        return [text]  # cli.main says what is wrong with it


def confined(axes: Axes) -> dict[str, list[str]]:
    """Fields that only some of a group's listed choices have -> those choices; the others go without."""
    found = {}
    for key in axes:
        group, _, name = key.partition(".")
        if group in GROUPS and name and len(axes.get(group, ())) > 1:
            choices = [text.partition("=")[2] for text in axes[group]]
            fields = {one: list(schema.names(GROUPS[group][one])) for one in choices if one in GROUPS[group]}
            having = [one for one in fields if name in fields[one]]
            # A misspelt field goes to those that have a similar one, and the error that it makes names that.
            having = having or [one for one in fields if difflib.get_close_matches(name, fields[one])]
            if having and len(having) < len(choices):
                found[key] = having
    return found


def combinations(axes: Axes) -> list[list[str]]:
    """The arguments of each cell, seeds outermost; a cell goes without fields that its choices do not have."""
    limits = confined(axes)
    order = sorted(axes, key=lambda key: _SLOWEST.index(key) if key in _SLOWEST else len(_SLOWEST))
    cells: list[list[str]] = []
    for texts in itertools.product(*(axes[key] for key in order)):
        chosen = {key: text.partition("=")[2] for key, text in zip(order, texts, strict=True)}
        keys = [key for key in order if key not in limits or chosen[key.partition(".")[0]] in limits[key]]
        cell = [text for key, text in zip(order, texts, strict=True) if key in keys]
        if cell not in cells:
            cells.append(cell)
    return cells


def make_cells(folder: Path, axes: Axes, overwrite: bool, added: Mapping[str, str] | None = None) -> list[Cell]:
    """The cells of a grid in the folder `folder`; nothing is written yet.

    Args:
        folder: the grid's.
        axes: fields of scripts/train.py.
        overwrite: whether a run of another config may be replaced.
        added: encoder -> an argument that its runs have besides.

    Raises:
        ValueError: an unknown name or a wrong value in any cell.
        FileExistsError: a cell's folder holds a run of another config.
    """
    swept = [key for key in axes if len(axes[key]) > 1]
    cells: dict[Path, Cell] = {}
    for arguments in combinations(axes):
        config: TrainConfig = cli.compose(TrainConfig, GROUPS, arguments)
        more = (added or {}).get(choice(config, "encoder"))
        if more:
            arguments = [*arguments, more]
            config = cli.compose(TrainConfig, GROUPS, arguments)
        if config.env.backend != "gym" and not config.task.endswith(".py") and config.task not in TASKS:
            raise ValueError(f"unknown task {config.task!r}: {schema.nearest(config.task, TASKS)}")
        place = folder / _name(config, [text for text in arguments if text.partition("=")[0] in swept])
        cell = Cell(place, replace(config, run=str(place)), tuple(arguments))
        if place in cells and cells[place].config != cell.config:
            raise ValueError(f"Two cells would share {place}: {cells[place].arguments} and {cell.arguments}.")
        cells.setdefault(place, cell)
    return [replace(cell, stale=_holds_another(cell, overwrite)) for cell in cells.values()]


def _name(config: TrainConfig, swept: Sequence[str]) -> str:
    """TASK-ENCODER-AGENT, then the other listed fields and what they are, then the seed."""
    parts = [config.task, choice(config, "encoder"), choice(config, "agent")]
    for text in swept:
        key, _, value = text.partition("=")
        if key.removesuffix(".name") not in ("task", "seed", "encoder", "agent"):
            parts += [key.rpartition(".")[2], value]
    return "-".join(re.sub(r"[^\w.-]+", "_", part).strip("_") for part in [*parts, str(config.seed)])


def begun_runs(folder: Path) -> list[TrainConfig]:
    """The configs of the runs that a grid's folder holds, as far as this version reads them."""
    configs = []
    for file in sorted(folder.glob("*/config.yaml")):
        try:
            configs += [cli.load(file, TrainConfig, GROUPS)] if _begun(file.parent) else []
        except ValueError:  # of another version or script; where it is in the way, it will be named
            continue
    return configs


def _begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("metrics.jsonl", "checkpoints", "summary.json"))


def _holds_another(cell: Cell, overwrite: bool) -> bool:
    """Whether a run of another config stands in the cell's folder and may be replaced."""
    if not _begun(cell.folder):
        return False
    saved = replace(cli.load(cell.folder, TrainConfig, GROUPS), run=cell.config.run)
    if not has_objective(cell.config.encoder):  # it is not pretrained, however long others are
        saved = replace(saved, pretrain=cell.config.pretrain)
    if saved == cell.config or overwrite:
        return saved != cell.config
    old, new = flat(cli.to_dict(saved, GROUPS)), flat(cli.to_dict(cell.config, GROUPS))
    differing = [key for key in new | old if old.get(key) != new.get(key)]
    shown = ", ".join(f"{key}={old.get(key)} there and {new.get(key)} here" for key in differing[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise FileExistsError(
        f"{cell.folder} holds a run of another config ({shown}{more}): choose another folder=FOLDER, or add "
        "overwrite=true to replace the runs that differ."
    )


def _assigned(key: str, value: str) -> str:
    """An argument that Hydra's grammar reads back as this text."""
    if re.fullmatch(r"[\w./-]+", value):
        return f"{key}={value}"
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
