"""An encoder pretrained on rollouts that a file holds, for the table of probe.py, and what that took."""

import time
from pathlib import Path

import torch
from torch import Tensor

from mindreel.agents.checkpoint import fitting, load_checkpoint, save_checkpoint
from mindreel.assembly import prepare_encoder
from mindreel.devices import check_device
from mindreel.encoders import Encoder, make_encoder
from mindreel.encoders.pretrainer import Pretrainer, flops_per_clip
from mindreel.rollouts.dataset import Rollouts
from mindreel.run_config import RunConfig, choice
from mindreel.runs.metrics import stage_bar

_SAVE_SECONDS = 60.0
_FITTED_ROWS = 4096

Costs = dict[str, float]
"""What an encoder's training took: seconds, clips, TFLOP; and its parameters."""


def pretrained(config: RunConfig, rollouts: Rollouts, path: Path) -> tuple[Encoder, Costs]:
    """The config's encoder, pretrained on rollouts, and what that took.

    An encoder without an objective is only fitted, and has no costs. The checkpoint `path` is continued if it is
    there.

    Raises:
        ValueError: the encoder reads text, and the rollouts have none.
    """
    device = check_device(config.device)
    torch.manual_seed(config.seed)
    encoder = make_encoder(config.encoder, rollouts.action.shape[-1], rollouts.state.shape[-1]).to(device).eval()
    if encoder.reads_text and not (rollouts.behaviour >= 0).any():
        raise ValueError(
            f"encoder={choice(config, 'encoder')} reads text, and no sentence holds in any of these rollouts: choose "
            "an encoder that reads none, or longer rollouts."
        )
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
        # The only fit of encoders that are not trained; training watches an embedding for collapse as it leaves it.
        _fit_readout(encoder, rollouts, device)
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
    device = check_device(config.device)

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
