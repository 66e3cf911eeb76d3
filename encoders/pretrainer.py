"""Gradient steps of encoders that have an objective of their own."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import Parameter

from mindreel.encoders.backbone.vit import TransformerBlock
from mindreel.encoders.encoder import Encoder
from mindreel.encoders.probes.regression import effective_rank
from mindreel.encoders.processes import average_gradients, broadcast_number, world_size
from mindreel.encoders.throughput import autocast_dtype, count_flops, peak_flops

_MOMENTS = 5  # of pretraining, at which the operations of a step are counted
_MONITORED_CLIPS = 64  # of a step, over its batches, that its metrics are computed on at most


class CollapseError(ValueError):
    """The encoder's features no longer tell observations apart."""


@dataclass(frozen=True)
class PretrainConfig:
    """How an encoder is pretrained on rollouts."""

    steps: Annotated[int, Ge(0)] = 600
    """Gradient steps before the agent starts."""
    refresh_steps: Annotated[int, Ge(0)] = 150
    """Gradient steps of each refresh on the agent's own rollouts (encoder.training_mode=refresh)."""
    tflop: Annotated[float, Ge(0)] = 0.0
    """Operations (10^12) that set the steps, so that objectives of unequal cost get equal compute; 0 for `steps`."""
    batch_size: Annotated[int, Ge(2)] = 64
    """Sequences in a batch, 2 or more: objectives compare the clips of a batch with each other."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Batches whose gradients are averaged for one step."""
    future_steps: Annotated[int, Ge(1)] = 4
    """Steps K between a clip and the one whose features are predicted from it."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Peak learning rate of AdamW."""
    refresh_lr: Annotated[float, Gt(0)] = 5e-4
    """Peak learning rate in a refresh."""
    warmup: Annotated[int, Ge(0)] = 20
    """Steps over which the learning rate rises."""
    weight_decay: Annotated[float, Ge(0)] = 0.04
    """Weight decay of AdamW."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of the losses: float32, bf16 (weights stay float32), or bf16 on GPUs that have it."""
    compile: bool = False
    """Compile the transformer's blocks; takes a minute and pays in long runs."""
    min_effective_rank: Annotated[float, Ge(0)] = 1.2
    """Effective rank of the features, or of the tokens that they are fitted to, below which the encoder counts as
    collapsed and the run stops. One strong direction is no collapse: VideoMAE's rank goes down to 2 on walker."""
    min_feature_std: Annotated[float, Ge(0)] = 1e-3
    """Standard deviation of the features as a fraction of their size, below which the encoder counts as collapsed."""
    log_every: Annotated[int, Ge(1)] = 50
    """Steps between lines of metrics."""

    def __post_init__(self):
        if min(self.accumulate, self.future_steps, self.log_every) < 1 or self.batch_size < 2:
            raise ValueError("accumulate, future_steps and log_every must be 1 or more, and batch_size 2 or more.")
        if self.tflop < 0 or self.tflop and self.steps < 1:
            raise ValueError(f"tflop must be 0 or more, and 0 where steps is, got {self.tflop} and {self.steps}.")


Sample = Callable[[], tuple[Tensor, ...]]
"""Draws a batch, the arguments of `Encoder.losses`: frames uint8 (B, F + K, 3, H, W), actions (B, K, A), rewards (B, K)
and, where it is known, behaviour (B,)."""


