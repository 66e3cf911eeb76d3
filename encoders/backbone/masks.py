"""Masks for pretraining: which tokens of a clip are hidden, and which the encoder sees."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mindreel.encoders.backbone.vit import ViTConfig


@dataclass(frozen=True)
class MaskConfig:
    """V-JEPA's multi-block masks: blocks of space, hidden through the whole clip."""

    blocks: int = 4
    """Blocks in a mask; they may overlap."""
    scale: float = 0.2
    """Share of the frame's area that one block covers."""
    aspect_min: float = 0.75
    """Least ratio of a block's height to its width."""
    aspect_max: float = 1.5
    """Greatest ratio of a block's height to its width."""
    visible: float = 0.4
    """Share of the tokens that the encoder sees: the same in every clip, so that clips form a batch."""
    motion: bool = True
    """Centre blocks where the clip differs from the mean frame, instead of anywhere."""

    def __post_init__(self):
        if self.blocks < 1 or not 0 < self.scale <= 1 or not 0 < self.aspect_min <= self.aspect_max:
            raise ValueError(
                "A mask needs blocks >= 1, 0 < scale <= 1 and 0 < aspect_min <= aspect_max, got "
                f"{self.blocks}, {self.scale}, {self.aspect_min} and {self.aspect_max}."
            )
        if not 0 < self.visible < 1:
            raise ValueError(f"visible must be between 0 and 1, got {self.visible}.")

    def visible_places(self, places: int) -> int:
        """Places of a frame, out of `places`, that stay visible: at least one, and one is left to hide."""
        return min(max(1, round(self.visible * places)), places - 1)


PUBLISHED_MASKS = (
    MaskConfig(blocks=8, scale=0.15, visible=0.25, motion=False),
    MaskConfig(blocks=2, scale=0.7, visible=0.1, motion=False),
)
"""The two masks under which V-JEPA and V-JEPA 2 hide every clip: about what their blocks leave free is visible."""


def sample_masks(config: MaskConfig, clips: Tensor, vit: ViTConfig) -> tuple[Tensor, Tensor]:
    """Draws a mask of blocks for each clip.

    Args:
        clips: normalised clips (B, F, 3, H, W), zero where nothing differs from the mean frame.

    Returns:
        indices of visible tokens (B, V) and of hidden tokens (B, M), V + M <= N. Tokens that are in no
        block and yet exceed V are left out of both.
    """
    _, rows, columns = vit.grid
    if config.motion:
        weight = motion_weight(clips, rows, columns)
    else:
        weight = torch.ones(clips.shape[0], rows * columns, device=clips.device)
    covered = cover(config, weight, rows, columns)
    visible, hidden = _split(covered.flatten(1), config.visible_places(rows * columns))
    return through_time(visible, vit), through_time(hidden, vit)


def sample_tubes(hidden: float, batch: int, vit: ViTConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draws VideoMAE's tubes: single places, hidden through the whole clip.

    Args:
        hidden: share of the places that is hidden; at least one is, and one is left.
        batch: clips, B.

    Returns:
        indices of visible tokens (B, V) and of hidden tokens (B, M), V + M = N.
    """
    _, rows, columns = vit.grid
    order = torch.rand(batch, rows * columns, device=device).argsort(1)
    count = min(max(1, round((1 - hidden) * rows * columns)), rows * columns - 1)
    return through_time(order[:, :count], vit), through_time(order[:, count:], vit)


def motion_weight(clips: Tensor, rows: int, columns: int) -> Tensor:
    """How likely a block is to be centred at each place, (B, rows * columns): more where clips (B, F, 3, H, W) move."""
    energy = clips.abs().mean((1, 2))  # (B, H, W)
    energy = energy.unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).mean((2, 4))  # (B, rows, columns)
    return energy.flatten(1) + 1e-3 + 0.1 * energy.flatten(1).mean(1, keepdim=True)


def cover(config: MaskConfig, weight: Tensor, rows: int, columns: int) -> Tensor:
    """The places that blocks cover, bool (B, rows, columns), their centres drawn by `weight` (B, rows * columns)."""
    batch, device = weight.shape[0], weight.device
    covered = torch.zeros(batch, rows, columns, dtype=torch.bool, device=device)
    row_index = torch.arange(rows, device=device)[None, :, None]
    column_index = torch.arange(columns, device=device)[None, None, :]
    for _ in range(config.blocks):
        aspect = torch.empty(batch, 1, 1, device=device).uniform_(config.aspect_min, config.aspect_max)
        area = config.scale * rows * columns
        height = (area * aspect).sqrt().round().clamp(1, rows)
        width = (area / aspect).sqrt().round().clamp(1, columns)
        centre = torch.multinomial(weight, 1).view(batch, 1, 1)
        top = (centre // columns - (height - 1) / 2).round().clamp(min=0).minimum(rows - height)
        left = (centre % columns - (width - 1) / 2).round().clamp(min=0).minimum(columns - width)
        inside_rows = (row_index >= top) & (row_index < top + height)
        covered |= inside_rows & (column_index >= left) & (column_index < left + width)
    return covered


def through_time(places: Tensor, vit: ViTConfig) -> Tensor:
    """Places of a frame (B, P) to the tokens there at all times: what is hidden at one and shown at another
    could be copied. (B, time * P)."""
    time, rows, columns = vit.grid
    start = torch.arange(time, device=places.device)[:, None] * rows * columns  # (time, 1)
    return (places[:, None] + start).flatten(1)


def show_only(clips: Tensor, visible: Tensor, vit: ViTConfig) -> Tensor:
    """Clips (B, F, 3, H, W) with zeros in place of all pixels outside the visible tokens (B, V)."""
    shown = torch.zeros(len(clips), vit.num_tokens, device=clips.device, dtype=clips.dtype)
    shown = shown.scatter(1, visible, 1.0).view(-1, *vit.grid)  # (B, time, rows, columns)
    for axis, size in ((1, vit.tubelet), (2, vit.patch), (3, vit.patch)):
        shown = shown.repeat_interleave(size, axis)
    return clips * shown.unsqueeze(2)


def distance_to_hidden(vit: ViTConfig, visible: Tensor, hidden: Tensor) -> Tensor:
    """How far each visible token (B, V) is from the nearest hidden one (B, M), in tokens: (B, V)."""
    places = torch.cartesian_prod(*(torch.arange(size, device=visible.device) for size in vit.grid)).float()  # (N, 3)
    return torch.cdist(places[visible], places[hidden]).amin(2)


def _split(covered: Tensor, visible_count: int) -> tuple[Tensor, Tensor]:
    """Equal numbers of visible and hidden places in every clip, from masks (B, places) of unequal size.

    The hidden count is the smallest of the batch. Where a mask covers so much that too few tokens stay
    free, the last visible places are taken from under it.
    """
    order = covered.float() + 0.5 * torch.rand_like(covered, dtype=torch.float32)  # free tokens first
    ranked = order.argsort(1)  # (B, N)
    hidden_count = min(int(covered.sum(1).min()), covered.shape[1] - visible_count)
    return ranked[:, :visible_count], ranked[:, covered.shape[1] - hidden_count :]
