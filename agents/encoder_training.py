"""What a run does for its encoder: fitting it, training it on replay, and features with a gradient."""

import torch
from tensordict import TensorDict
from torch import Tensor

from mindreel.agents.collector import Collector

_FIT_ROWS = 4096  # random rows of replay that an encoder is fitted to


class EncoderTraining:
    """The encoder of a run, and the batches it learns from.

    Args:
        collector: worlds, eyes and replay.
        pretrainer: trains the encoder (encoders.pretrain.Pretrainer), or None if it has no objective.
    """

    def __init__(self, collector: Collector, pretrainer):
        self.collector, self.pretrainer = collector, pretrainer
        self.encoder, self.replay = collector.eyes.encoder, collector.replay
        self.fitted = False  # true for an encoder that comes fitted to other rollouts

    def fit(self) -> None:
        """Fits what is fitted to rollouts before any training.

        Raises:
            ValueError: the encoder learns from sentences, and none holds of what replay shows.
        """
        if self.encoder.clip_frames:
            batch = self._pairs()
            self._check_sentences(batch)
            fit = self.encoder.fit_targets if self.fitted else self.encoder.fit
            fit(batch["frames"], batch["reward"][:, 0])
            self._fit_readout()

    def fit_targets(self) -> None:
        """Fits the targets of its objective to what replay holds by now."""
        batch = self._pairs()
        self.encoder.fit_targets(batch["frames"], batch["reward"][:, 0])

    def sample(self) -> tuple[Tensor, ...]:
        """A batch for the encoder's objective: frames, actions, rewards and, where worlds tell it, behaviour."""
        config = self.pretrainer.config
        keys = self._objective_keys()
        batch = self.replay.sample(config.batch_size, config.future_steps, keys, self.encoder.clip_frames)
        return self._objective_arguments(batch, config.future_steps)

    def settle(self) -> str:
        """Ends a phase of training: fits the readout anew, and encodes anew what is stored and what is in sight.

        Returns:
            the encoder's new identity.
        """
        if self.pretrainer is not None:
            self._fit_readout()
        encoder_id = self.encoder.identity()
        if self.collector.store_latents and self.encoder.clip_frames:
            self.replay.reencode(self.encoder, encoder_id)
            self.collector.look_again()
        return encoder_id

    def encode_batch(self, batch_size: int, length: int) -> tuple[Tensor, Tensor | None, TensorDict]:
        """Sequences, and features with a gradient for the first observation, which the model is unrolled from.

        Returns:
            features (B, L + 1, F); the loss of the encoder's own objective where it is trained along; the batch.
        """
        encoder, frames = self.encoder, self.encoder.clip_frames
        keys = self._objective_keys() if frames else ("state",)
        batch = self.replay.sample(batch_size, length, keys, frames)
        encoder.train()
        clips = batch["frames"].unfold(1, frames, 1).movedim(-1, 2)  # (B, L + 1, F, 3, H, W)
        first = encoder(clips[:, 0])
        with torch.no_grad():
            rest = encoder(clips[:, 1:].flatten(0, 1)).unflatten(0, (batch_size, length))
        extra = None
        if self.pretrainer is not None and encoder.training_mode == "cotrain":
            steps = min(self.pretrainer.config.future_steps, length)
            encoder.stay_in_last_stage()  # pretraining has been through the others
            losses = encoder.losses(*self._objective_arguments(batch, steps))
            extra = torch.stack(list(losses.values())).sum()
            encoder.update_teacher(0.5)  # no end is known: a teacher keeps as much as half-way
        encoder.eval()
        return torch.cat([first[:, None], rest], 1), extra, batch

    def _fit_readout(self) -> None:
        if self.encoder.fits_readout:
            frames = self.encoder.clip_frames
            self.encoder.fit_readout(self.replay.sample(_FIT_ROWS, 1, (), frames)["frames"][:, :frames])

    def _pairs(self) -> TensorDict:
        """Random pairs of successive frames, uint8 (N, 2, 3, H, W), and rewards (N, 1)."""
        return self.replay.sample(_FIT_ROWS, 1, self._objective_keys(), 1)

    def _check_sentences(self, batch: TensorDict) -> None:
        """Once, and not for each batch: where behaviours are rare, some batch has none."""
        reads = self.pretrainer is not None and self.encoder.reads_text
        if reads and not any((batch[key] >= 0).any() for key in self._objective_keys()):
            raise ValueError(
                f"A text corpus without matches: no sentence holds in {_FIT_ROWS:,} random pairs of replay's frames. "
                "Collect rollouts with the observation 'behaviour', of a task that has sentences, or choose an encoder "
                "that reads no text."
            )

    def _objective_keys(self) -> tuple[str, ...]:
        return ("behaviour",) if "behaviour" in self.collector.observation.keys() else ()

    def _objective_arguments(self, batch: TensorDict, steps: int) -> tuple[Tensor, ...]:
        """The arguments of `Encoder.losses`, over the first `steps` actions of sequences."""
        frames = batch["frames"][:, : self.encoder.clip_frames + steps]
        behaviour = tuple(batch[key][:, 0] for key in self._objective_keys())
        return frames, batch["action"][:, :steps], batch["reward"][:, :steps], *behaviour
