"""Clips per second of an encoder, in pretraining and encoding, and of transformers' V-JEPA 2 of the same size."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.benchmarks.timing import seconds_per_call
from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.pretrainer import Pretrainer, flops_per_clip
from mindreel.encoders.throughput import autocast_dtype, count_flops, peak_flops
from mindreel.extras import install_hint
from mindreel.pretraining.compute import prepared
from mindreel.run_config import RunConfig, choice


def encoder_rows(config: RunConfig, seconds: float, device: torch.device) -> list[dict]:
    """A step of pretraining and the encoding of a batch, by the config's encoder and by transformers' V-JEPA 2.

    `peak_fraction` compares with the fastest matrix product measured on this device in the same arithmetic. A clip of
    pretraining includes the frames after it.
    """
    dtype = autocast_dtype(config.pretrain.precision, device)
    peak = peak_flops(device, dtype or torch.float32)
    batch = config.pretrain.batch_size

    def row(engine: str, what: str, work: Callable[[], object], flops: float) -> dict:
        rate = batch / seconds_per_call(work, seconds, device)
        return {
            "what": what,
            "engine": engine,
            "device": str(device),
            "batch": batch,
            "precision": "float32" if dtype is None else "bf16",
            "clips_per_s": rate,
            "gflop_per_clip": flops / 1e9,
            "peak_gflop_per_s": peak / 1e9,
            "peak_fraction": rate * flops / peak,
        }

    rows = _own_rows(config, device, row)
    vit = getattr(config.encoder, "vit", None)
    return rows if vit is None else rows + _transformers_rows(config, vit, dtype, device, row)


Row = Callable[[str, str, Callable[[], object], float], dict]


def _own_rows(config: RunConfig, device: torch.device, row: Row) -> list[dict]:
    name = f"Mindreel {choice(config, 'encoder')}"
    encoder, sample = prepared(config, device)
    size, clips = config.pretrain.batch_size, sample[0][:, : encoder.clip_frames]
    rows, dtype = [], autocast_dtype(config.pretrain.precision, device)
    if encoder.has_objective:
        endless = replace(config.pretrain, log_every=10**9, accumulate=1)
        flops = flops_per_clip(encoder, lambda: sample)
        training = Pretrainer(endless, encoder).train(lambda: sample, 10**9, endless.lr)
        rows.append(row(name, "pretraining", lambda: next(training), flops))
    encode = _encoding(encoder.eval(), clips, dtype)
    return [*rows, row(name, "encoding", encode, count_flops(encode) / size)]


def _encoding(model: Callable[[Tensor], object], clips: Tensor, dtype: torch.dtype | None) -> Callable[[], object]:
    @torch.no_grad()
    def encode() -> object:
        with torch.autocast(clips.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            return model(clips)

    return encode


def _transformers_rows(
    config: RunConfig, vit: ViTConfig, dtype: torch.dtype | None, device: torch.device, row: Row
) -> list[dict]:
    """transformers' V-JEPA 2 with equally many tokens, width and depth.

    It encodes all tokens of a clip, masked or not, and has no training loop: a step here is encoder, predictor, targets
    from a second pass without gradient, L1 loss and AdamW.
    """
    try:
        from transformers import VJEPA2Config, VJEPA2Model  # here: it is optional and slow to import
    except ImportError:
        print(f"V-JEPA 2 of transformers is not measured: {install_hint('transformers')}")
        return []
    wide, deep = getattr(config.encoder, "predictor_dim", vit.dim), getattr(config.encoder, "predictor_depth", 1)
    sizes = VJEPA2Config(
        patch_size=vit.patch,
        crop_size=vit.image_size,
        frames_per_clip=vit.frames,
        tubelet_size=vit.tubelet,
        hidden_size=vit.dim,
        num_attention_heads=vit.heads,
        num_hidden_layers=vit.depth,
        pred_hidden_size=wide,
        pred_num_attention_heads=vit.heads,
        pred_num_hidden_layers=deep,
    )
    model = VJEPA2Model(sizes).to(device)  # pyright: ignore[reportArgumentType]
    batch = config.pretrain.batch_size
    clips = torch.randn(batch, vit.frames, 3, vit.image_size, vit.image_size, device=device)
    tokens = torch.arange(vit.num_tokens, device=device).expand(batch, -1)
    masks = config.encoder.masks if hasattr(config.encoder, "masks") else None
    seen = round((masks.visible if masks else 0.4) * vit.num_tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            with torch.no_grad():
                target = model(clips, skip_predictor=True).last_hidden_state
            masked = model(clips, context_mask=[tokens[:, :seen]], target_mask=[tokens[:, seen:]])
            predicted = masked.predictor_output.last_hidden_state
            loss = (predicted - F.layer_norm(target, target.shape[-1:])[:, seen:]).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    name = "transformers VJEPA2Model"
    encode = _encoding(lambda x: model.eval()(x, skip_predictor=True), clips, dtype)
    flops = count_flops(step) / batch
    rows = [row(name, "pretraining", step, flops)]
    return [*rows, row(name, "encoding", encode, count_flops(encode) / batch)]
