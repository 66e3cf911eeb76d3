"""Our encoders in the format of transformers' VJEPA2Model, and back: for every tool that reads transformers.

VJEPA2Model cuts clips linearly into tubelets and turns queries and keys by their places, so an encoder has to be
built of the same: `encoder.vit.stem=linear encoder.vit.positions=rotary`. V-JEPA's predictor goes with it. The readout
and the heads of other terms have no place there and stay behind. Nor has the mean frame that is taken off every clip,
for it differs from pixel to pixel: it lies beside the weights, and `encoder=pretrained` heeds it.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mindreel.encoders.backbone.predictor import TokenPredictor
from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.objectives.video_encoder import VideoEncoder
from mindreel.encoders.objectives.vjepa import VJEPA, VJEPAConfig
from mindreel.encoders.public.hub import NEEDED, load_model
from mindreel.encoders.public.preprocessing import input_format_of
from mindreel.encoders.public.public_encoder import MEAN_FRAME_FILE, pixel_statistics

if TYPE_CHECKING:
    from transformers import VJEPA2Config, VJEPA2Model

BLOCK_NAMES = {"norm1": "norm1", "norm2": "norm2", "proj": "attention.proj", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
"""Parts of our block -> of a VJEPA2Layer."""

CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
tags: [v-jepa, video, reinforcement-learning, mindreel]
---
# {title}

A video encoder pretrained with Mindreel, as a `VJEPA2Model`: {frames} frames of {size} x {size} pixels, newest last,
to {tokens} tokens of {dim} features, ordered by time, row and column. {predictor}

Trained on: {trained_on}

## Input

Pixels are not normalised by a mean and a standard deviation a channel: a mean frame is taken off, then all is divided
by one number. Both are in `{mean_frame}` and of pixels from 0 to 255, so that no video processor comes with the model.

```python
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from transformers import VJEPA2Model

folder = snapshot_download("OWNER/NAME")  # or where this file lies
model = VJEPA2Model.from_pretrained(folder).eval()
pixels = load_file(f"{{folder}}/{mean_frame}")
# frames: (B, {frames}, 3, {size}, {size}), 0 to 255
clip = (frames.float() - pixels["mean_frame"]) / pixels["pixel_std"]
tokens = model(clip, skip_predictor=True).last_hidden_state  # (B, {tokens}, {dim})
```

In Mindreel: `encoder=pretrained encoder.source=FOLDER encoder.frames={frames}`.

## Limits

It knows the worlds that it was trained on, seen by the camera that it was trained with. Within a clip its attention
looks both ways: to use it for control, end the clip at the newest frame.
"""


def to_transformers(encoder: VideoEncoder) -> "VJEPA2Model":
    """The same transformer as a VJEPA2Model: equal tokens for equal normalised clips (B, F, 3, H, W).

    Raises:
        ValueError: the encoder's transformer is of a kind that VJEPA2Model cannot express.
    """
    try:
        from transformers import VJEPA2Config, VJEPA2Model
    except ImportError:
        raise ValueError(f"Exporting {NEEDED}") from None
    vit = encoder.config.vit
    if vit.stem != "linear" or vit.positions != "rotary":
        raise ValueError(
            f"This encoder was built with encoder.vit.stem={vit.stem} encoder.vit.positions={vit.positions}, which "
            "a VJEPA2Model cannot express: pretrain one with encoder.vit.stem=linear encoder.vit.positions=rotary."
        )
    predictor = _predictor(encoder)
    config = VJEPA2Config(
        patch_size=vit.patch,
        crop_size=vit.image_size,
        frames_per_clip=vit.frames,
        tubelet_size=vit.tubelet,
        hidden_size=vit.dim,
        num_attention_heads=vit.heads,
        num_hidden_layers=vit.depth,
        layer_norm_eps=encoder.vit.norm.eps,
        # There is no VJEPA2Model without a predictor; one of no blocks stands for none.
        pred_hidden_size=predictor.embed.out_features if predictor else vit.dim,
        pred_num_attention_heads=predictor.heads if predictor else vit.heads,
        pred_num_hidden_layers=len(predictor.blocks) if predictor else 0,
        pred_num_mask_tokens=len(predictor.mask_tokens) if predictor else 1,
    )
    model = VJEPA2Model(config)
    missing, strange = model.load_state_dict(_tensors(encoder, predictor), strict=False)
    assert not strange and (predictor is None or not missing), (missing, strange)
    return model.eval()


