"""InternVideo2 on an agent's rollouts: first a teacher's tokens, then sentences, then labels.

Wang et al. 2024, in three stages of pretraining:
1. Four fifths of a clip's tokens are hidden, more often those where nothing moves. Each visible token, through a linear
   projector, has to match the token of a frozen teacher at the same place of the whole clip: the loss is the squared
   distance of the two at length 1, which is twice 1 minus their cosine.
2. Clips are aligned with the sentences that describe them.
3. The network classifies which sentence describes a clip. Classification stands in for the paper's third stage, which
   trains a language model on the video's tokens.

A task has few sentences where the paper has millions. By themselves they would squeeze all clips into as many
directions as there are sentences, and the tokens would lose everything else. So the teacher is matched in stages 2 and
3 as well; match_later=0 switches that off.

The teacher is any encoder of frames, set by `set_teacher`. Without one, the frozen untrained network is the teacher:
it cannot cause a collapse, but there is little to learn from it. Each refresh runs through all stages. While the
encoder is trained beside an agent (training_mode=cotrain) the last stage lasts, since no end is known.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.masks import motion_weight, show_only, through_time
from mindreel.encoders.backbone.teacher import teacher_of
from mindreel.encoders.backbone.vit import ViTConfig, gather_tokens
from mindreel.encoders.encoder import Encoder
from mindreel.encoders.objectives.sentences import TextConfig, TextHeads
from mindreel.encoders.objectives.video_encoder import Batch, VideoConfig, VideoEncoder

Grid = tuple[int, int, int]
"""Tokens along time, height and width."""


@dataclass(frozen=True)
class InternVideo2Config(VideoConfig):
    """InternVideo2: a teacher's tokens, then sentences, then labels."""

    teacher: str = ""
    """Folder of the run whose encoder is the teacher, or a public checkpoint as for encoder=pretrained; empty for this
    network before training."""
    text: TextConfig = field(default_factory=TextConfig)
    """How clips are compared with sentences."""
    visible: float = 0.2
    """Fraction of a frame's places that the encoder sees in stage 1."""
    stage1_fraction: float = 0.6
    """Fraction of pretraining that is stage 1, which matches the teacher."""
    stage2_fraction: float = 0.2
    """Fraction of pretraining that is stage 2, which aligns clips with sentences; the rest is stage 3."""
    match_later: Annotated[float, Ge(0)] = 1.0
    """Weight of matching the teacher in stages 2 and 3; 0 switches it off there."""

    def __post_init__(self):
        if not 0 < self.visible <= 1:
            raise ValueError(f"encoder.visible must be above 0 and at most 1, got {self.visible}.")
        if min(self.stage1_fraction, self.stage2_fraction) < 0 or self.stage1_fraction + self.stage2_fraction > 1:
            raise ValueError(
                "encoder.stage1_fraction and stage2_fraction must be 0 or more and together at most 1, got "
                f"{self.stage1_fraction} and {self.stage2_fraction}."
            )


