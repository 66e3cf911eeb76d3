"""Encoders: observations to the features that an agent learns from."""

from encoders.base import Encoder
from encoders.baselines import CNNConfig, CNNEncoder, StateConfig, StateEncoder
from encoders.vjepa import VJEPA, RandomConfig, VJEPAConfig

ENCODERS: dict[str, tuple[type, type[Encoder]]] = {
    "vjepa": (VJEPAConfig, VJEPA),
    "random": (RandomConfig, VJEPA),
    "cnn": (CNNConfig, CNNEncoder),
    "state": (StateConfig, StateEncoder),
}
"""Name -> config and class. A class takes (config, action_dim, state_dim)."""


def make_encoder(config, action_dim: int, state_dim: int) -> Encoder:
    """The encoder that a config of `ENCODERS` describes."""
    for config_type, encoder_type in ENCODERS.values():
        if type(config) is config_type:
            return encoder_type(config, action_dim, state_dim)
    raise ValueError(f"No encoder is built from {type(config).__name__}.")
