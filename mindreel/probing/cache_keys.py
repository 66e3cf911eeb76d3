"""Keys of what `compare` keeps in its folder: hashes of all settings that a file depends on.

The version of the code is no part of them: after a change of code, name another folder=.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from mindreel import cli
from mindreel.encoders.objectives.sentences import reads_sentences
from mindreel.envs import TASKS, make_task
from mindreel.probing.settings import CompareConfig
from mindreel.run_config import GROUPS


def rollouts_key(config: CompareConfig) -> str:
    """Key of the rollouts of the config's task."""
    return _digest(_of_rollouts(config) | {"task": config.task} | _content(config.task))


def shared_key(config: CompareConfig) -> str:
    """Key of the settings that rollouts of several tasks have in common."""
    return _digest(_of_rollouts(config))


def encoder_key(config: CompareConfig) -> str:
    """Key of the config's encoder, pretrained on its rollouts."""
    made_of = _plain(config, "seed", "encoder", "encoder_from", "pretrain", "run")
    named = [config.run, config.encoder_from, *(getattr(config.encoder, key, "") for key in ("source", "teacher"))]
    return _digest({"rollouts": rollouts_key(config), "encoder": made_of} | _stamps(named))


def suite_key(config: CompareConfig, suite: str, others: dict[str, str]) -> str:
    """Key of a suite's rows for one encoder; `others` are the keys of the other tasks' rollouts."""
    settings = _plain(config, "probe") | {"in_view": config.in_view, "movies": config.movies}
    return _digest(settings | {"others": others} | ({"text": reads_sentences()} if suite == "retrieval" else {}))


def _of_rollouts(config: CompareConfig) -> dict[str, Any]:
    """Everything but the task that rollouts depend on; the agent that becomes the expert has a world model, too."""
    seed = config.seed if config.rollouts.seed is None else config.rollouts.seed
    config = replace(config, seed=seed, rollouts=replace(config.rollouts, seed=None))
    return _plain(config, "seed", "env", "rollouts", "run", "world_model") | _stamps([config.run])


def _content(task: str) -> dict[str, str]:
    """A hash of a task of the user's own, its Python file and its model; nothing for the suite's tasks."""
    if task in TASKS:
        return {}
    model = make_task(task).model
    compiled = np.empty(mujoco.mj_sizeModel(model), np.uint8)  # pyright: ignore[reportAttributeAccessIssue]
    mujoco.mj_saveModel(model, None, compiled)  # pyright: ignore[reportAttributeAccessIssue]
    return {"content": hashlib.sha256(Path(task).read_bytes() + compiled.tobytes()).hexdigest()}


def _stamps(named: Sequence[str]) -> dict[str, Any]:
    """Sizes and times of the files of runs and checkpoints, whose content may change while their names stay."""
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
