"""V-JEPA on an agent's rollouts: predict hidden tokens of a clip in feature space, with a moving-average teacher.

Bardes et al. 2024 (V-JEPA), Assran et al. 2025 (V-JEPA 2), Mur-Labadia et al. 2026 (V-JEPA 2.1). Alone it learns
little about small moving bodies before a still background: predicting the background is enough. So frames come
with their mean taken off, the hidden blocks lie where things move, and the terms of auxiliary.py act on the
clip's embedding, which is what the agent receives.

Of version 2.1 come, as options, the loss on visible tokens and the supervision of several layers. Version 2's
constant share of the teacher is ema_start = ema_end = 0.99925.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.backbone.masks import PUBLISHED_MASKS, MaskConfig, distance_to_hidden, sample_masks
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
    """Terms on the clip's embedding beside V-JEPA's own loss."""
    masks: MaskConfig = field(default_factory=MaskConfig)
    """Which tokens are hidden from the encoder and predicted."""
    published_masks: bool = False
    """Hide each clip twice, by 8 blocks of 15% and by 2 of 70% anywhere, as in the papers, in place of masks."""
    predictor_dim: int = 64
    """Width of the predictor of hidden tokens."""
    predictor_depth: int = 1
    """Transformer blocks of that predictor."""
    random_shift: int = 4
    """Pixels that the frames of each sequence are moved by while it is learned from, at most, up or down and left or
    right; all of them by the same."""
    ema_start: float = 0.95
    """Share of the teacher that is kept at each step, at the beginning of pretraining."""
    ema_end: float = 0.995
    """The same at its end; equal to ema_start for a constant share."""
    jepa_coef: float = 1.0
    """Weight of V-JEPA's own loss."""
    jepa_fraction: float = 0.5
    """Share of a batch's clips that V-JEPA's own loss is computed on; it costs as much as all other terms."""
    visible_coef: float = 0.0
    """Weight, within it, of the error at visible tokens, which falls off with the distance to hidden ones (2.1)."""
    levels: int = 1
    """Depths of the transformer, equally far apart, whose outputs are predicted (2.1); 1 is the last alone."""

    def __post_init__(self):
        if not 0 < self.jepa_fraction <= 1:
            raise ValueError(f"jepa_fraction is a share above 0 and up to 1, got {self.jepa_fraction}.")
        if not 1 <= self.levels <= max(1, self.vit.depth):
            raise ValueError(f"levels counts blocks of the transformer, 1 to {self.vit.depth}, got {self.levels}.")


class VJEPA(VideoEncoder):
    """The video transformer with V-JEPA's objective."""

    needs_teacher = True
    config: VJEPAConfig

    def __init__(self, config: VJEPAConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        wide = config.levels * config.vit.dim
        self.predictor = TokenPredictor(config.vit, config.predictor_dim, config.predictor_depth, wide, wide)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """L1 at hidden tokens, over a share of the batch."""
        config = self.config
        if not config.jepa_coef:
            return {}
        count = max(1, round(config.jepa_fraction * len(batch.clip)))
        clip, stem = batch.clip[:count], batch.stem[:count]
        target = self._target(batch, count)
        groups = PUBLISHED_MASKS if config.published_masks else (config.masks,)
        losses = [self._masked_loss(stem, target, *sample_masks(masks, clip, config.vit)) for masks in groups]
        return {"vjepa_loss": config.jepa_coef * torch.stack(losses).mean()}

    @torch.no_grad()
    def _target(self, batch: Batch, count: int) -> Tensor:
        """The teacher's layer-normed outputs at each of L levels, side by side, of the first clips: (count, N, L D)."""
        levels, dim = self.config.levels, self.config.vit.dim
        assert self.teacher is not None
        if levels == 1:
            tokens = batch.teacher_tokens[:count]
        else:
            tokens = self.teacher.encode(self.teacher.embed(batch.clip[:count]), levels=levels)
        return F.layer_norm(tokens.unflatten(-1, (levels, dim)), (dim,)).flatten(-2)

    def _masked_loss(self, stem: Tensor, target: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """The error of one mask: stem tokens (B, N, D), targets (B, N, L D), indices (B, V) and (B, M)."""
        config = self.config
        context = self.vit.encode(stem, visible, config.levels)  # (B, V, L D)
        predicted = self.predictor(context, visible, hidden)  # (B, V + M, L D)
        count = visible.shape[1]
        loss = (predicted[:, count:] - gather_tokens(target, hidden)).abs().mean()
        if config.visible_coef:
            weight = distance_to_hidden(config.vit, visible, hidden).rsqrt()  # (B, V)
            error = (predicted[:, :count] - gather_tokens(target, visible)).abs().mean(-1)
            loss = loss + config.visible_coef * (weight * error).mean()
        return loss
