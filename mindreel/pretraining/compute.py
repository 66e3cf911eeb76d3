"""What an encoder's pretraining takes, counted on noise: no rollouts are needed to plan equal compute."""

from dataclasses import replace

import torch
from torch import Tensor

from mindreel.assembly import prepare_encoder
from mindreel.encoders import Encoder, make_encoder
from mindreel.encoders.pretrainer import flops_per_clip
from mindreel.encoders.public.public_encoder import Pretrained
from mindreel.run_config import RunConfig

ACTIONS = 2
"""Action dimensions of the noise."""
_CPU = torch.device("cpu")


def noise(config: RunConfig, encoder: Encoder, device: torch.device) -> tuple[Tensor, ...]:
    """A batch of made-up rollouts: the arguments of `losses`."""
    size, steps = config.pretrain.batch_size, config.pretrain.future_steps
    # A checkpoint's own size is known only once it is read.
    own = encoder if isinstance(encoder, Pretrained) else getattr(config.encoder, "vit", config.encoder)
    shape = size, encoder.clip_frames + steps, 3, own.image_size, own.image_size
    frames = torch.randint(256, shape, dtype=torch.uint8, device=device)
    actions = torch.rand(size, steps, ACTIONS, device=device)
    return frames, actions, actions.sum(-1), torch.zeros(size, dtype=torch.int64, device=device)


def prepared(config: RunConfig, device: torch.device = _CPU) -> tuple[Encoder, tuple[Tensor, ...]]:
    """The config's encoder, fitted to noise and ready to be trained, and a batch of that noise.

    Where a run's weights are to be started from they are left out: operations and speed are the same without.
    """
    encoder = make_encoder(config.encoder, ACTIONS, ACTIONS).to(device)
    if not encoder.clip_frames:
        raise ValueError("encoder=state reads no pictures: there is nothing to measure.")
    sample = noise(config, encoder, device)
    encoder.fit(sample[0][:, :2], sample[2][:, 0])
    encoder.fit_readout(sample[0][:, : encoder.clip_frames])
    if encoder.has_objective:
        prepare_encoder(replace(config, encoder_from=""), encoder, ("a clip of noise",), device)
    return encoder, sample


def pretraining_tflop(config: RunConfig) -> float:
    """Operations (10^12) of all steps of pretraining before the agent starts, with `config.pretrain.steps`."""
    pretrain = config.pretrain
    with torch.random.fork_rng([]):
        encoder, sample = prepared(config)
        flops = flops_per_clip(encoder, lambda: sample)
    return pretrain.steps * pretrain.batch_size * pretrain.accumulate * flops / 1e12
