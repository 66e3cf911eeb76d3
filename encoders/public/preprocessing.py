"""The clips that a model of transformers expects: their size, normalisation and number of frames."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mindreel.encoders.public.architectures import IMAGENET, InputFormat
from mindreel.encoders.public.folder_checks import PREPROCESSING_FILES, check_preprocessing, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

IMAGENET_FAMILIES = ("vjepa2", "videomae", "dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext")
"""Model types whose published preprocessing is ImageNet's, should a checkpoint come without its own."""
VIDEO_FAMILIES = ("vjepa2", "videomae", "vivit", "timesformer")
"""Model types that read clips."""


def input_format_of(folder: Path, config: "PreTrainedConfig") -> InputFormat:
    """Clip, size and normalisation of a model's input: those of its own preprocessing, else its family's."""
    settings = _preprocessing(folder)
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if settings.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    elif mean is None or std is None:
        if config.model_type not in IMAGENET_FAMILIES:
            raise ValueError(
                f"{folder}: how a {config.model_type} wants its pixels is not known: put the checkpoint's "
                "preprocessor_config.json, with image_mean and image_std, beside it."
            )
        mean, std = IMAGENET
    # Ours are of 1; theirs are of whatever pixels are scaled to before.
    rescales = settings.get("do_rescale", True)
    scale = 255 * settings.get("rescale_factor", 1 / 255) if rescales else 255.0
    # ViViT's processor takes 1 off what it has scaled to 2.
    offset = 1.0 if rescales and (settings.get("offset") or settings.get("rescale_offset")) else 0.0
    # Models in stages merge their patches.
    patch = 0 if hasattr(config, "depths") else getattr(config, "patch_size", 0)
    input_format = InputFormat(
        image_size=_size(settings, config),
        patch=patch if isinstance(patch, int) else 0,
        mean=tuple((m + offset) / scale for m in mean),
        std=tuple(s / scale for s in std),
    )
    if config.model_type == "vjepa2":
        return replace(input_format, tubelet=config.tubelet_size)
    if config.model_type == "videomae":
        return replace(input_format, tubelet=config.tubelet_size, frames=config.num_frames, resizable=False)
    if config.model_type == "vivit":
        tubelet, patch, _ = config.tubelet_size
        return replace(input_format, patch=patch, tubelet=tubelet, frames=config.num_frames, resizable=False)
    if config.model_type == "timesformer":
        return replace(input_format, frames=config.num_frames, resizable=False)
    if hasattr(config, "num_frames"):
        raise ValueError(
            f"{folder}: of models of video V-JEPA 2, VideoMAE, ViViT and TimeSformer are read, not {config.model_type}."
        )
    return replace(input_format, frames=1)


def _size(settings: dict, config: "PreTrainedConfig") -> int:
    """Pixels, in height and width, that a model was trained at."""
    own = getattr(config, "crop_size", None) or getattr(config, "image_size", None) or 224
    if config.model_type in VIDEO_FAMILIES:
        return own
    size = settings.get("crop_size") if settings.get("do_center_crop", True) else None
    size = size or settings.get("size") or own
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or own
    return size[0] if isinstance(size, list | tuple) else size


def _preprocessing(folder: Path) -> dict:
    """The settings of a checkpoint's own preprocessing; empty if it comes without."""
    for name in PREPROCESSING_FILES:
        if (folder / name).is_file():
            settings = read_json(folder / name)
            if isinstance(settings, dict):
                settings = settings.get("video_processor") or settings.get("image_processor") or settings
            check_preprocessing(folder / name, settings)
            return settings
    return {}
