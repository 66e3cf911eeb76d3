"""An encoder pretrained on a dataset of rollouts, for the tables of probe.py, and what that took."""

import time
from pathlib import Path

import torch

from mindreel.agents.checkpoint import fitting, load_checkpoint, save_checkpoint
from mindreel.agents.encoder_phases import EncoderPhases
from mindreel.agents.interrupts import Autosave
from mindreel.assembly import prepare_encoder
from mindreel.devices import check_device
from mindreel.encoders import Encoder, make_encoder
from mindreel.encoders.pretrainer import Pretrainer, flops_per_clip
from mindreel.pretraining.clip_sources import RolloutClips
from mindreel.rollouts.dataset import Rollouts
from mindreel.run_config import RunConfig, choice
from mindreel.runs.progress import RunProgress

_SAVE_SECONDS = 60.0

Costs = dict[str, float]
"""What an encoder's training took: seconds, clips, TFLOP; and its parameters."""


def pretrained(config: RunConfig, rollouts: Rollouts, path: Path) -> tuple[Encoder, Costs]:
    """The config's encoder, pretrained on rollouts, and what that took.

    An encoder without an objective is only fitted, and has no costs. The checkpoint `path` is continued if it is
    there.

    Raises:
        ValueError: the encoder learns from sentences, and none describes any of the rollouts.
    """
    device = check_device(config.device)
    torch.manual_seed(config.seed)
    encoder = make_encoder(config.encoder, rollouts.action.shape[-1], rollouts.state.shape[-1]).to(device).eval()
    clips = RolloutClips(rollouts, encoder.clip_frames, config.pretrain.future_steps, device)
    if encoder.needs_sentences and not clips.described:
        raise ValueError(
            f"encoder={choice(config, 'encoder')} learns from sentences, and none describes any of these rollouts: "
            "choose an encoder that reads no text, or longer rollouts."
        )
    prepare_encoder(config, encoder, rollouts.metadata.behaviours, device)
    pretrainer = Pretrainer(config.pretrain, encoder) if encoder.has_objective else None
    phases = EncoderPhases(encoder, clips, pretrainer, bool(config.encoder_from))
    costs, trained = {}, False
    if path.is_file():
        state = load_checkpoint(path, device)
        with fitting(path):
            encoder.load_state_dict(state["encoder"])
            if pretrainer and not state["trained"]:
                pretrainer.load_state_dict(state["pretrainer"])
        costs, trained = state["costs"], state["trained"]
    else:
        phases.fit()  # the only fit of encoders that are not trained
    if trained:
        return encoder, costs
    if pretrainer is not None:
        costs = _train(config, encoder, pretrainer, phases, path, costs.get("seconds", 0.0))
        phases.fit_readout()
    save_checkpoint(path, {"encoder": encoder.state_dict(), "pretrainer": {}, "costs": costs, "trained": True})
    return encoder.eval(), costs


def _train(
    config: RunConfig, encoder: Encoder, pretrainer: Pretrainer, phases: EncoderPhases, path: Path, spent: float
) -> Costs:
    """Trains the encoder, saving now and then; returns what it took, with `spent` seconds before this."""
    steps = phases.planned(config.pretrain.steps)
    clips = steps * config.pretrain.batch_size * config.pretrain.accumulate
    tflop = clips * flops_per_clip(encoder, phases.sample) / 1e12
    parameters = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    start = time.monotonic()

    def save() -> None:
        state = {"encoder": encoder.state_dict(), "pretrainer": pretrainer.state_dict()}
        save_checkpoint(path, state | {"costs": {"seconds": spent + time.monotonic() - start}, "trained": False})

    stage = f"pretrain {choice(config, 'encoder')}, {config.task}"
    with Autosave(save, _SAVE_SECONDS) as autosave:
        phases.train(stage, config.pretrain.steps, config.pretrain.lr, _ignored, autosave.step, RunProgress())
    seconds = spent + time.monotonic() - start
    return {"seconds": seconds, "clips": clips, "TFLOP": tflop, "parameters": parameters}


def _ignored(metrics: dict[str, float]) -> None:
    """Nobody reads the metrics of these encoders: what counts is how they are probed."""