def from_transformers(
    folder: Path | str, action_dim: int, config: VJEPAConfig | None = None, frames: int = 0, image_size: int = 0
) -> VJEPA:
    """A V-JEPA of ours with the weights of a VJEPA2Model, for pretraining to go on with.

    Pixels are normalised as the folder's mean frame says or, for a public checkpoint, as its own preprocessing does.
    The predictor is taken over where it is of our kind, and is a new one where it is not.

    Args:
        folder: what `save_pretrained` wrote, or a public V-JEPA 2.
        action_dim: number of action dimensions, A.
        config: all but the transformer and the predictor's size; the defaults if not given.
        frames: frames F of a clip; 0 for those of the folder.
        image_size: height and width of a frame; 0 for those of the folder.

    Raises:
        ValueError: there is no VJEPA2Model, or one that our transformer cannot express.
    """
    folder = Path(folder)
    model = load_model(folder)
    if model.config.model_type != "vjepa2":
        raise ValueError(f"{folder} holds a {type(model).__name__}, not a VJEPA2Model.")
    theirs = model.config
    heads = math.gcd(theirs.pred_hidden_size, theirs.num_attention_heads)  # as our predictor has them
    num_masks = config.num_masks if config else 1
    same_predictor = theirs.pred_num_mask_tokens == num_masks and theirs.pred_num_attention_heads == heads
    vit = _vit_config(folder, theirs, frames, image_size)
    config = replace(
        config or VJEPAConfig(),
        vit=vit,
        predictor_dim=theirs.pred_hidden_size if same_predictor else 24 * vit.heads,
        predictor_depth=theirs.pred_num_hidden_layers if same_predictor else 1,
    )
    encoder = VJEPA(config, action_dim)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in _tensors(encoder, _predictor(encoder) if same_predictor else None).items():
            tensor.copy_(state[name])
        _take_normalisation(encoder, folder, theirs)
    for module in encoder.vit.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = theirs.layer_norm_eps
    if encoder.teacher is not None:
        encoder.teacher.load_state_dict(encoder.vit.state_dict())
    return encoder


