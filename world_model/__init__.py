"""World models: latents and actions to futures, rewards and values."""

from mindreel.world_model.latent_model import (
    LatentModel,
    LatentModelConfig,
    LatentModelL,
    LatentModelM,
    LatentModelXL,
    LatentModelXS,
)

WORLD_MODELS: dict[str, type[LatentModelConfig]] = {
    "xs": LatentModelXS,
    "s": LatentModelConfig,
    "m": LatentModelM,
    "l": LatentModelL,
    "xl": LatentModelXL,
}
"""Size -> config of `LatentModel`."""

__all__ = ["WORLD_MODELS", "LatentModel", "LatentModelConfig"]
