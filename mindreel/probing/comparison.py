"""Encoders side by side: rollouts of each task once, each encoder pretrained on them, all probed on the same episodes.

What has been made stays in the folder, under a hash of all settings that it depends on, and is not made again. The
version of the code is no part of the hash: after a change of code, name another folder=. A cell is one encoder, of one
variant and seed, on one task; a cell that fails does not keep the others from being measured.
"""

import hashlib
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from mindreel import cli
from mindreel.assembly import load_parts, prepare_encoder
from mindreel.devices import check_device
from mindreel.encoders import make_encoder
from mindreel.encoders.objectives.sentences import reads_sentences
from mindreel.encoders.public.public_encoder import Pretrained
from mindreel.envs import TASKS, make_task
from mindreel.pretraining.on_rollouts import pretrained
from mindreel.probing.probe_data import Subject
from mindreel.probing.suites import SUITES
from mindreel.rollouts.collecting import make_rollouts
from mindreel.rollouts.dataset import RolloutConfig, Rollouts
from mindreel.run_config import GROUPS, RunConfig, check_picture_size, choice
from mindreel.runs.metrics import stage_bar


@dataclass(frozen=True)
class CompareConfig(RunConfig):
    """Which encoders are probed, on what, and how."""

    probes: tuple[str, ...] = ()
    """Suites: state, recognition, retrieval, anomaly, frontend, dynamics; all if empty; for run=, a quick look."""
    folder: str = "runs/probe"
    """Folder of rollouts, pretrained encoders, rows and figure."""
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    """The rollouts that encoders are pretrained and probed on."""
    in_view: bool = True
    """Probe the state only in frames that show the middle of everything that moves."""
    movies: int = 64
    """Pairs of movies for each violation."""
    out: str = ""
    """File for the rows, JSON."""


Splits = dict[str, tuple[Rollouts, Rollouts]]


def compare(cells: Sequence[tuple[CompareConfig, str]], checkpoint: Path | None = None) -> tuple[list[dict], list[str]]:
    """Rows of all suites for each cell.

    Args:
        cells: config and variant: in what it differs from others with its encoder besides task and seed, or "".
        checkpoint: of a run, whose encoder is probed and whose agent plays; None to pretrain encoders.

    Returns:
        the rows, and a sentence for each cell, or suite of one, that failed.

    Raises:
        ValueError: an encoder that sees no pictures, or cannot be made; a suite or a task that does not exist.
    """
    for config, _ in cells:
        _check(config, checkpoint)
    made: Splits = {}  # by their key, which is not the task's name
    failed: dict[str, str] = {}  # rollouts that could not be made, and why
    alike: dict[str, dict[str, str]] = {}  # digest of what cells share but for the task -> task -> key of its rollouts
    for config, _ in cells:
        key = _rollouts_key(config)
        alike.setdefault(_digest(_shared(config)), {})[config.task] = key
        if key in made or key in failed:
            continue
        try:
            made[key] = make_rollouts(config, config.rollouts, _rollouts_file(config)).split(config.rollouts.held_out)
        except Exception as error:
            failed[key] = f"no rollouts: {_in_words(error)}"
    rows, failures = [], []
    for config, variant in cells:
        tasks = alike[_digest(_shared(config))]
        others = {task: key for task, key in tasks.items() if task != config.task and key in made}
        about = {"encoder": choice(config, "encoder"), "variant": variant, "task": config.task, "seed": config.seed}
        own = tasks[config.task]
        wrong: dict[str, str] = {}
        try:
            if own in failed:
                raise ValueError(failed[own])
            rows += [about | row for row in _cell(config, made, others, checkpoint, wrong)]
        except Exception as error:  # whatever it is, the others' hours are not lost by it
            wrong[""] = _in_words(error)
        for suite, why in wrong.items():
            named = (str(value) for value in (*about.values(), suite) if value)
            failures.append(f"{', '.join(named)}: {why}")
            print(f"failed: {failures[-1]}", file=sys.stderr)
    return rows, failures


