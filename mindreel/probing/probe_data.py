"""The data of the probes: an encoder, the episodes of its task, and frames drawn from them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from mindreel.encoders import Encoder
from mindreel.encoders.probes.dynamics import Components, DynamicsPredictor, fit_predictor
from mindreel.encoders.probes.regression import ProbeConfig
from mindreel.envs import EnvConfig
from mindreel.rollouts.dataset import Rollouts

_TOKEN_BYTES = 2**31  # probes hold the tokens of all their clips at once, and copies of some


@dataclass
class ProbeData:
    """An encoder, and the episodes of its task that it is probed on."""

    encoder: Encoder
    task: str
    train: Rollouts
    """Episodes that encoder and probes learn from."""
    test: Rollouts
    """Held-out episodes, which score the probes."""
    others: dict[str, tuple[Rollouts, Rollouts]]
    """Other tasks that are compared: task -> episodes to learn from, episodes to score on."""
    config: ProbeConfig
    in_view: bool
    movies: int
    device: torch.device
    folder: Path
    """Folder that tokens are exported to."""
    env: EnvConfig
    """Settings of the environments that the rollouts were made in."""
    _encoded: dict[int, Tensor] = field(default_factory=dict)

    def features(self, rollouts: Rollouts) -> Tensor:
        """Features of every frame, (E, T + 1, D) as of `read`, computed once."""
        if id(rollouts) not in self._encoded:
            steps = torch.arange(rollouts.steps + 1)
            rows = [self.read(self.encoder, rollouts, torch.full_like(steps, e), steps) for e in range(len(rollouts))]
            self._encoded[id(rollouts)] = torch.stack(rows)
        return self._encoded[id(rollouts)]

    def features_at(self, rollouts: Rollouts, episode: Tensor, step: Tensor) -> Tensor:
        """Features of some frames, (N, D) float32; encodes no other frames, or none if all have been encoded before."""
        if id(rollouts) in self._encoded:
            return self.features(rollouts)[episode, step].float()
        return self.read(self.encoder, rollouts, episode, step).float()

    @torch.no_grad()
    def read(self, what: Callable[[Tensor], Tensor], rollouts: Rollouts, episode: Tensor, step: Tensor) -> Tensor:
        """Output of an encoder for the clips that end at `step` of `episode`, on the device.

        Args:
            what: clips uint8 (N, F, 3, H, W) -> output (N, ...).
            rollouts: the episodes.
            episode: indices (N,).
            step: indices (N,).

        Returns:
            float16, or float32 where that would overflow.
        """
        parts = zip(episode.split(256), step.split(256), strict=True)
        clips = (rollouts.clips(e, s, self.encoder.clip_frames).to(self.device) for e, s in parts)
        return torch.cat([_compact(what(clip)) for clip in clips])

    def some(self, rollouts: Rollouts, count: int, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Random frames among those that `where` (E, T + 1) marks: episodes (N,) and steps (N,), in order.

        The same ones for every encoder.
        """
        allowed = torch.ones_like(rollouts.in_view) if where is None else where
        found = allowed.flatten().nonzero().squeeze(1)
        chosen = found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:count]].sort().values
        return chosen // allowed.shape[1], chosen % allowed.shape[1]

    @cached_property
    def affordable(self) -> int:
        """How many clips' tokens fit in `_TOKEN_BYTES`; says so where the config asks for more."""
        one = torch.zeros(1, dtype=torch.int64)
        count = _TOKEN_BYTES // (self.read(self.encoder.tokens, self.train, one, one).nbytes)
        if count < self.config.rows:
            print(f"This encoder's tokens are large: {count:,} clips are probed in place of {self.config.rows:,}.")
        return count

    def drawn(self, wanted: Callable[[Rollouts], Tensor | None]) -> "tuple[DrawnFrames, DrawnFrames]":
        """Frames to learn from and frames to score on; `wanted` marks those allowed, (E, T + 1), or is None for all."""
        most = self.affordable
        return (
            DrawnFrames(self, self.train, *self.some(self.train, min(self.config.rows, most), wanted(self.train))),
            DrawnFrames(
                self, self.test, *self.some(self.test, min(self.config.held_out_rows, most), wanted(self.test))
            ),
        )

    @cached_property
    def components(self) -> Components:
        """Principal components of the features, in which prediction errors are measured."""
        return Components(self.features(self.train).flatten(0, 1)).to(self.device)

    @cached_property
    def predictor(self) -> DynamicsPredictor:
        """The dynamics probe's predictor."""
        return fit_predictor(self.config, self.components(self.features(self.train)), self.train.action.to(self.device))


def _compact(values: Tensor) -> Tensor:
    half = values.half()
    return half if half.isfinite().all() else values.float()


@dataclass
class DrawnFrames:
    """Frames of some rollouts, with an encoder's output for the clips that end there."""

    data: ProbeData
    rollouts: Rollouts
    episode: Tensor
    step: Tensor

    @cached_property
    def features(self) -> Tensor:
        """(N, D) float32."""
        return self.data.features_at(self.rollouts, self.episode, self.step)

    @cached_property
    def tokens(self) -> Tensor:
        """(N, tokens, D) as of `ProbeData.read`."""
        return self.data.read(self.data.encoder.tokens, self.rollouts, self.episode, self.step)

    @property
    def newest_tokens(self) -> Tensor:
        """The tokens of the newest tubelet in one row: (N, rows * columns * D) float32."""
        _, rows, columns = self.data.encoder.token_grid
        return self.tokens[:, -rows * columns :].flatten(1).float()

    def of(self, values: Tensor) -> Tensor:
        """The rows of values (E, T + 1, ...), on the device."""
        return values[self.episode, self.step].to(self.data.device)
