"""Equally many operations of pretraining for every encoder of a sweep."""

from collections.abc import Sequence
from dataclasses import replace

from mindreel import cli
from mindreel.encoders import has_objective
from mindreel.pretraining.compute import pretraining_tflop
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.sweep.arguments import Axes, combinations


def equal_compute(axes: Axes, begun: Sequence[TrainConfig]) -> dict[str, str]:
    """The argument, by encoder, that gives it as many operations as the leading encoder, which takes `pretrain.steps`.

    The leading encoder is the one that the sweep began with, or else the first that is listed. The result is empty
    where only one encoder is pretrained, or where a field sets the compute.

    Args:
        axes: fields of scripts/train.py.
        begun: configs of the runs in the sweep's folder that are kept.
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
    alike = [one for one in begun if has_objective(one.encoder) and replace(one.pretrain, tflop=0.0) == pretrains[0]]
    leading = {choice(one, "encoder"): one for one in alike if not one.pretrain.tflop}
    tflops = [one.pretrain.tflop for one in alike if one.pretrain.tflop]
    if tflops:
        tflop, reason = tflops[0], "as for the runs that the folder holds"
    elif len(leading | listed) > 1:
        named, first = next(iter((leading or listed).items()))
        leading[named] = first
        tflop = float(f"{pretraining_tflop(first):.3g}")
        reason = f"which is what {first.pretrain.steps} steps of encoder={named} take"
    else:
        return {}
    given = {name: f"pretrain.tflop={tflop:g}" for name in listed if name not in leading}
    if given:
        print(f"Equal compute: pretrain.tflop={tflop:g} for {', '.join(given)}, {reason}.")
    return given
