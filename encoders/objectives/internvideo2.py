"""InternVideo2 on an agent's rollouts: first a teacher's tokens, then sentences, then labels.

Wang et al. 2024, in three stages that follow each other as pretraining goes on:
1. Four fifths of a clip's tokens are hidden, more often those where nothing moves. Each token that is left has to
   match, through a linear projector, what a frozen teacher makes of the whole clip at the same place: the squared
   distance of the two at length 1, which is twice 1 minus their cosine.
2. Clips are aligned with the sentences that say what happens in them.
3. The network is tuned to tell which sentence it is. The paper's third stage trains a language model on the video's
   tokens; labels take its place.

A task has few sentences, where the paper has millions: alone they squeeze all clips into as few directions as there
are sentences, and what else the tokens knew is lost. So the teacher goes on being matched beside stages 2 and 3;
match_later=0 ends that.

The teacher is any encoder that sees frames, handed in by `set_teacher`. Without one the network as it was before
training teaches, frozen: nothing can collapse towards it, but there is little to learn from it, and on the moving dot
of the tests as many steps end at chance that end at certainty with a trained teacher. A refresh runs through the
stages again; beside an agent (training_mode=cotrain), where no end is known, the last stage goes on.
"""

import math
from dataclasses import dataclass, field

import torch
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
    """Folder of the run whose encoder teaches, or a public checkpoint as encoder=pretrained reads it; empty for this
    network as it is before training."""
    text: TextConfig = field(default_factory=TextConfig)
    """How clips are compared with sentences."""
    visible: float = 0.2
    """Share of a frame's places that the encoder sees in stage 1."""
    stage1_fraction: float = 0.6
    """Share of pretraining that matches the teacher."""
    stage2_fraction: float = 0.2
    """Share of it, after that, that aligns clips with sentences; what is left tells behaviours."""
    match_later: float = 1.0
    """Weight of matching the teacher in stages 2 and 3 too; 0 for each stage by itself."""

    def __post_init__(self):
        if not 0 < self.visible <= 1:
            raise ValueError(f"visible is a share above 0 and up to 1, got {self.visible}.")
        if min(self.stage1_fraction, self.stage2_fraction) < 0 or self.stage1_fraction + self.stage2_fraction > 1:
            raise ValueError(
                "stage1_fraction and stage2_fraction are shares of pretraining and together 1 at most, got "
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
        # In a tuple, and so no part of this encoder's own weights: those who only read features need no teacher.
        self._external_teacher: tuple[Encoder, Tensor] | None = None

    @property
    def stage(self) -> int:
        """1, 2 or 3."""
        done, config = float(self.progress), self.config
        if done < config.stage1_fraction:
            return 1
        return 2 if done < config.stage1_fraction + config.stage2_fraction else 3

    def update_teacher(self, progress: float) -> None:
        """Takes note of how far pretraining is, which decides the stage."""
        super().update_teacher(progress)
        self.progress.fill_(progress)

    def enter_last_stage(self) -> None:
        """Goes on as at the end of pretraining, until `update_teacher` says otherwise."""
        self.progress.fill_(1.0)

    def set_sentences(self, sentences: tuple[str, ...]) -> None:
        """Embeds the sentences that `behaviour` counts through; called once, before `losses`."""
        self.text.read(sentences)

    @torch.no_grad()
    def set_teacher(self, teacher: Encoder) -> None:
        """Takes the encoder whose tokens are matched in stage 1; it must be on this one's device, and is frozen.

        Raises:
            ValueError: it sees no frames, more of them than this encoder, or frames of another size.
        """
        if not 1 <= teacher.clip_frames <= self.clip_frames:
            raise ValueError(
                f"A teacher has to see between 1 and encoder.vit.frames={self.clip_frames} frames, this one sees "
                f"{teacher.clip_frames}: choose another, or longer clips."
            )
        teacher.eval().requires_grad_(False)
        side, device = self.config.vit.image_size, self.mean_frame.device
        blank = torch.zeros(1, teacher.clip_frames, 3, side, side, dtype=torch.uint8, device=device)
        try:
            width = teacher.tokens(blank).shape[-1]
        except ValueError as error:
            raise ValueError(
                f"encoder.teacher is to read this encoder's frames of {side} by {side} pixels, and cannot: {error}"
            ) from error
        # The teacher's features, whatever their number, turned into as many as a token here has: without loss up
        # to that number (all cosines stay), and from there on into directions drawn once and for all.
        turn = nn.init.orthogonal_(torch.empty(width, self.config.vit.dim), generator=torch.Generator().manual_seed(0))
        self._external_teacher = teacher, turn.to(device)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the present stage; those of text are 0 where no clip of the batch has a sentence.

        Raises:
            ValueError: no sentences were read, or fewer than the batch's behaviours point to; in stage 1 already,
                since the others would fail later.
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
        visible = moving_tokens(self.config.visible, batch.clip, vit)  # (B, V)
        # The stem sees beyond each patch, so hidden pixels are zeroed before it.
        matched = self.projector(self.vit(show_only(batch.clip, visible, vit), visible))  # (B, V, D)
        return unit_distance(matched, gather_tokens(self._targets(batch.clip), visible))

    @torch.no_grad()
    def _targets(self, clip: Tensor) -> Tensor:
        """The teacher's tokens of whole clips, on this encoder's grid: (B, F, 3, H, W) -> (B, N, D)."""
        if self.untrained is not None:
            return self.untrained(clip)
        if self._external_teacher is None:
            raise ValueError(f"encoder.teacher={self.config.teacher} was not handed over: call set_teacher first.")
        teacher, turn = self._external_teacher
        seen = (clip * self.pixel_std + self.mean_frame).round().clamp(0, 255).byte()  # as they came
        tokens = teacher.tokens(seen[:, -teacher.clip_frames :])
        tokens = F.layer_norm(tokens, tokens.shape[-1:]) @ turn
        times, rows, columns = teacher.token_grid
        shown = (times - teacher.padding_times, rows, columns)
        return on_grid(tokens[:, -math.prod(shown) :], shown, self.token_grid)


def moving_tokens(share: float, clip: Tensor, vit: ViTConfig) -> Tensor:
    """Draws a share of the places of clips (B, F, 3, H, W), more often where they move: tokens (B, V) of all times."""
    _, rows, columns = vit.grid
    count = max(1, round(share * rows * columns))
    return through_time(torch.multinomial(motion_weight(clip, rows, columns), count), vit)


def unit_distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance between tokens (B, V, D) brought to length 1: between 0 and 4."""
    return (F.normalize(one, dim=-1) - F.normalize(other, dim=-1)).pow(2).sum(-1).mean()


def on_grid(tokens: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Tokens (B, N, D) of one grid, at the places of another: averaged where it is coarser, else interpolated."""
    if grid == wanted:
        return tokens
    volume = tokens.transpose(1, 2).unflatten(2, grid)  # (B, D, time, rows, columns)
    times, rows, columns = (min(sizes) for sizes in zip(grid, wanted, strict=True))
    volume = F.interpolate(F.adaptive_avg_pool3d(volume, (times, rows, columns)), wanted, mode="trilinear")
    return volume.flatten(2).transpose(1, 2)
