"""Encoders compared: rollouts of each task, each encoder pretrained on them, all probed on the same held-out episodes.

Everything made is kept in the folder, under a key of all settings that it depends on, and used by the next call. Where
one encoder, or one suite of it, fails, the others are still measured.
"""

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from mindreel import cli
from mindreel.assembly import load_parts, prepare_encoder
from mindreel.devices import check_device
from mindreel.encoders import make_encoder
from mindreel.encoders.public.public_encoder import Pretrained
from mindreel.envs import make_task
from mindreel.files import write_text
from mindreel.names import check_name
from mindreel.pretraining.dataset_encoder import pretrained
from mindreel.probing.cache_keys import encoder_key, rollouts_key, shared_key, suite_key
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.settings import CompareConfig
from mindreel.probing.suites import SUITES
from mindreel.probing.target_names import target_names
from mindreel.rollouts.dataset import Rollouts
from mindreel.rollouts.generate import make_rollouts
from mindreel.run_config import GROUPS, check_picture_size, choice
from mindreel.runs.progress import stage_bar

Splits = dict[str, tuple[Rollouts, Rollouts]]
"""Key of rollouts -> episodes to learn from, episodes to score on."""


@dataclass(frozen=True)
class Probed:
    """One encoder, of one variant and seed, on one task."""

    config: CompareConfig
    variant: str = ""
    """Settings, besides task and seed, in which it differs from others with its encoder."""

    @property
    def columns(self) -> dict:
        """The columns that its rows begin with."""
        encoder, config = choice(self.config, "encoder"), self.config
        return {"encoder": encoder, "variant": self.variant, "task": config.task, "seed": config.seed}


def compare(encoders: Sequence[Probed], checkpoint: Path | None = None) -> tuple[list[dict], list[str]]:
    """Rows of all suites for each encoder.

    Args:
        encoders: what is probed.
        checkpoint: of a run, whose encoder is probed and whose agent plays; None to pretrain encoders.

    Returns:
        the rows, and a sentence for each encoder, or suite of one, that failed.

    Raises:
        ValueError: an encoder that sees no pictures, or cannot be made; a suite or a task that does not exist.
    """
    for one in encoders:
        check(one.config, checkpoint)
    splits, failed, alike = _make_splits([one.config for one in encoders])
    rows, failures = [], []
    for one in encoders:
        tasks = alike[shared_key(one.config)]
        others = {task: key for task, key in tasks.items() if task != one.config.task and key in splits}
        wrong: dict[str, str] = {}
        try:
            if tasks[one.config.task] in failed:
                raise ValueError(failed[tasks[one.config.task]])
            rows += [one.columns | row for row in _encoder_rows(one.config, splits, others, checkpoint, wrong)]
        except Exception as error:  # whatever it is, the others' hours are not lost by it
            wrong[""] = _in_words(error)
        for suite, why in wrong.items():
            named = (str(value) for value in (*one.columns.values(), suite) if value)
            failures.append(f"{', '.join(named)}: {why}")
            print(f"failed: {failures[-1]}", file=sys.stderr)
    return rows, failures


def _make_splits(configs: Sequence[CompareConfig]) -> tuple[Splits, dict[str, str], dict[str, dict[str, str]]]:
    """Rollouts for all configs.

    Returns:
        the rollouts by their key; why those failed that could not be made, by their key; and, by the key of the
        settings that tasks have in common, task -> key of its rollouts.
    """
    splits: Splits = {}
    failed: dict[str, str] = {}
    alike: dict[str, dict[str, str]] = {}
    for config in configs:
        key = rollouts_key(config)
        alike.setdefault(shared_key(config), {})[config.task] = key
        if key in splits or key in failed:
            continue
        try:
            file = Path(config.folder) / "rollouts" / f"{Path(config.task).stem}-{key}.safetensors"
            made = make_rollouts(config, config.rollouts, file)
            metadata = replace(made.metadata, state_names=target_names(config, made.metadata.state_names))
            splits[key] = replace(made, metadata=metadata).split(config.rollouts.held_out)
        except Exception as error:
            failed[key] = f"no rollouts: {_in_words(error)}"
    return splits, failed, alike


def _in_words(error: Exception) -> str:
    """The error in a line; a traceback is printed for what is no user's mistake."""
    if isinstance(error, ValueError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def check(config: CompareConfig, checkpoint: Path | None) -> None:
    """Raises ValueError where `compare` could not probe the config's encoder, before anything is made."""
    if choice(config, "encoder") == "state":
        raise ValueError("encoder=state reads the simulator's state itself: there is nothing to probe.")
    for suite in config.probes:
        check_name(suite, SUITES, "suite", "probes")
    longest = config.pretrain.future_steps
    if config.rollouts.decisions < longest:
        raise ValueError(f"rollouts.decisions must be at least pretrain.future_steps={longest}.")
    if config.env.backend != "warp":
        raise ValueError(f"Probing needs the environments of env.backend=warp, got {config.env.backend}.")
    check_picture_size(config)
    sentences, device = make_task(config.task).behaviours, check_device(config.device)
    if checkpoint is None:
        encoder = make_encoder(config.encoder, 1, 1)
        prepare_encoder(config, encoder, sentences, device)
        learns = encoder.has_objective or isinstance(encoder, Pretrained)
        if encoder.trained_by_agent and not learns and not config.encoder_from:
            _say_untrained(choice(config, "encoder"))


@cache  # once, however many have it
def _say_untrained(name: str) -> None:
    print(
        f"encoder={name} is probed untrained: only an agent trains it, and none does here. encoder_from=RUN takes it "
        "from a run."
    )


def _encoder_rows(
    config: CompareConfig, splits: Splits, others: dict[str, str], checkpoint: Path | None, wrong: dict[str, str]
) -> list[dict]:
    """Rows of one encoder on one task.

    Args:
        config: the encoder's.
        splits: all rollouts.
        others: other task -> key of its rollouts.
        checkpoint: of a run, or None to pretrain the encoder.
        wrong: filled with suite -> why it failed.
    """
    train, test = splits[rollouts_key(config)]
    name, device = choice(config, "encoder"), check_device(config.device)
    folder = Path(config.folder) / "encoders" / f"{Path(config.task).stem}-{name}-{encoder_key(config)}"
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        # The folder is that of a run, with an encoder only: it can be a teacher, be started from, and be exported.
        if not (folder / "config.yaml").is_file():
            cli.save(config, GROUPS, folder / "config.yaml")
        encoder, costs = pretrained(config, train, folder / "checkpoints" / "last.pt")
    else:
        encoder, costs = load_parts(config, checkpoint)[0].encoder, {}
    data = ProbeData(
        encoder=encoder,
        task=config.task,
        train=train,
        test=test,
        others={task: splits[key] for task, key in others.items()},
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
                rows += suite_rows(config, suite, data, others)
            except Exception as error:
                wrong[suite] = _in_words(error)
            bar.update()
    return rows


def suite_rows(config: CompareConfig, suite: str, data: ProbeData, others: dict[str, str]) -> list[dict]:
    """A suite's rows, from its file if there is one."""
    file = data.folder / f"{suite}-{suite_key(config, suite, others)}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    torch.manual_seed(config.seed)
    rows = [{"suite": suite} | row for row in SUITES[suite](data)]
    write_text(file, json.dumps(rows))
    return rows