def save_pretrained(encoder: VideoEncoder, folder: Path | str, title: str, trained_on: str) -> None:
    """Writes config.json, model.safetensors, the mean frame and a model card.

    Args:
        encoder: an encoder that `to_transformers` takes.
        folder: where to; it is made if it is not there.
        title: heading of the card.
        trained_on: the card's sentence on the training data.

    Raises:
        ValueError: the encoder cannot be exported.
    """
    folder = Path(folder)
    model = to_transformers(encoder)
    model.save_pretrained(folder)
    pixels = {"mean_frame": encoder.mean_frame, "pixel_std": encoder.pixel_std}
    save_file({name: value.detach().cpu().contiguous() for name, value in pixels.items()}, folder / MEAN_FRAME_FILE)
    vit = encoder.config.vit
    card = CARD.format(
        title=title,
        trained_on=trained_on,
        frames=vit.frames,
        size=vit.image_size,
        tokens=vit.num_tokens,
        dim=vit.dim,
        mean_frame=MEAN_FRAME_FILE,
        predictor="Its predictor of hidden tokens is trained too."
        if _predictor(encoder)
        else "Its predictor is empty: pass `skip_predictor=True`.",
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def push_to_hub(folder: Path | str, name: str) -> str:
    """Uploads an export to the Hugging Face hub as OWNER/NAME, and returns its address.

    Raises:
        ValueError: the hub is out of reach, or does not allow it.
    """
    try:
        import huggingface_hub as hub
        from httpx import HTTPError
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise ValueError(f"Uploading {NEEDED}") from None
    api = hub.HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export from Mindreel"))
    except (OSError, HFValidationError, HTTPError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(f"{name} was not uploaded ({reason}): the export itself is whole, in {folder}.") from None


def _predictor(encoder: VideoEncoder) -> TokenPredictor | None:
    """The encoder's predictor of hidden tokens, if it has one that a VJEPA2Model can express."""
    predictor, dim = getattr(encoder, "predictor", None), encoder.config.vit.dim
    if isinstance(predictor, TokenPredictor) and predictor.embed.in_features == predictor.out.out_features == dim:
        return predictor
    return None


def _tensors(encoder: VideoEncoder, predictor: TokenPredictor | None) -> dict[str, Tensor]:
    """Our tensors under the names, and in the shapes, that VJEPA2Model has for them; they are views of ours."""
    vit, stem = encoder.vit, encoder.vit.stem.net
    assert isinstance(stem, nn.Conv2d)
    tubelets = stem.weight.detach().unflatten(1, (-1, 3)).transpose(1, 2)  # (D, 3, tubelet, p, p)
    tensors = {
        "encoder.embeddings.patch_embeddings.proj.weight": tubelets,
        "encoder.embeddings.patch_embeddings.proj.bias": stem.bias,
        **_block_tensors("encoder.layer", vit.blocks),
        **_module_tensors("encoder.layernorm", vit.norm),
    }
    if predictor is not None:
        tensors |= {
            "predictor.embeddings.mask_tokens": predictor.mask_tokens[:, None, None],
            **_module_tensors("predictor.embeddings.predictor_embeddings", predictor.embed),
            **_block_tensors("predictor.layer", predictor.blocks),
            **_module_tensors("predictor.layernorm", predictor.norm),
            **_module_tensors("predictor.proj", predictor.out),
        }
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _module_tensors(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{kind}": value for kind, value in module.state_dict().items()}


def _block_tensors(name: str, blocks: nn.ModuleList) -> dict[str, Tensor]:
    tensors = {}
    for number, block in enumerate(blocks):
        for ours, value in block.state_dict().items():
            part, kind = ours.rsplit(".", 1)
            if part == "qkv":
                for theirs, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    tensors[f"{name}.{number}.attention.{theirs}.{kind}"] = third
            else:
                tensors[f"{name}.{number}.{BLOCK_NAMES[part]}.{kind}"] = value
    return tensors


def _vit_config(folder: Path, theirs: "VJEPA2Config", frames: int, image_size: int) -> ViTConfig:
    """Our transformer of the same shape."""
    ours = {"mlp_ratio": 4.0, "qkv_bias": True, "hidden_act": "gelu", "in_chans": 3}
    other = [f"{name}={getattr(theirs, name)}" for name, value in ours.items() if getattr(theirs, name) != value]
    patch = theirs.patch_size
    if not isinstance(patch, int):  # height and width apart
        other.append(f"patch_size={patch}")
    if other or not isinstance(patch, int):
        raise ValueError(f"{folder}: our transformer has no {', '.join(other)}; encoder=pretrained reads it as it is.")
    return ViTConfig(
        image_size=image_size or theirs.crop_size,
        frames=frames or theirs.frames_per_clip,
        tubelet=theirs.tubelet_size,
        patch=patch,
        stem="linear",
        positions="rotary",
        dim=theirs.hidden_size,
        depth=theirs.num_hidden_layers,
        heads=theirs.num_attention_heads,
    )


def _take_normalisation(encoder: VJEPA, folder: Path, theirs: "VJEPA2Config") -> None:
    """Normalises as the folder says. What differs between colours in scale goes into the stem's weights."""
    size = encoder.config.vit.image_size
    mean, std = pixel_statistics(folder, input_format_of(folder, theirs), size)
    encoder.mean_frame.copy_((255 * mean).expand(3, size, size))
    encoder.pixel_std.copy_(255 * std.mean())
    stem = encoder.vit.stem.net
    assert isinstance(stem, nn.Conv2d)
    stem.weight.unflatten(1, (-1, 3)).mul_((std.mean() / std).expand(3, 1, 1).unsqueeze(0))  # (D, tubelet, 3, p, p)
