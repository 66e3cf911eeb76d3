"""Encoders side by side: rollouts of each task once, each encoder pretrained on them, all probed on the same episodes.

What has been made stays in the folder, under a hash of all that it depends on, and is not made again.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cli
from agents.checkpoint import fitting, load_checkpoint, save_checkpoint
from assemble import GROUPS, RunConfig, choice, load_parts, prepare_encoder
from corpus import RolloutConfig, Rollouts
from encoders import Encoder, make_encoder
from encoders.pretrain import Pretrainer, flops_per_clip
from rollouts import make_rollouts
from run_folder import stage_bar
from subject import Subject
from suites import SUITES

_SAVE_SECONDS = 60.0
_FITTED_ROWS = 4096


@dataclass(frozen=True)
class CompareConfig(RunConfig):
    """Which encoders are probed, on what, and how."""

    probes: tuple[str, ...] = ()
    """Suites: state, recognition, retrieval, anomaly, frontend, dynamics; all if empty (of a run: state alone)."""
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


def compare(configs: list[CompareConfig], checkpoint: Path | None = None) -> list[dict]:
    """Rows of all suites for each config: an encoder on a task.

    Args:
        configs: one for each pair of encoder and task.
        checkpoint: of a run, whose encoder is probed and whose agent plays; None to pretrain encoders.

    Raises:
        ValueError: an encoder that sees no pictures, or a suite that does not exist.
    """
    for config in configs:
        _check(config)
    made: dict[str, tuple[Rollouts, Rollouts]] = {}
    for config in configs:
        key = _rollouts_key(config)
        if key not in made:
            made[key] = make_rollouts(config, config.rollouts, _rollouts_file(config)).split(config.rollouts.held_out)
    rows = []
    for config in configs:
        others = {c.task: made[_rollouts_key(c)] for c in configs if c.task != config.task and c.seed == config.seed}
        rows += _cell(config, made[_rollouts_key(config)], others, checkpoint)
    return rows


def _check(config: CompareConfig) -> None:
    if choice(config, "encoder") == "state":
        raise ValueError("encoder=state reads the simulator's state itself: there is nothing to probe.")
    unknown = set(config.probes) - set(SUITES)
    if unknown:
        raise ValueError(f"probes: expected some of {', '.join(SUITES)}, got {', '.join(sorted(unknown))}.")
    longest = config.pretrain.future_steps
    if config.rollouts.decisions < longest:
        raise ValueError(f"rollouts.decisions must be at least pretrain.future_steps={longest}.")


def _cell(
    config: CompareConfig, data: tuple[Rollouts, Rollouts], others: Splits, checkpoint: Path | None
) -> list[dict]:
    """Rows of one encoder on one task."""
    name, device = choice(config, "encoder"), cli.check_device(config.device)
    key = _digest(
        {"rollouts": _rollouts_key(config), "encoder": _plain(config, "encoder", "encoder_from", "pretrain", "run")}
    )
    folder = Path(config.folder) / "cells" / f"{config.task}-{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        encoder, costs = pretrained(config, data[0], folder / "encoder.pt")
    else:
        encoder, costs = load_parts(config, checkpoint)[0].encoder, {}
    subject = Subject(
        encoder=encoder,
        task=config.task,
        train=data[0],
        test=data[1],
        others=others,
        config=config.probe,
        in_view=config.in_view,
        movies=config.movies,
        render=config.env.render,
        device=device,
        folder=folder,
    )
    rows = [{"suite": "pretraining", "probe": "cost", "target": what, "score": cost} for what, cost in costs.items()]
    with stage_bar(f"{name}, {config.task}", len(config.probes or SUITES)) as bar:
        for suite in config.probes or SUITES:
            rows += _suite(config, suite, subject)
            bar.update()
    return [{"encoder": name, "task": config.task, "seed": config.seed} | row for row in rows]


def _suite(config: CompareConfig, suite: str, subject: Subject) -> list[dict]:
    """A suite's rows, from its file if it has been run before."""
    settings = _plain(config, "probe") | {"in_view": config.in_view, "movies": config.movies}
    file = subject.folder / f"{suite}-{_digest(settings | {'others': sorted(subject.others)})}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    torch.manual_seed(config.seed)
    rows = [{"suite": suite} | row for row in SUITES[suite](subject)]
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.replace(file)
    return rows


