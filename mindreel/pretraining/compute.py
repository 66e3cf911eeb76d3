"""The operations of an encoder's pretraining, counted on random frames, so that it can be planned without rollouts."""

from dataclasses import replace

import torch
from torch import Tensor

from mindreel.assembly import prepare_encoder
from mindreel.encoders import Encoder, make_encoder
from mindreel.encoders.pretrainer import flops_per_clip
from mindreel.encoders.public.public_encoder import Pretrained
from mindreel.run_config import RunConfig

_ACTION_DIM = 2
_CPU = torch.device("cpu")


def random_batch(config: RunConfig, encoder: Encoder, device: torch.device) -> tuple[Tensor, ...]:
    """A batch of random frames, actions and rewards: the arguments of `Encoder.losses`."""
    size, steps = config.pretrain.batch_size, config.pretrain.future_steps
    # A checkpoint's own size is known only once it is read.
    own = encoder if isinstance(encoder, Pretrained) else getattr(config.encoder, "vit", config.encoder)
    shape = size, encoder.clip_frames + steps, 3, own.image_size, own.image_size
    frames = torch.randint(256, shape, dtype=torch.uint8, device=device)
    actions = torch.rand(size, steps, _ACTION_DIM, device=device)
    return frames, actions, actions.sum(-1), torch.zeros(size, dtype=torch.int64, device=device)


def prepared(config: RunConfig, device: torch.device = _CPU) -> tuple[Encoder, tuple[Tensor, ...]]:
    """The config's encoder, fitted to a random batch and ready to be trained, and that batch.

    `encoder_from` is ignored: operations and speed do not depend on the weights.
    """
    encoder = make_encoder(config.encoder, _ACTION_DIM, _ACTION_DIM).to(device)
    if not encoder.clip_frames:
        raise ValueError("encoder=state reads no pictures: there is nothing to measure.")
    batch = random_batch(config, encoder, device)
    encoder.fit(batch[0][:, :2], batch[2][:, 0])
    encoder.fit_readout(batch[0][:, : encoder.clip_frames])
    if encoder.has_objective:
        prepare_encoder(replace(config, encoder_from=""), encoder, ("a clip of noise",), device)
    return encoder, batch


def pretraining_tflop(config: RunConfig) -> float:
    """Operations (10^12) of all steps of pretraining before the agent starts, with `config.pretrain.steps`."""
    pretrain = config.pretrain
    with torch.random.fork_rng([]):
        encoder, batch = prepared(config)
        flops = flops_per_clip(encoder, lambda: batch)
    return pretrain.steps * pretrain.batch_size * pretrain.accumulate * flops / 1e12
