"""Encoders: observations to the features that an agent learns from."""

from mindreel.encoders.baselines import CNNConfig, CNNEncoder, PixelsConfig, PixelsEncoder, StateConfig, StateEncoder
from mindreel.encoders.encoder import Encoder
from mindreel.encoders.objectives.internvideo import InternVideo, InternVideoConfig
from mindreel.encoders.objectives.internvideo2 import InternVideo2, InternVideo2Config
from mindreel.encoders.objectives.lejepa import LeJEPA, LeJEPAConfig
from mindreel.encoders.objectives.vicreg import VICReg, VICRegConfig
from mindreel.encoders.objectives.video_encoder import UntrainedConfig, UntrainedEncoder, VideoConfig
from mindreel.encoders.objectives.videomae import VideoMAE, VideoMAEConfig
from mindreel.encoders.objectives.vjepa import VJEPA, VJEPAConfig
from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig

EncoderConfig = VideoConfig | PretrainedConfig | CNNConfig | PixelsConfig | StateConfig
"""The config of any encoder; those with a video transformer are subclasses of `VideoConfig`."""

ENCODERS: dict[str, tuple[type, type[Encoder]]] = {
    "vjepa": (VJEPAConfig, VJEPA),
    "videomae": (VideoMAEConfig, VideoMAE),
    "internvideo": (InternVideoConfig, InternVideo),
    "internvideo2": (InternVideo2Config, InternVideo2),
    "lejepa": (LeJEPAConfig, LeJEPA),
    "vicreg": (VICRegConfig, VICReg),
    "pretrained": (PretrainedConfig, Pretrained),
    "untrained": (UntrainedConfig, UntrainedEncoder),
    "cnn": (CNNConfig, CNNEncoder),
    "pixels": (PixelsConfig, PixelsEncoder),
    "state": (StateConfig, StateEncoder),
}
"""Name -> config and class. A class takes (config, action_dim, state_dim)."""

ALIASES = {"random": "untrained"}
"""Former name -> name in `ENCODERS`. The command line accepts the former one and says which name replaced it."""


def make_encoder(config: EncoderConfig, action_dim: int, state_dim: int) -> Encoder:
    """The encoder that a config of `ENCODERS` describes.

    Args:
        config: an instance of one of the configs of `ENCODERS`.
        action_dim: number of action dimensions, A.
        state_dim: number of state dimensions; only `StateEncoder` uses it.

    Raises:
        ValueError: the config is of another class, or its fields do not go together.
    """
    for config_type, encoder_type in ENCODERS.values():
        if type(config) is config_type:
            return encoder_type(config, action_dim, state_dim)
    names = ", ".join(config_type.__name__ for config_type, _ in ENCODERS.values())
    raise ValueError(f"Expected the config of an encoder ({names}), got {type(config).__name__}.")


def has_objective(config: EncoderConfig) -> bool:
    """Whether the encoder that a config of `ENCODERS` describes has a pretraining objective."""
    if isinstance(config, PretrainedConfig):
        return config.has_objective
    return any(encoder.has_objective for config_type, encoder in ENCODERS.values() if type(config) is config_type)
