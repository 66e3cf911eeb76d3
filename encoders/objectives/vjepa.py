"""V-JEPA on an agent's rollouts: predict hidden tokens of a clip in feature space, with a moving-average teacher.

Bardes et al. 2024 (V-JEPA), Assran et al. 2025 (V-JEPA 2), Mur-Labadia et al. 2026 (V-JEPA 2.1). By itself it learns
little about small moving bodies in front of a still background, because predicting the background is enough.
Therefore the mean frame is subtracted, hidden blocks lie where things move, and auxiliary losses act on the clip's
embedding.

Options from version 2.1: the loss on visible tokens, and predicting the outputs of several layers. The constant decay
of version 2's teacher is ema_start = ema_end = 0.99925.
"""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.masks import (
    PUBLISHED_MASKS,
    MaskConfig,
    distance_to_hidden,
    sample_masks,
    sample_published_masks,
)
from mindreel.encoders.backbone.predictor import TokenPredictor
from mindreel.encoders.backbone.vit import gather_tokens
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig
from mindreel.encoders.objectives.video_encoder import Batch, VideoConfig, VideoEncoder


@dataclass(frozen=True)
class VJEPAConfig(VideoConfig):
    """V-JEPA pretrained on the agent's own rollouts."""

    auxiliary: AuxiliaryConfig = field(
        default_factory=lambda: AuxiliaryConfig(future_coef=1.0, contrast_coef=1.0, reward_coef=1.0)
    )
    """Auxiliary losses on the clip's embedding beside V-JEPA's own loss."""
    masks: MaskConfig = field(default_factory=MaskConfig)
    """Which tokens are hidden from the encoder and predicted."""
    published_masks: bool = False
    """Instead of `masks`, hide each clip twice as the papers do: by 8 blocks of 15%, and by 2 blocks of 70%."""
    predictor_dim: Annotated[int, Ge(1)] = 64
    """Width of the predictor of hidden tokens."""
    predictor_depth: Annotated[int, Ge(1)] = 1
    """Transformer blocks of that predictor."""
    random_shift: Annotated[int, Ge(0)] = 4
    """Pixels by which each training sequence is shifted at most, up or down and left or right; all its frames alike."""
    ema_start: Annotated[float, Interval(ge=0, le=1)] = 0.95
    """Decay of the teacher's moving average at the beginning of pretraining."""
    ema_end: Annotated[float, Interval(ge=0, le=1)] = 0.995
    """Decay at the end of pretraining; equal to ema_start for a constant one."""
    jepa_coef: Annotated[float, Ge(0)] = 1.0
    """Weight of V-JEPA's own loss."""
    jepa_fraction: float = 0.5
    """Fraction of a batch's clips that V-JEPA's own loss is computed on; it costs as much as all other losses."""
    visible_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of the error at visible tokens within V-JEPA's own loss; it falls off with their distance to hidden ones
    (version 2.1)."""
    levels: int = 1
    """Number of evenly spaced layers whose outputs are predicted (version 2.1); 1 is the last layer alone."""

    @property
    def num_masks(self) -> int:
        """Number of masks under which each clip is encoded."""
        return len(PUBLISHED_MASKS) if self.published_masks else 1

    def __post_init__(self):
        if not 0 < self.jepa_fraction <= 1:
            raise ValueError(f"encoder.jepa_fraction must be above 0 and at most 1, got {self.jepa_fraction}.")
        if not 1 <= self.levels <= max(1, self.vit.depth):
            raise ValueError(
                "encoder.levels counts blocks of the transformer, so it must be 1 to "
                f"{self.vit.depth}, got {self.levels}."
            )


class VJEPA(VideoEncoder):
    """The video transformer with V-JEPA's objective."""

    needs_teacher = True
    config: VJEPAConfig

    def __init__(self, config: VJEPAConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        wide = config.levels * config.vit.dim
        sizes = config.predictor_dim, config.predictor_depth, wide, wide
        self.predictor = TokenPredictor(config.vit, *sizes, num_masks=config.num_masks)
        if config.published_masks:
            nn.init.zeros_(self.predictor.mask_tokens)  # as published

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """L1 error at hidden tokens, over a fraction of the batch."""
        config = self.config
        if not config.jepa_coef:
            return {}
        count = max(1, round(config.jepa_fraction * len(batch.clip)))
        clip, stem = batch.clip[:count], batch.stem[:count]
        target = self._target(batch, count)
        if config.published_masks:
            drawn = [sample_published_masks(mask, count, config.vit, clip.device) for mask in PUBLISHED_MASKS]
        else:
            drawn = [sample_masks(config.masks, clip, config.vit)]
        losses = [self._masked_loss(stem, target, *mask, number) for number, mask in enumerate(drawn)]
        return {"vjepa_loss": config.jepa_coef * torch.stack(losses).mean()}

    @torch.no_grad()
    def _target(self, batch: Batch, count: int) -> Tensor:
        """The teacher's layer-normed outputs at L levels, concatenated, for the first clips: (count, N, L * D)."""
        levels, dim = self.config.levels, self.config.vit.dim
        assert self.teacher is not None
        if levels == 1:
            tokens = batch.teacher_tokens[:count]
        else:
            tokens = self.teacher.encode(self.teacher.embed(batch.clip[:count]), levels=levels)
        tokens = F.layer_norm(rearrange(tokens, "b n (levels d) -> b n levels d", levels=levels), (dim,))
        return rearrange(tokens, "b n levels d -> b n (levels d)")

    def _masked_loss(self, stem: Tensor, target: Tensor, visible: Tensor, hidden: Tensor, number: int) -> Tensor:
        """The loss under one mask.

        Args:
            stem: tokens before any block, (B, N, D).
            target: the teacher's tokens, (B, N, L * D).
            visible: indices (B, V).
            hidden: indices (B, M).
            number: of the mask, which has a mask token of its own.
        """
        config = self.config
        context = self.vit.encode(stem, visible, config.levels)  # (B, V, L * D)
        predicted = self.predictor(context, visible, hidden, number)  # (B, V + M, L * D)
        count = visible.shape[1]
        loss = (predicted[:, count:] - gather_tokens(target, hidden)).abs().mean()
        if config.visible_coef:
            weight = distance_to_hidden(config.vit, visible, hidden).rsqrt()  # (B, V)
            error = (predicted[:, :count] - gather_tokens(target, visible)).abs().mean(-1)
            loss = loss + config.visible_coef * (weight * error).mean()
        return loss
