"""The encoders that a command line with comma lists asks to probe."""

from collections.abc import Sequence
from dataclasses import replace

from mindreel import cli
from mindreel.encoders.objectives.vjepa import VJEPAConfig
from mindreel.probing.compare import Probed
from mindreel.probing.settings import CompareConfig
from mindreel.run_config import GROUPS, choice
from mindreel.sweep.arguments import Axes, combinations
from mindreel.transfer import encoder_config


def listed_encoders(axes: Axes) -> list[Probed]:
    """Each combination, with its settings other than encoder, task and seed as its variant."""
    named = [key for key in axes if len(axes[key]) > 1 and key not in ("encoder", "task", "seed")]
    made = [(cli.compose(CompareConfig, GROUPS, arguments, base="run"), arguments) for arguments in combinations(axes)]
    others = _of_other_kinds([config for config, _ in made])
    found = []
    for config, arguments in made:
        variant = {text.partition("=")[0]: text.removeprefix("encoder.") for text in arguments}
        if choice(config, "encoder") in others.get(config.encoder_from, ()):
            config = replace(config, encoder_from="")
            variant.pop("encoder_from", None)
        probed = Probed(config, ", ".join(text for key, text in variant.items() if key in named))
        if probed not in found:  # without encoder_from, several of those that are listed come to the same
            found.append(probed)
    return found


def _of_other_kinds(configs: Sequence[CompareConfig]) -> dict[str, list[str]]:
    """For each encoder_from, the listed encoders of another kind, which go without it; a line names them.

    Where all are of another kind, none goes without it: starting from it is then refused as a mistake.
    """
    found = {}
    for run in dict.fromkeys(config.encoder_from for config in configs if config.encoder_from):
        try:
            kind = type(encoder_config(run))
        except FileNotFoundError:  # a VJEPA2Model's folder, or its name on the hub
            kind = VJEPAConfig
        listed = {choice(config, "encoder"): config.encoder for config in configs if config.encoder_from == run}
        others = [name for name, encoder in listed.items() if type(encoder) is not kind]
        if 0 < len(others) < len(listed):
            found[run] = others
            (taking,) = listed.keys() - others
            print(f"encoder_from={run} is for encoder={taking}; probed without it: {', '.join(others)}.")
    return found
