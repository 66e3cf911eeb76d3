"""Encoders of other runs: to start from, to be taught by, to export; and public ones to start from."""

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

# Networks of actions: where a run had other ones, or none, each that does not fit is learned anew, all of it.
_OF_ACTIONS = ("forward_model.", "inverse_model.", "reward_model.")

# Fields of encoder.vit that change what the weights do and not their shapes.
_WITHOUT_SHAPE = ("heads", "positions")


@dataclass(frozen=True)
class _EncoderOf:
    """What of a run's config describes its encoder."""

    encoder: Any = field(default_factory=VJEPAConfig)


def encoder_config(run: str) -> Any:
    """The encoder's config of a run of train.py or pretrain.py.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: its config.yaml does not describe an encoder of this version.
    """
    file = cli.config_file(run)
    return cli.from_dict({"encoder": cli.read(file).get("encoder", {})}, _EncoderOf, _GROUPS, source=file).encoder


def start_from(encoder: Encoder, config: Any, run: str, device: torch.device, named: str = "encoder_from") -> None:
    """Gives an encoder the weights of a run's, and what that one was fitted with.

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
        raise ValueError(f"{named}={run}: that run has a {_name(theirs)} encoder, this one is to have {_name(config)}.")
    check_same_network(theirs, config, f"{named}={run}")
    path = Path(run) / "checkpoints" / "last.pt"
    own, saved = encoder.state_dict(), load_checkpoint(path, device)["encoder"]
    misfits = [key for key in own if key not in saved or saved[key].shape != own[key].shape]
    features = [key for key in misfits if not any(part in key for part in _OF_ACTIONS)]
    anew = [part for part in _OF_ACTIONS if any(part in key for key in misfits)]
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
        encoder.load_state_dict({key: own[key] if any(part in key for part in anew) else saved[key] for key in own})


def _start_from_transformers(encoder: Encoder, config: Any, folder: Path) -> None:
    """Gives a V-JEPA transformer and normalisation of a VJEPA2Model, and its predictor where it is of the same sizes.

    The norms keep our epsilon, which no config of a run could bring back.
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
    """The encoder of a run, as its checkpoint has it: its features, whatever actions it learned with.

    Args:
        run: its folder.
        device: where the encoder is to be.
        named: the field that names it, for messages.
    """
    config = encoder_config(run)
    encoder = make_encoder(config, 1, 0).to(device)
    start_from(encoder, config, run, device, named)
    return encoder.eval()


def teacher_from(source: str, frames: int, device: torch.device) -> Encoder:
    """An encoder to be taught by, frozen: a run's, or a public checkpoint.

    Args:
        source: folder of a run; or what encoder=pretrained reads: another folder, a file, or OWNER/NAME on the hub.
        frames: frames of a clip that a public checkpoint is shown; a run's has its own.
        device: where it is to be.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it cannot be read.
    """
    path = Path(source).expanduser()
    if (path / "config.yaml").is_file() or not (path.exists() or _only_on_hub(source)):
        return encoder_of(source, device, "encoder.teacher")
    try:
        return Pretrained(PretrainedConfig(source=source, frames=frames, readout="pooled")).to(device).eval()
    except ValueError as error:  # which names the field of encoder=pretrained
        raise ValueError(f"encoder.teacher={source} is read as encoder=pretrained reads it. {error}") from error


def check_same_network(theirs: Any, ours: Any, where: str) -> None:
    """Raises ValueError where two encoders' configs differ in what no weight would show.

    Args:
        theirs: config of the encoder that weights are taken from.
        ours: config of the one that they are for.
        where: what names the former, to begin the message with.
    """
    if not (hasattr(theirs, "vit") and hasattr(ours, "vit")):
        return
    pairs = [(name, getattr(theirs.vit, name), getattr(ours.vit, name)) for name in _WITHOUT_SHAPE]
    differing = [f"encoder.vit.{name}={value}" for name, value, own in pairs if value != own]
    if differing:
        raise ValueError(f"{where}: its encoder does not fit this one. Set as there: {', '.join(differing)}.")


def _only_on_hub(source: str) -> bool:
    """Whether this can only be a model of the hub: a mistyped runs/NAME begins with a folder that is here."""
    return not Path(source).expanduser().exists() and on_hub(source) and not Path(source.partition("/")[0]).is_dir()


def _name(config: Any) -> str:
    return next(name for name, cls in _GROUPS["encoder"].items() if type(config) is cls)


def _differences(theirs: dict, ours: dict, prefix: str) -> list[str]:
    """`field=value` as in `theirs`, for each field that differs in `ours`."""
    found = []
    for key, value in theirs.items():
        if isinstance(value, dict):
            found += _differences(value, ours[key], f"{prefix}{key}.")
        elif ours[key] != value:
            found.append(f"{prefix}{key}={value}")
    return found
