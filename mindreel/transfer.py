"""Encoders of other runs and public ones: to start from, to serve as a teacher, to export."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mindreel import cli
from mindreel.agents.checkpoint import fitting, load_checkpoint
from mindreel.encoders import ENCODERS, Encoder, make_encoder
from mindreel.encoders.objectives.vjepa import VJEPAConfig
from mindreel.encoders.public.hub import download, on_hub
from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig
from mindreel.encoders.public.transformers_format import from_transformers

_GROUPS = {"encoder": {name: config for name, (config, _) in ENCODERS.items()}}

# Networks that read actions. One that was made for other actions, or is missing, starts from scratch as a whole.
_ACTION_PARTS = ("forward_model.", "inverse_model.", "reward_model.")

# Fields of encoder.vit that change what the weights do, but not their shapes.
_SHAPELESS_FIELDS = ("heads", "positions", "position_base")


@dataclass(frozen=True)
class _EncoderOf:
    """The part of a run's config that describes its encoder."""

    encoder: Any = field(default_factory=VJEPAConfig)


def encoder_config(run: str) -> Any:
    """The config of a run's encoder; runs of train.py and pretrain.py have one.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: its config.yaml does not describe an encoder of this version.
    """
    file = cli.config_file(run)
    return cli.from_dict({"encoder": cli.read(file).get("encoder", {})}, _EncoderOf, _GROUPS, source=file).encoder


def start_from(encoder: Encoder, config: Any, run: str, device: torch.device, named: str = "encoder_from") -> None:
    """Loads the weights and the fitted statistics of another encoder into this one.

    Args:
        encoder: the encoder, on `device`.
        config: its config.
        run: folder of the run; for V-JEPA also a VJEPA2Model's folder, or its OWNER/NAME on the hub.
        named: the field that names it, for messages.

    Raises:
        FileNotFoundError: there is no such run, or no checkpoint in it.
        ValueError: that encoder is of another kind or of other sizes.
    """
    folder = Path(run).expanduser()
    if _only_on_hub(run):
        folder = download(run, named)
    if (folder / "config.json").is_file() and not (folder / "config.yaml").is_file():
        _start_from_transformers(encoder, config, folder)
        return
    theirs = encoder_config(run)
    if type(theirs) is not type(config):
        raise ValueError(f"{named}={run}: that run has a {_name(theirs)} encoder, this one has {_name(config)}.")
    check_same_network(theirs, config, f"{named}={run}")
    path = Path(run) / "checkpoints" / "last.pt"
    own, saved = encoder.state_dict(), load_checkpoint(path, device)["encoder"]
    misfits = [key for key in own if key not in saved or saved[key].shape != own[key].shape]
    features = [key for key in misfits if not any(part in key for part in _ACTION_PARTS)]
    fresh = [part for part in _ACTION_PARTS if any(part in key for key in misfits)]
    if features:
        differing = ", ".join(
            _differences(
                cli.to_dict(_EncoderOf(theirs), _GROUPS)["encoder"],
                cli.to_dict(_EncoderOf(config), _GROUPS)["encoder"],
                "encoder.",
            )
        )
        remedy = f"Set as there: {differing}." if differing else f"Its checkpoint is another network's: {features[0]}."
        raise ValueError(f"{named}={run}: its encoder does not fit this one. {remedy}")
    with fitting(path):
        encoder.load_state_dict({key: own[key] if any(part in key for part in fresh) else saved[key] for key in own})


def _start_from_transformers(encoder: Encoder, config: Any, folder: Path) -> None:
    """Loads the transformer and normalisation of a VJEPA2Model, and its predictor where that has the same sizes.

    The norms keep our epsilon, since no field of a run's config could restore theirs.
    """
    if not isinstance(config, VJEPAConfig):
        raise ValueError(
            f"encoder_from={folder} is a model of transformers, from which encoder=vjepa can start and "
            f"encoder={_name(config)} cannot; encoder=pretrained encoder.source={folder} reads it as it is."
        )
    taken = from_transformers(folder, 1, config, config.vit.frames, config.vit.image_size)
    differing = _differences(cli.to_dict(taken.config.vit, {}), cli.to_dict(config.vit, {}), "encoder.vit.")
    if differing:
        raise ValueError(
            f"encoder_from={folder}: its encoder does not fit this one. Set as there: {', '.join(differing)}."
        )
    own, saved = encoder.state_dict(), taken.state_dict()
    whole = ["vit.", "teacher.", "mean_frame", "pixel_std"]
    predictor = [name for name in own if name.startswith("predictor.")]
    if all(name in saved and saved[name].shape == own[name].shape for name in predictor):
        whole.append("predictor.")
    encoder.load_state_dict(own | {name: saved[name] for name in own if name.startswith(tuple(whole))})


def encoder_of(run: str, device: torch.device, named: str = "run") -> Encoder:
    """The encoder of a run as its checkpoint holds it, apart from the networks that read actions.

    Args:
        run: its folder.
        device: where the encoder is to be.
        named: the field that names it, for messages.
    """
    config = encoder_config(run)
    encoder = make_encoder(config, 1, 0).to(device)
    start_from(encoder, config, run, device, named)
    return encoder.eval()


def find_encoder(source: str, frames: int, device: torch.device, named: str) -> Encoder:
    """An encoder by its place: a run's, or a public checkpoint.

    Args:
        source: folder of a run; or what encoder=pretrained reads: another folder, a file, or OWNER/NAME on the hub.
        frames: frames of a clip that a public checkpoint is shown; a run's has its own.
        device: where it is to be.
        named: the field that names it, for messages.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it cannot be read.
    """
    path = Path(source).expanduser()
    if (path / "config.yaml").is_file() or not (path.exists() or _only_on_hub(source)):
        return encoder_of(source, device, named)
    try:
        return Pretrained(PretrainedConfig(source=source, frames=frames, readout="pooled")).to(device).eval()
    except ValueError as error:  # which names the field of encoder=pretrained
        raise ValueError(f"{named}={source} is read as encoder=pretrained reads it. {error}") from error


def check_same_network(theirs: Any, ours: Any, where: str) -> None:
    """Raises ValueError where two encoders' configs differ in a field that leaves no trace in the weights.

    Args:
        theirs: config of the encoder that weights are taken from.
        ours: config of the one that they are for.
        where: what names the former, to begin the message with.
    """
    if not (hasattr(theirs, "vit") and hasattr(ours, "vit")):
        return
    pairs = [(name, getattr(theirs.vit, name), getattr(ours.vit, name)) for name in _SHAPELESS_FIELDS]
    differing = [f"encoder.vit.{name}={value}" for name, value, own in pairs if value != own]
    if differing:
        raise ValueError(f"{where}: its encoder does not fit this one. Set as there: {', '.join(differing)}.")


def _only_on_hub(source: str) -> bool:
    """Whether this can only be a model on the hub. A mistyped runs/NAME is none: `runs` is a folder here."""
    return not Path(source).expanduser().exists() and on_hub(source) and not Path(source.partition("/")[0]).is_dir()


def _name(config: Any) -> str:
    return cli.choice_name(config, _GROUPS["encoder"])


def _differences(theirs: dict, ours: dict, prefix: str) -> list[str]:
    """`field=value` as in `theirs`, for each field that differs in `ours`."""
    found = []
    for key, value in theirs.items():
        if isinstance(value, dict):
            found += _differences(value, ours[key], f"{prefix}{key}.")
        elif ours[key] != value:
            found.append(f"{prefix}{key}={value}")
    return found