def _in_words(error: Exception) -> str:
    """What went wrong, in a line; of what is no user's mistake, where it did is printed, too."""
    if isinstance(error, ValueError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def _check(config: CompareConfig, checkpoint: Path | None) -> None:
    """Says what is wrong before anything is made."""
    if choice(config, "encoder") == "state":
        raise ValueError("encoder=state reads the simulator's state itself: there is nothing to probe.")
    unknown = set(config.probes) - set(SUITES)
    if unknown:
        raise ValueError(f"probes: expected some of {', '.join(SUITES)}, got {', '.join(sorted(unknown))}.")
    longest = config.pretrain.future_steps
    if config.rollouts.decisions < longest:
        raise ValueError(f"rollouts.decisions must be at least pretrain.future_steps={longest}.")
    if config.env.backend != "warp":
        raise ValueError(f"Probing needs the worlds of env.backend=warp, got {config.env.backend}.")
    check_picture_size(config)
    sentences, device = make_task(config.task).behaviours, check_device(config.device)
    if checkpoint is None:
        encoder = make_encoder(config.encoder, 1, 1)
        prepare_encoder(config, encoder, sentences, device)
        learns = encoder.has_objective or isinstance(encoder, Pretrained)
        if encoder.trained_by_agent and not learns and not config.encoder_from:
            _say_untrained(choice(config, "encoder"))


@cache  # said once, however many cells have it
def _say_untrained(name: str) -> None:
    print(
        f"encoder={name} is probed untrained: only an agent trains it, and none does here. encoder_from=RUN takes it "
        "from a run."
    )


def _cell(
    config: CompareConfig, made: Splits, others: dict[str, str], checkpoint: Path | None, wrong: dict[str, str]
) -> list[dict]:
    """Rows of one encoder on one task; `others` are the keys of the other tasks' rollouts.

    What a suite fails by is put into `wrong`, and the next one goes on.
    """
    data = made[_rollouts_key(config)]
    name, device = choice(config, "encoder"), check_device(config.device)
    made_of = _plain(config, "seed", "encoder", "encoder_from", "pretrain", "run")
    named = [config.run, config.encoder_from, *(getattr(config.encoder, key, "") for key in ("source", "teacher"))]
    key = _digest({"rollouts": _rollouts_key(config), "encoder": made_of} | _stamps(named))
    folder = Path(config.folder) / "cells" / f"{Path(config.task).stem}-{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        # A run's folder as far as encoders go: others can be taught by it, start from it, and it can be exported.
        if not (folder / "config.yaml").is_file():
            cli.save(config, GROUPS, folder / "config.yaml")
        encoder, costs = pretrained(config, data[0], folder / "checkpoints" / "last.pt")
    else:
        encoder, costs = load_parts(config, checkpoint)[0].encoder, {}
    subject = Subject(
        encoder=encoder,
        task=config.task,
        train=data[0],
        test=data[1],
        others={task: made[key] for task, key in others.items()},
        config=config.probe,
        in_view=config.in_view,
        movies=config.movies,
        device=device,
        folder=folder,
        env=config.env,
    )
    rows = [{"suite": "pretraining", "probe": "cost", "target": what, "score": cost} for what, cost in costs.items()]
    with stage_bar(f"{name}, {config.task}", len(config.probes or SUITES)) as bar:
        for suite in config.probes or SUITES:
            try:
                rows += _suite(config, suite, subject, others)
            except Exception as error:
                wrong[suite] = _in_words(error)
            bar.update()
    return rows


def _suite(config: CompareConfig, suite: str, subject: Subject, others: dict[str, str]) -> list[dict]:
    """A suite's rows, from its file if it has been run before."""
    settings = _plain(config, "probe") | {"in_view": config.in_view, "movies": config.movies}
    settings |= {"others": others} | ({"text": reads_sentences()} if suite == "retrieval" else {})
    file = subject.folder / f"{suite}-{_digest(settings)}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    torch.manual_seed(config.seed)
    rows = [{"suite": suite} | row for row in SUITES[suite](subject)]
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.replace(file)
    return rows


# ---- names ----


def _rollouts_file(config: CompareConfig) -> Path:
    return Path(config.folder) / "rollouts" / f"{Path(config.task).stem}-{_rollouts_key(config)}.safetensors"


def _rollouts_key(config: CompareConfig) -> str:
    return _digest(_shared(config) | {"task": config.task} | _content(config.task))


def _shared(config: CompareConfig) -> dict[str, Any]:
    """All that rollouts depend on but the task; the agent that becomes the expert learns with the world model."""
    seed = config.seed if config.rollouts.seed is None else config.rollouts.seed
    config = replace(config, seed=seed, rollouts=replace(config.rollouts, seed=None))
    return _plain(config, "seed", "env", "rollouts", "run", "world_model") | _stamps([config.run])


def _content(task: str) -> dict[str, str]:
    """What a task of the user's own is made of, its Python file and its model; nothing for the suite's tasks."""
    if task in TASKS:
        return {}
    model = make_task(task).model
    compiled = np.empty(mujoco.mj_sizeModel(model), np.uint8)  # pyright: ignore[reportAttributeAccessIssue]
    mujoco.mj_saveModel(model, None, compiled)  # pyright: ignore[reportAttributeAccessIssue]
    return {"content": hashlib.sha256(Path(task).read_bytes() + compiled.tobytes()).hexdigest()}


def _stamps(named: Sequence[str]) -> dict[str, Any]:
    """Sizes and times of the files behind names of runs and checkpoints: a name alone would outlive its content."""
    stamps = {}
    for name in filter(None, named):
        path = Path(name)
        checkpoint = path / "checkpoints" / "last.pt"
        files = [checkpoint] if checkpoint.is_file() else sorted(path.glob("*")) if path.is_dir() else [path]
        stamps[name] = [[file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
    return {"stamps": stamps} if stamps else {}


def _plain(config: CompareConfig, *keys: str) -> dict[str, Any]:
    values = cli.to_dict(config, GROUPS)
    return {key: values[key] for key in keys}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
