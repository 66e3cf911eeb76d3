"""Clips drawn from replay: for an encoder's own objective, and for an agent whose losses reach the encoder."""

import torch
from einops import rearrange
from tensordict import TensorDict
from torch import Tensor

from mindreel.agents.protocols import FeatureEncoder
from mindreel.agents.replay import Replay


class ReplayClips:
    """A source of clips (`protocols.ClipSource`) that draws from a replay buffer, which may still be filling.

    Args:
        replay: the replay buffer.
        clip_frames: frames F of a clip.
        steps: steps K that follow a clip.
    """

    def __init__(self, replay: Replay, clip_frames: int, steps: int):
        self.replay, self.clip_frames, self.steps = replay, clip_frames, steps

    @property
    def keys(self) -> tuple[str, ...]:
        """What an objective reads of replay besides frames, actions and rewards."""
        return ("behaviour",) if "behaviour" in self.replay.keys else ()

    @property
    def described(self) -> bool:
        """Whether a sentence is known to describe any stored frame."""
        return any(bool((self.replay.column(key) >= 0).any()) for key in self.keys)

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """A batch for an encoder's `losses`, as in `protocols.ClipSource.sample`."""
        return self.objective_batch(self.sequences(batch_size, self.steps), self.steps)

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Random pairs of successive frames, uint8 (N, 2, 3, H, W), and rewards (N,)."""
        batch = self.replay.sample(count, 1, (), 1)
        return batch["frames"], batch["reward"][:, 0]

    def clips(self, count: int) -> Tensor:
        """Random clips, uint8 (N, F, 3, H, W)."""
        return self.replay.sample(count, 1, (), self.clip_frames)["frames"][:, : self.clip_frames]

    def sequences(self, batch_size: int, steps: int) -> TensorDict:
        """Sequences of `steps` transitions with their frames, as of `Replay.sample`."""
        return self.replay.sample(batch_size, steps, self.keys, self.clip_frames)

    def objective_batch(self, sequences: TensorDict, steps: int) -> tuple[Tensor, ...]:
        """The arguments of an encoder's `losses`, over the first `steps` actions of sequences."""
        frames = sequences["frames"][:, : self.clip_frames + steps]
        behaviour = tuple(sequences[key][:, 0] for key in self.keys)
        return frames, sequences["action"][:, :steps], sequences["reward"][:, :steps], *behaviour


def encode_batch(
    encoder: FeatureEncoder, clips: ReplayClips, batch_size: int, length: int
) -> tuple[Tensor, Tensor | None, TensorDict]:
    """Sequences, and features with a gradient for the first observation, which the model is unrolled from.

    Args:
        encoder: trained by the agent; also by its own objective where its training mode is cotrain.
        clips: where sequences are drawn from.
        batch_size: sequences, B.
        length: transitions L of each.

    Returns:
        features (B, L + 1, D); the loss of the encoder's own objective, or None; the sequences.
    """
    batch = clips.sequences(batch_size, length)
    encoder.train()
    windows = rearrange(batch["frames"].unfold(1, clips.clip_frames, 1), "b t c h w f -> b t f c h w")
    first = encoder(windows[:, 0])
    with torch.no_grad():
        rest = encoder(rearrange(windows[:, 1:], "b t f c h w -> (b t) f c h w"))
    extra = None
    if encoder.training_mode == "cotrain":
        encoder.enter_last_stage()  # pretraining has been through the others
        losses = encoder.losses(*clips.objective_batch(batch, min(clips.steps, length)))
        extra = torch.stack(list(losses.values())).sum()
        encoder.update_teacher(0.5)  # no end is known: a teacher keeps as much as half-way
    encoder.eval()
    features = torch.cat([first[:, None], rearrange(rest, "(b t) d -> b t d", b=batch_size)], 1)
    return features, extra, batch
