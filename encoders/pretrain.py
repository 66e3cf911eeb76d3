"""The pretraining loop of encoders that have an objective of their own."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.probe import effective_rank


class CollapseError(ValueError):
    """The encoder's features no longer tell observations apart."""


@dataclass(frozen=True)
class PretrainConfig:
    """How an encoder is pretrained on rollouts."""

    steps: int = 600
    """Gradient steps before the agent starts."""
    refresh_steps: int = 150
    """Gradient steps of each refresh on the agent's own rollouts (encoder.training_mode=refresh)."""
    batch_size: int = 64
    """Sequences in a batch."""
    future_steps: int = 4
    """Steps K between a clip and the one whose features are predicted from it."""
    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    refresh_lr: float = 5e-4
    """Peak learning rate in a refresh."""
    warmup: int = 20
    """Steps over which the learning rate rises."""
    weight_decay: float = 0.04
    """Weight decay of AdamW."""
    min_effective_rank: float = 2.0
    """Effective rank of the features below which the encoder counts as collapsed and the run stops."""
    log_every: int = 50
    """Steps between lines of metrics."""


Sample = Callable[[], tuple[Tensor, Tensor, Tensor]]


class Pretrainer:
    """Trains an encoder that has `losses` and `update_teacher`, on sequences drawn from rollouts.

    Args:
        config: optimisation.
        encoder: the encoder.
    """

    def __init__(self, config: PretrainConfig, encoder):
        self.config = config
        self.encoder = encoder
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
        self.step = 0  # steps in all
        self.done = 0  # steps of the present phase

    def train(self, sample: Sample, steps: int, lr: float) -> Iterator[dict[str, float] | None]:
        """Trains until `steps` of this phase are done, yielding after each: metrics where they are due, or None.

        Args:
            sample: draws a batch: frames uint8 (B, F + K, 3, H, W), actions (B, K, A), rewards (B, K).
            steps: length of the phase; a resumed phase goes on where it stood.
            lr: peak learning rate.

        Raises:
            CollapseError: the features have lost their rank, or are not finite.
        """
        self.encoder.train()
        while self.done < steps:
            frames, action, reward = sample()
            self._set_lr(lr, steps)
            losses = self.encoder.losses(frames, action, reward)
            loss = torch.stack(list(losses.values())).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.encoder.update_teacher(self.done / steps)
            self.step += 1
            self.done += 1
            due = self.done % self.config.log_every == 0 or self.done == steps
            yield self._metrics(losses, loss.detach(), frames) if due else None
        self.done = 0
        self.encoder.eval()

    def _set_lr(self, peak: float, steps: int) -> None:
        warm = min(1.0, (self.done + 1) / self.config.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * self.done / steps))
        for group in self.optimizer.param_groups:
            group["lr"] = peak * warm * (0.05 + 0.95 * cosine)

    @torch.no_grad()
    def _metrics(self, losses: dict[str, Tensor], loss: Tensor, frames: Tensor) -> dict[str, float]:
        features = self.encoder(frames[:, : self.encoder.clip_frames])
        rank, std = float(effective_rank(features)), float(features.std(0).mean())
        if not rank >= self.config.min_effective_rank or not math.isfinite(float(loss)):
            raise CollapseError(
                f"The encoder has collapsed at step {self.step}: its features have effective rank {rank:.2f} (at "
                f"least {self.config.min_effective_rank} is wanted) and standard deviation {std:.3g}. Raise "
                "encoder.variance_coef or encoder.future_coef, or lower the learning rate."
            )
        scalars = {name: float(value.detach()) for name, value in losses.items()}
        return {"step": self.step, "loss": float(loss), **scalars, "effective_rank": rank, "feature_std": std}

    def state_dict(self) -> dict:
        """Everything but the encoder itself."""
        return {"optimizer": self.optimizer.state_dict(), "step": self.step, "done": self.done}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.done = state["step"], state["done"]