# ---- pretraining ----


Costs = dict[str, float]
"""What an encoder's training took: seconds, clips, TFLOP; and its parameters."""


def pretrained(config: RunConfig, rollouts: Rollouts, path: Path) -> tuple[Encoder, Costs]:
    """The config's encoder, pretrained on rollouts, and what that took.

    An encoder without an objective is only fitted, and has no costs. The checkpoint `path` is continued if it is
    there.
    """
    device = cli.check_device(config.device)
    torch.manual_seed(config.seed)
    encoder = make_encoder(config.encoder, rollouts.action.shape[-1], rollouts.state.shape[-1]).to(device).eval()
    prepare_encoder(config, encoder, rollouts.facts.behaviours, device)
    pretrainer = Pretrainer(config.pretrain, encoder) if encoder.has_objective else None
    costs, trained = {}, False
    if path.is_file():
        state = load_checkpoint(path, device)
        with fitting(path):
            encoder.load_state_dict(state["encoder"])
            if pretrainer and not state["trained"]:
                pretrainer.load_state_dict(state["pretrainer"])
        costs, trained = state["costs"], state["trained"]
    else:
        frames, _, reward, _ = (x.to(device) for x in rollouts.sample(_FITTED_ROWS, 1, 1))
        fit = encoder.fit_targets if config.encoder_from else encoder.fit
        fit(frames, reward[:, 0])
        _fit_readout(encoder, rollouts, device)  # before training too, which watches the features for collapse
    if trained:
        return encoder, costs
    if pretrainer is not None:
        costs = _train(config, encoder, pretrainer, rollouts, path, costs)
        _fit_readout(encoder, rollouts, device)
    save_checkpoint(path, {"encoder": encoder.state_dict(), "pretrainer": {}, "costs": costs, "trained": True})
    return encoder.eval(), costs


def _fit_readout(encoder: Encoder, rollouts: Rollouts, device: torch.device) -> None:
    encoder.fit_readout(rollouts.sample(_FITTED_ROWS, 1, encoder.clip_frames)[0][:, :-1].to(device))


def _train(
    config: RunConfig, encoder: Encoder, pretrainer: Pretrainer, rollouts: Rollouts, path: Path, costs: Costs
) -> Costs:
    """Trains the encoder, saving now and then; returns what it took, `costs` before this among them."""
    device = cli.check_device(config.device)

    def sample() -> tuple[Tensor, ...]:
        batch = rollouts.sample(config.pretrain.batch_size, config.pretrain.future_steps, encoder.clip_frames)
        return tuple(x.to(device) for x in batch)

    steps = pretrainer.planned(sample, config.pretrain.steps)
    clips = steps * config.pretrain.batch_size * config.pretrain.accumulate
    tflop = clips * flops_per_clip(encoder, sample) / 1e12
    parameters = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    totals = {"clips": clips, "TFLOP": tflop, "parameters": parameters}
    spent = costs.get("seconds", 0.0)
    start = saved = time.monotonic()
    with stage_bar(f"pretrain {choice(config, 'encoder')}, {config.task}", steps, pretrainer.done) as bar:
        for _ in pretrainer.train(sample, steps, config.pretrain.lr):
            bar.update()
            if time.monotonic() - saved > _SAVE_SECONDS and pretrainer.done < steps:
                saved = time.monotonic()
                state = {"encoder": encoder.state_dict(), "pretrainer": pretrainer.state_dict()}
                so_far = {"seconds": spent + saved - start}
                save_checkpoint(path, state | {"costs": so_far, "trained": False})
    return {"seconds": spent + time.monotonic() - start} | totals


# ---- names ----


def _rollouts_file(config: CompareConfig) -> Path:
    return Path(config.folder) / "rollouts" / f"{config.task}-{_rollouts_key(config)}.safetensors"


def _rollouts_key(config: CompareConfig) -> str:
    return _digest(_plain(config, "task", "seed", "env", "rollouts", "run"))


def _plain(config: CompareConfig, *keys: str) -> dict[str, Any]:
    values = cli.to_dict(config, GROUPS)
    return {key: values[key] for key in keys}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