class Pretrainer:
    """Trains an encoder by its own objective, on batches of clips.

    In several processes (torch.distributed) each draws batches of its own, and gradients are averaged over all.

    Args:
        config: optimisation.
        encoder: the encoder.

    Attributes:
        step: gradient steps taken in all.
        done: gradient steps taken in the present phase; 0 between phases.

    Raises:
        ValueError: bf16 is asked for on a device that lacks it.
    """

    def __init__(self, config: PretrainConfig, encoder: Encoder):
        self.config = config
        self.encoder = encoder
        self.parameters: list[Parameter] = [p for p in encoder.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.dtype = autocast_dtype(config.precision, self.device)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=config.weight_decay)
        self.step = self.done = 0
        self._affordable: float | None = None  # steps that config.tflop allows before the agent starts
        self._clips, self._seconds = 0, 0.0  # of this process, its first steps left out
        self._warm = 0

    def planned(self, sample: Sample, steps: int) -> int:
        """The gradient steps of a phase: `steps` or, with `config.tflop`, as much more or less as `config.steps`.

        Args:
            sample: draws a batch, whose operations are counted.
            steps: length of the phase where steps are not set by compute: `config.steps` or `config.refresh_steps`.
        """
        config = self.config
        if not (config.tflop and steps):
            return steps
        if self._affordable is None:
            clips = config.batch_size * config.accumulate * world_size()
            affordable = config.tflop * 1e12 / (clips * flops_per_clip(self.encoder, sample))
            self._affordable = broadcast_number(affordable, self.device)  # masks are random, and so is their cost
        return max(1, round(self._affordable * steps / config.steps))

    def train(
        self, sample: Sample, steps: int, lr: float, monitor: Callable[[], dict[str, float]] | None = None
    ) -> Iterator[dict[str, float] | None]:
        """Trains until `steps` of this phase are done, yielding after each: metrics where they are due, or None.

        Args:
            sample: draws a batch.
            steps: length of the phase; a resumed phase continues where it stopped.
            lr: peak learning rate.
            monitor: what else to measure where metrics are due, such as a probe.

        Raises:
            CollapseError: the features have lost their rank or their spread, or are not finite.
        """
        self.encoder.train()
        if self.config.compile:
            compile_blocks(self.encoder)
        while self.done < steps:
            start = time.perf_counter()
            self._set_lr(lr, steps)
            losses, clips = self._gradients(sample)
            self.optimizer.step()
            self.encoder.update_teacher(self.done / steps)
            self.step += 1
            self.done += 1
            due = self.done % self.config.log_every == 0 or self.done == steps
            metrics = self._metrics(losses, clips) | (monitor() if monitor else {}) if due else None
            self._note(time.perf_counter() - start)
            yield metrics
        self.done = 0
        self.encoder.eval()

    def extend(self) -> None:
        """Reopens the phase that has ended, so that `train` continues from its last step."""
        self.done = self.step

    def _gradients(self, sample: Sample) -> tuple[dict[str, Tensor], Tensor]:
        """Computes the mean gradient of a step's batches; returns its losses, and clips to compute metrics on."""
        weight = 1 / self.config.accumulate
        total: dict[str, Tensor] = {}
        clips: list[Tensor] = []
        self.optimizer.zero_grad(set_to_none=True)
        for _ in range(self.config.accumulate):
            frames, *rest = sample()
            with self.autocast():
                losses = self.encoder.losses(frames, *rest)
            (weight * torch.stack([loss.float() for loss in losses.values()]).sum()).backward()
            for name, loss in losses.items():
                total[name] = total.get(name, 0.0) + weight * loss.detach()
            if sum(map(len, clips)) < _MONITORED_CLIPS:
                clips.append(frames[:, : self.encoder.clip_frames])
        average_gradients(self.parameters)
        return total, torch.cat(clips)

    def autocast(self) -> AbstractContextManager:
        """The arithmetic that losses are computed in."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def _set_lr(self, peak: float, steps: int) -> None:
        warm = min(1.0, (self.done + 1) / max(1, self.config.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * self.done / steps))
        for group in self.optimizer.param_groups:
            group["lr"] = peak * warm * (0.05 + 0.95 * cosine)

    # ---- collapse ----

    @torch.no_grad()
    def _metrics(self, losses: dict[str, Tensor], clips: Tensor) -> dict[str, float]:
        with self.autocast():
            features = torch.cat(
                [self.encoder.monitored_features(part).float() for part in clips.split(self.config.batch_size)]
            )
        rank, std = float(effective_rank(features)), float(features.std(0).mean())
        scalars = {name: float(value) for name, value in losses.items()}
        loss = sum(scalars.values())
        # Of N clips the rank can be N - 1 at most.
        least = min(self.config.min_effective_rank, (len(features) - 1) / 2)
        self._check_collapse(rank, least, std, float(features.pow(2).mean().sqrt()), loss)
        return {"step": self.step, "loss": loss, **scalars, "effective_rank": rank, "feature_std": std}

    def _check_collapse(self, rank: float, least: float, std: float, size: float, loss: float) -> None:
        config = self.config
        if not math.isfinite(loss) or not math.isfinite(rank):
            what = "its loss or its features are not finite"
        elif std <= config.min_feature_std * size:
            what = "its features are the same for every clip"
        elif rank < least:
            what = "its features vary along too few directions"
        else:
            return
        raise CollapseError(
            f"The encoder has collapsed at step {self.step}: {what}, with effective rank {rank:.2f} (at least "
            f"{least} is wanted), standard deviation {std:.3g} and size {size:.3g}. Raise "
            "encoder.auxiliary.variance_coef or future_coef, or lower pretrain.lr."
        )

    # ---- speed ----

    def _note(self, seconds: float) -> None:
        self._warm += 1
        if self._warm > 2:  # the first steps choose algorithms and compile
            self._clips += self.config.batch_size * self.config.accumulate * world_size()
            self._seconds += seconds

    def throughput(self, sample: Sample) -> dict[str, float]:
        """Operations of a clip and of all steps so far; clips a second, and what fraction of the device's best that is.

        Speed is that of this process, its first two steps left out; it is missing before, and all is empty without
        any step.

        Args:
            sample: draws a batch, whose operations are counted.
        """
        if not self.step:
            return {}
        processes = world_size()
        flops, clips = flops_per_clip(self.encoder, sample), self.config.batch_size * self.config.accumulate * processes
        spent = {"gflop_per_clip": flops / 1e9, "tflop": self.step * clips * flops / 1e12}
        if not self._seconds:
            return spent
        rate = self._clips / self._seconds
        peak = processes * peak_flops(self.device, self.dtype or torch.float32)
        speed = {"clips_per_s": rate, "peak_gflop_per_s": peak / 1e9, "peak_fraction": rate * flops / peak}
        return spent | speed

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """Everything but the encoder itself."""
        state = {"optimizer": self.optimizer.state_dict(), "step": self.step, "done": self.done}
        return state | {"affordable": self._affordable}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.done, self._affordable = state["step"], state["done"], state.get("affordable")


def compile_blocks(encoder: torch.nn.Module) -> None:
    """Compiles every transformer block in place. They share their code, so only one compilation takes place."""
    for module in encoder.modules():
        if isinstance(module, TransformerBlock):
            module.compile()


def flops_per_clip(encoder: Encoder, sample: Sample) -> float:
    """Operations of an encoder's own objective and its gradient, for each clip of a batch.

    The mean over pretraining, since an objective may go through stages. Counting changes nothing: it works on a copy
    of the encoder and restores the state of the random numbers.
    """
    devices = [p.device for p in encoder.parameters() if p.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices):
        batch = tuple(x[:8] for x in sample())
        counted, flops = copy.deepcopy(encoder).train(), 0
        for moment in range(_MOMENTS):
            counted.update_teacher((moment + 0.5) / _MOMENTS)
            flops += count_flops(lambda: torch.stack(list(counted.losses(*batch).values())).sum().backward())
    return flops / _MOMENTS / len(batch[0])
