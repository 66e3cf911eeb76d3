"""What an encoder knows of the simulator's state, measured while it is trained."""

import torch
from torch import Tensor

from mindreel.agents.replay import Replay
from mindreel.encoders import Encoder
from mindreel.encoders.probes.regression import ProbeConfig, linear_probe

_ROWS = 1024
"""Clips of the probe; a quarter of them is held out."""
_DROP = 0.2
"""Fall of R2 that is worth a warning."""


class ForgettingMonitor:
    """A quick linear probe of the simulator's state, while an encoder is trained on a run's replay.

    It warns once if the features know less of the state than they did before.

    Args:
        encoder: the encoder that is trained.
        replay: where clips and states are drawn from, once.
        seed: draws them.
    """

    def __init__(self, encoder: Encoder, replay: Replay, seed: int):
        self.encoder, self.replay, self.seed = encoder, replay, seed
        self._rows: tuple[Tensor, Tensor] | None = None
        self._best, self._warned = -1.0, False

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Mean held-out R2 as `probe_r2`; a state of which it falls below -1 counts as -1."""
        clips, state = self._rows = self._rows or self._draw()
        self.encoder.eval()
        features = torch.cat([self.encoder.monitored_features(part) for part in clips.split(256)])
        self.encoder.train()
        cut = 3 * len(features) // 4
        scores = linear_probe(ProbeConfig(), features[:cut], state[:cut], features[cut:], state[cut:])
        score = float(scores.clamp(min=-1).nanmean())
        self._best = max(self._best, score)
        if score < self._best - _DROP and not self._warned:
            print(f"\nThe features forget the state: a linear probe's R2 fell from {self._best:.2f} to {score:.2f}.")
            self._warned = True
        return {"probe_r2": score}

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Clips uint8 (N, F, 3, H, W) and the states (N, n) that vary, the same each time."""
        device, frames = self.replay.device, self.encoder.clip_frames
        # Random numbers of its own: a run that is monitored stays the run that it was.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            batch = self.replay.sample(_ROWS, 1, ("state",), frames, in_order=True)
        state = batch["state"][:, 0]
        return batch["frames"][:, :frames], state[:, state.std(0) > 1e-6]
