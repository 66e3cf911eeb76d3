"""What every objective on the video transformer shares: normalised clips, a readout, auxiliary losses, a teacher."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from mindreel.encoders.backbone.frames import FrameEncoder, shifted
from mindreel.encoders.backbone.readout import EmbeddingReadout, fit_readout, make_readout
from mindreel.encoders.backbone.teacher import follow, teacher_of
from mindreel.encoders.backbone.vit import VideoTransformer, ViTConfig
from mindreel.encoders.encoder import check_frames, check_sequences, check_training_mode
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig, AuxiliaryLosses


@dataclass(frozen=True)
class VideoConfig:
    """The video transformer, and what the agent receives from it."""

    vit: ViTConfig = field(default_factory=ViTConfig)
    """The video transformer."""
    training_mode: str = "refresh"
    """frozen (pretrained once), refresh (again on the agent's rollouts), finetune (by the agent) or cotrain (both)."""
    readout: str = "compressed"
    """What the agent receives: compressed (principal components of the tokens), embedding (a trained head, on which
    losses act), pooled (their mean) or tokens."""
    embedding_dim: Annotated[int, Ge(1)] = 256
    """Width of a clip's embedding, and number of principal components of readout=compressed."""
    token_channels: Annotated[int, Ge(1)] = 16
    """Channels that each token is reduced to before the embedding reads all of them."""
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    """Auxiliary losses on the clip's embedding beside the objective's own loss."""
    random_shift: Annotated[int, Ge(0)] = 0
    """Pixels by which each training sequence is shifted at most, up or down and left or right; all its frames alike."""
    ema_start: Annotated[float, Interval(ge=0, le=1)] = 0.99
    """Decay of the teacher's moving average, if the objective has a teacher, at the beginning of pretraining."""
    ema_end: Annotated[float, Interval(ge=0, le=1)] = 1.0
    """Decay at the end of pretraining; equal to ema_start for a constant one."""


class Batch:
    """Sequences to learn from, and what several losses compute from them, each computed once and only when needed.

    Attributes:
        frames: all F + K frames, normalised, (B, F + K, 3, H, W).
        clip: the first F frames, newest last: the features describe the newest.
        after: the last F frames: the clip K actions later.
        action: (B, K, A).
        reward: (B, K).
        behaviour: index of the sentence that describes the clip's newest frame, int64 (B,); -1 where unknown.
    """

    def __init__(self, encoder: "VideoEncoder", frames: Tensor, action: Tensor, reward: Tensor, behaviour: Tensor):
        self._encoder = encoder
        self.frames, self.action, self.reward, self.behaviour = frames, action, reward, behaviour
        self.clip, self.after = frames[:, : encoder.clip_frames], frames[:, -encoder.clip_frames :]

    @cached_property
    def stem(self) -> Tensor:
        """The clip's tokens before any block, (B, N, D)."""
        return self._encoder.vit.embed(self.clip)

    @cached_property
    def tokens(self) -> Tensor:
        """The clip's tokens, (B, N, D)."""
        return self._encoder.vit.encode(self.stem)

    @cached_property
    def embedding(self) -> Tensor:
        """The clip's embedding, (B, E)."""
        return self._encoder.embed(self.tokens)

    @cached_property
    def embedding_after(self) -> Tensor:
        """The embedding of the clip K actions later, (B, E)."""
        return self._encoder.embed(self._encoder.vit(self.after))

    @cached_property
    def teacher_tokens(self) -> Tensor:
        """The teacher's tokens of the clip, without gradient, (B, N, D)."""
        assert self._encoder.teacher is not None
        with torch.no_grad():
            return self._encoder.teacher(self.clip)


class VideoEncoder(FrameEncoder):
    """A video transformer with a readout. A subclass adds its `objective`.

    Args:
        config: architecture, readout, auxiliary losses.
        action_dim: number of action dimensions, A.
        state_dim: not used; all encoders are made with the same arguments.

    Raises:
        ValueError: fields of the config are out of range or do not go together.
    """

    has_objective = True
    fits_readout = True
    needs_teacher = False
    """Whether the objective reads the teacher's tokens."""
    needs_embedding = False
    """Whether the objective reads the clip's embedding."""

    def __init__(self, config: VideoConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config.vit.image_size)
        check_training_mode(config.training_mode, ("frozen", "finetune", "refresh", "cotrain"))
        _check_config(config)
        vit, auxiliary = config.vit, config.auxiliary
        self.config, self.action_dim = config, action_dim
        self.clip_frames, self.token_grid, self.training_mode = vit.frames, vit.grid, config.training_mode
        self.vit = VideoTransformer(vit)
        sizes = vit.num_tokens, vit.dim, config.embedding_dim, config.token_channels
        self.readout = make_readout(config.readout, *sizes)
        self.feature_dim = self.readout.feature_dim
        # Losses act on an embedding whether or not the agent receives it.
        embeds, received = self.needs_embedding or auxiliary.active, isinstance(self.readout, EmbeddingReadout)
        if received and self.has_objective and not (embeds or self.trained_by_agent):
            raise ValueError(
                "Nothing would train the head of encoder.readout=embedding: choose readout=compressed, or switch on a "
                "loss of encoder.auxiliary."
            )
        self.head = EmbeddingReadout(*sizes) if embeds and not received else None
        self.auxiliary = None
        if auxiliary.active:
            self.auxiliary = AuxiliaryLosses(auxiliary, config.embedding_dim, action_dim, vit.image_size)
        self.teacher = teacher_of(self.vit) if self.needs_teacher or auxiliary.contrast_coef else None
        head = self.head or self.readout
        self.teacher_head: EmbeddingReadout | None = None
        if auxiliary.contrast_coef and isinstance(head, EmbeddingReadout):
            self.teacher_head = teacher_of(head)

    # ---- features ----

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), newest frame last, to features (B, feature_dim).

        Raises:
            ValueError: the clips are of another shape or type.
        """
        return self.readout(self.tokens(observation))

    def tokens(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W) to tokens (B, N, D), ordered by time, row, column."""
        self._check(observation, self.clip_frames)
        return self.vit(self.normalise(observation))

    def monitored_features(self, observation: Tensor) -> Tensor:
        """Features that show a collapse, (B, width): those of `Readout.monitored_features`."""
        return self.readout.monitored_features(self.tokens(observation))

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) to the embeddings (B, E) that losses act on."""
        head = self.head or self.readout
        assert isinstance(head, EmbeddingReadout)
        return head.embedding(tokens)

    def _check(self, frames: Tensor, count: int) -> None:
        check_frames(frames, count, self.config.vit.image_size, self.config.vit.image_size)

    # ---- fitted to rollouts ----

    def fit_targets(self, frames: Tensor, reward: Tensor) -> None:
        """Sets the targets of the auxiliary losses from frames uint8 (N, 2, 3, H, W) and rewards (N,)."""
        if self.auxiliary is not None:
            self.auxiliary.fit(self.normalise(frames), reward)

    def fit_readout(self, clips: Tensor) -> None:
        """Fits the readout to the tokens of clips, uint8 (N, F, 3, H, W)."""
        fit_readout(self.readout, self.tokens, clips)

    # ---- objective ----

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's own losses by name, already weighted."""
        raise NotImplementedError

    def losses(
        self, frames: Tensor, action: Tensor, reward: Tensor, behaviour: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The objective's own losses and the auxiliary ones, as in `Encoder.losses`.

        Raises:
            ValueError: frames, actions or rewards are of another shape, or frames of another type; or every
                coefficient is 0.
        """
        check_sequences(frames, action, reward, self.action_dim)
        self._check(frames, self.clip_frames + action.shape[1])
        if behaviour is None:
            behaviour = torch.full(frames.shape[:1], -1, device=frames.device)
        seen = self.normalise(frames)
        if self.config.random_shift:
            seen = shifted(seen, self.config.random_shift)
        batch = Batch(self, seen, action, reward, behaviour)
        losses = self.objective(batch) | self._auxiliary_losses(batch)
        if not losses:
            raise ValueError(
                "Every coefficient of the encoder's losses is 0, so there is nothing to learn from: raise one, or "
                "choose encoder=untrained."
            )
        return losses

    def _auxiliary_losses(self, batch: Batch) -> dict[str, Tensor]:
        if self.auxiliary is None:
            return {}
        teacher_embeddings = None
        if self.teacher is not None and self.teacher_head is not None:
            with torch.no_grad():
                head = self.teacher_head.embedding
                teacher_embeddings = head(batch.teacher_tokens), head(self.teacher(batch.after))
        after = batch.embedding_after if self.config.auxiliary.inverse_coef else None
        recent = batch.frames[:, max(0, self.clip_frames - 2) :]  # the clip's last two frames and the K that follow
        return self.auxiliary(batch.embedding, recent, batch.action, batch.reward, teacher_embeddings, after)

    def update_teacher(self, progress: float) -> None:
        """Moves the teacher towards the encoder; `progress` in [0, 1] is the fraction of pretraining done."""
        decay = self.config.ema_start + (self.config.ema_end - self.config.ema_start) * progress
        if self.teacher is not None:
            follow(self.teacher, self.vit, decay)
        if self.teacher_head is not None:
            follow(self.teacher_head, self.head or self.readout, decay)


def _check_config(config: VideoConfig) -> None:
    if min(config.embedding_dim, config.token_channels) < 1 or config.random_shift < 0:
        raise ValueError(
            "encoder.embedding_dim and token_channels must be 1 or more and random_shift 0 or more, got "
            f"{config.embedding_dim}, {config.token_channels} and {config.random_shift}."
        )
    if not 0 <= config.ema_start <= 1 or not 0 <= config.ema_end <= 1:
        raise ValueError(
            f"encoder.ema_start and ema_end must be between 0 and 1, got {config.ema_start} and {config.ema_end}."
        )
    if config.auxiliary.future_coef and config.vit.frames < 2:
        raise ValueError(
            "encoder.auxiliary.future_coef predicts changes between frames: encoder.vit.frames must be 2 or more, got "
            f"{config.vit.frames}."
        )


@dataclass(frozen=True)
class UntrainedConfig(VideoConfig):
    """The video transformer as it is initialised, frozen."""

    training_mode: str = "frozen"
    """Only frozen."""


class UntrainedEncoder(VideoEncoder):
    """A video transformer that is never trained: the baseline that pretraining has to beat."""

    has_objective = False

    def __init__(self, config: UntrainedConfig, action_dim: int, state_dim: int = 0):
        check_training_mode(config.training_mode, ("frozen",))
        super().__init__(config, action_dim, state_dim)
