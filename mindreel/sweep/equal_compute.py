"""As many operations of pretraining for every encoder of a sweep."""

from collections.abc import Sequence
from dataclasses import replace

from mindreel import cli
from mindreel.encoders import has_objective
from mindreel.pretraining.compute import pretraining_tflop
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.sweep.grid import Axes, combinations


def equal_compute(axes: Axes, kept: Sequence[TrainConfig]) -> dict[str, str]:
    """The argument that gives encoders as many operations as the one that takes `pretrain.steps`, by encoder.

    That is the one that the grid began with, or the first that is listed. Nothing is to be made equal where only one
    encoder is pretrained, or a field sets the compute.

    Args:
        axes: fields of scripts/train.py.
        kept: configs of the runs that the grid's folder holds and that stay.
    """
    if any(len(axes[key]) > 1 for key in axes if key.startswith("pretrain.")):
        return {}
    listed: dict[str, TrainConfig] = {}
    for text in axes.get("encoder", ("",)):
        config = cli.compose(TrainConfig, GROUPS, next(one for one in combinations(axes) if not text or text in one))
        if has_objective(config.encoder):
            listed[choice(config, "encoder")] = config
    pretrains = [config.pretrain for config in listed.values()]
    if not pretrains or pretrains[0].tflop or not pretrains[0].steps:
        return {}
    begun = [one for one in kept if has_objective(one.encoder)]
    begun = [one for one in begun if replace(one.pretrain, tflop=0.0) == pretrains[0]]
    leading = {choice(one, "encoder"): one for one in begun if not one.pretrain.tflop}
    tflops = [one.pretrain.tflop for one in begun if one.pretrain.tflop]
    if tflops:
        tflop, like = tflops[0], "what the grid began with"
    elif len(leading | listed) > 1:
        named, first = next(iter((leading or listed).items()))
        leading[named] = first
        tflop = float(f"{pretraining_tflop(first):.3g}")
        like = f"what {first.pretrain.steps} steps of encoder={named} take"
    else:
        return {}
    given = {name: f"pretrain.tflop={tflop:g}" for name in listed if name not in leading}
    if given:
        print(f"Equal compute: pretrain.tflop={tflop:g} for {', '.join(given)}, {like}.")
    return given