class InternVideo2(VideoEncoder):
    """The video transformer with InternVideo2's objective."""

    needs_sentences = True
    needs_embedding = True
    config: InternVideo2Config
    progress: Tensor

    def __init__(self, config: InternVideo2Config, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        self.register_buffer("progress", torch.zeros(()))
        self.projector = nn.Linear(config.vit.dim, config.vit.dim)
        self.text = TextHeads(config.text, config.embedding_dim)
        self.needs_sentences = config.stage1_fraction < 1
        self.untrained = None if config.teacher else teacher_of(self.vit)
        # In a tuple, so that its weights are no part of this encoder's: reading features takes no teacher.
        self._external_teacher: tuple[Encoder, Tensor] | None = None

    @property
    def stage(self) -> int:
        """Stage of pretraining: 1, 2 or 3."""
        done, config = float(self.progress), self.config
        if done < config.stage1_fraction:
            return 1
        return 2 if done < config.stage1_fraction + config.stage2_fraction else 3

    def update_teacher(self, progress: float) -> None:
        """Records how much of pretraining is done, which decides the stage."""
        super().update_teacher(progress)
        self.progress.fill_(progress)

    def enter_last_stage(self) -> None:
        """Enters stage 3, which lasts until `update_teacher` is called with less progress."""
        self.progress.fill_(1.0)

    def set_sentences(self, sentences: tuple[str, ...]) -> None:
        """Embeds the sentences that `behaviour` indexes; called once, before `losses`."""
        self.text.set_sentences(sentences)

    @torch.no_grad()
    def set_teacher(self, teacher: Encoder) -> None:
        """Sets the encoder whose tokens are matched, and freezes it. It must be on this encoder's device.

        Raises:
            ValueError: it reads no frames, more frames than this encoder, or frames of another size.
        """
        if not 1 <= teacher.clip_frames <= self.clip_frames:
            raise ValueError(
                f"A teacher has to read between 1 and encoder.vit.frames={self.clip_frames} frames, and this one reads "
                f"{teacher.clip_frames}: choose another encoder.teacher, or longer clips."
            )
        teacher.eval().requires_grad_(False)
        side, device = self.config.vit.image_size, self.mean_frame.device
        blank = torch.zeros(1, teacher.clip_frames, 3, side, side, dtype=torch.uint8, device=device)
        try:
            width = teacher.tokens(blank).shape[-1]
        except ValueError as error:
            raise ValueError(
                f"encoder.teacher has to read this encoder's frames of {side} by {side} pixels, and cannot: {error}"
            ) from error
        # A fixed random projection of the teacher's features to this encoder's width. It keeps all cosines if the
        # teacher is no wider than this encoder.
        projection = nn.init.orthogonal_(
            torch.empty(width, self.config.vit.dim), generator=torch.Generator().manual_seed(0)
        )
        self._external_teacher = teacher, projection.to(device)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the present stage; those of text are 0 if no clip of the batch has a sentence.

        Raises:
            ValueError: `set_sentences` was not called, or a behaviour of the batch is not among its sentences. Stage 1
                checks this for the later stages.
        """
        if self.needs_sentences:
            self.text.check(batch.behaviour)
        stage, losses = self.stage, {}
        weight = 1.0 if stage == 1 else self.config.match_later
        if weight:
            losses["match_loss"] = weight * self._match_loss(batch)
        if stage == 2:
            losses["text_loss"] = self.text.contrast_loss(batch.embedding, batch.behaviour)
        if stage == 3:
            losses["label_loss"] = self.text.label_loss(batch.embedding, batch.behaviour)
        return losses

    def _match_loss(self, batch: Batch) -> Tensor:
        vit = self.config.vit
        visible = sample_moving(self.config.visible, batch.clip, vit)  # (B, V)
        # The stem sees beyond each patch, so hidden pixels are set to zero before it.
        matched = self.projector(self.vit(show_only(batch.clip, visible, vit), visible))  # (B, V, D)
        return unit_distance(matched, gather_tokens(self._targets(batch.clip), visible))

    @torch.no_grad()
    def _targets(self, clip: Tensor) -> Tensor:
        """The teacher's tokens of whole clips, on this encoder's grid: (B, F, 3, H, W) -> (B, N, D)."""
        if self.untrained is not None:
            return self.untrained(clip)
        if self._external_teacher is None:
            raise ValueError(f"encoder.teacher={self.config.teacher} is not set: call set_teacher before training.")
        teacher, projection = self._external_teacher
        frames = (clip * self.pixel_std + self.mean_frame).round().clamp(0, 255).byte()
        tokens = teacher.tokens(frames[:, -teacher.clip_frames :])
        tokens = F.layer_norm(tokens, tokens.shape[-1:]) @ projection
        times, rows, columns = teacher.token_grid
        grid = (times - teacher.padding_times, rows, columns)
        return resampled(tokens[:, -math.prod(grid) :], grid, self.token_grid)


def sample_moving(fraction: float, clip: Tensor, vit: ViTConfig) -> Tensor:
    """Draws a fraction of the places of clips (B, F, 3, H, W), more often where they move: tokens (B, V), all times."""
    _, rows, columns = vit.grid
    count = max(1, round(fraction * rows * columns))
    return through_time(torch.multinomial(motion_weight(clip, rows, columns), count), vit)


def unit_distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance between tokens (B, V, D) normalised to length 1: between 0 and 4."""
    return (F.normalize(one, dim=-1) - F.normalize(other, dim=-1)).pow(2).sum(-1).mean()


def resampled(tokens: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Tokens (B, N, D) of one grid at the places of another: averaged where that is coarser, else interpolated."""
    if grid == wanted:
        return tokens
    volume = rearrange(tokens, "b (t h w) d -> b d t h w", t=grid[0], h=grid[1])
    times, rows, columns = (min(sizes) for sizes in zip(grid, wanted, strict=True))
    volume = F.interpolate(F.adaptive_avg_pool3d(volume, (times, rows, columns)), wanted, mode="trilinear")
    return rearrange(volume, "b d t h w -> b (t h w) d")
