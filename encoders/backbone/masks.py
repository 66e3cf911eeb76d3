"""Masks for pretraining: which tokens of a clip are hidden, and which the encoder sees."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from mindreel.encoders.backbone.vit import ViTConfig


@dataclass(frozen=True)
class MaskConfig:
    """V-JEPA's multi-block masks: rectangles of places, hidden in every frame of the clip."""

    blocks: int = 4
    """Blocks in a mask; they may overlap."""
    scale: float = 0.2
    """Fraction of the frame's area that one block covers."""
    aspect_min: float = 0.75
    """Smallest ratio of a block's height to its width."""
    aspect_max: float = 1.5
    """Largest ratio of a block's height to its width."""
    visible: float = 0.4
    """Fraction of the tokens that the encoder sees, the same for every clip, so that clips form a batch."""
    motion: bool = True
    """Place blocks preferably where the clip differs from the mean frame; otherwise anywhere."""

    def __post_init__(self):
        if self.blocks < 1 or not 0 < self.scale <= 1 or not 0 < self.aspect_min <= self.aspect_max:
            raise ValueError(
                "A mask needs blocks >= 1, 0 < scale <= 1 and 0 < aspect_min <= aspect_max, got "
                f"{self.blocks}, {self.scale}, {self.aspect_min} and {self.aspect_max}."
            )
        if not 0 < self.visible < 1:
            raise ValueError(f"visible must be between 0 and 1, got {self.visible}.")

    def visible_places(self, places: int) -> int:
        """Number of a frame's `places` that stay visible: at least one, and fewer than all."""
        return min(max(1, round(self.visible * places)), places - 1)


class PublishedMask(NamedTuple):
    """Blocks of one of the masks of V-JEPA and V-JEPA 2, with aspect ratios from 0.75 to 1.5."""

    blocks: int
    scale: float
    """Fraction of the frame's area that one block covers."""


PUBLISHED_MASKS = (PublishedMask(8, 0.15), PublishedMask(2, 0.7))
"""The two masks that V-JEPA and V-JEPA 2 apply to every clip."""
_ATTEMPTS = 50  # at masks that leave a place free


def sample_masks(config: MaskConfig, clips: Tensor, vit: ViTConfig) -> tuple[Tensor, Tensor]:
    """Draws a mask of blocks for each clip.

    Args:
        config: number, size and shape of the blocks, and how many tokens are visible.
        clips: normalised clips (B, F, 3, H, W), zero where they equal the mean frame.
        vit: the transformer, for its grid of tokens.

    Returns:
        indices of visible tokens (B, V) and of hidden tokens (B, M), V + M <= N. Clips have equal numbers of both,
        so some tokens of a clip may be in neither.
    """
    _, rows, columns = vit.grid
    if config.motion:
        weight = motion_weight(clips, rows, columns)
    else:
        weight = torch.ones(clips.shape[0], rows * columns, device=clips.device)
    covered = cover(config, weight, rows, columns)
    visible, hidden = _split(covered.flatten(1), config.visible_places(rows * columns))
    return through_time(visible, vit), through_time(hidden, vit)


def sample_published_masks(
    mask: PublishedMask, batch: int, vit: ViTConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draws masks as V-JEPA and V-JEPA 2 do: what a mask's blocks leave free is visible.

    Clips are brought to equal numbers of visible and of hidden tokens, the smallest of the batch, by leaving out random
    places. The original leaves out the last ones, which are then learned less.

    Args:
        mask: number and size of the blocks.
        batch: number of clips, B.
        vit: the transformer, for its grid of tokens.
        device: where the indices are needed.

    Returns:
        indices of visible tokens (B, V) and of hidden tokens (B, M), V + M <= N.
    """
    covered = rearrange(cover_as_published(mask, batch, vit, device), "b rows columns -> b (rows columns)")
    visible, hidden = _split(covered, max(1, int((~covered).sum(1).min())))
    return through_time(visible, vit), through_time(hidden, vit)


def sample_tubes(hidden: float, batch: int, vit: ViTConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draws VideoMAE's tubes: single places, hidden in every frame of the clip.

    Args:
        hidden: fraction of the places that is hidden; at least one place is hidden and one visible.
        batch: number of clips, B.
        vit: the transformer, for its grid of tokens.
        device: where the indices are needed.

    Returns:
        indices of visible tokens (B, V) and of hidden tokens (B, M), V + M = N.
    """
    _, rows, columns = vit.grid
    order = torch.rand(batch, rows * columns, device=device).argsort(1)
    count = min(max(1, round((1 - hidden) * rows * columns)), rows * columns - 1)
    return through_time(order[:, :count], vit), through_time(order[:, count:], vit)


def motion_weight(clips: Tensor, rows: int, columns: int) -> Tensor:
    """Weights by which places are drawn, (B, rows * columns): larger where clips (B, F, 3, H, W) differ from zero."""
    energy = reduce(clips.abs(), "b f c h w -> b h w", "mean")
    energy = reduce(energy, "b (rows h) (columns w) -> b rows columns", "mean", rows=rows, columns=columns)
    energy = rearrange(energy, "b rows columns -> b (rows columns)")
    return energy + 1e-3 + 0.1 * energy.mean(1, keepdim=True)


def cover(config: MaskConfig, weight: Tensor, rows: int, columns: int) -> Tensor:
    """The places that blocks cover, each block around a place drawn by its weight.

    Args:
        config: number, size and shape of the blocks.
        weight: weights of the places, (B, rows * columns).
        rows: rows of places.
        columns: columns of places.

    Returns:
        bool (B, rows, columns). Where all weights are equal, every position of a block is equally likely.
    """
    batch, device = weight.shape[0], weight.device
    covered = torch.zeros(batch, rows, columns, dtype=torch.bool, device=device)
    area = config.scale * rows * columns
    for _ in range(config.blocks):
        aspect = torch.empty(batch, 1, 1, device=device).uniform_(config.aspect_min, config.aspect_max)
        height = (area * aspect).sqrt().round().clamp(1, rows)
        width = (area / aspect).sqrt().round().clamp(1, columns)
        place = rearrange(torch.multinomial(weight, 1), "b 1 -> b 1 1")
        top, left = _start(place // columns, height, rows), _start(place % columns, width, columns)
        covered |= _rectangles(top, left, height, width, rows, columns)
    return covered


def cover_as_published(mask: PublishedMask, batch: int, vit: ViTConfig, device: torch.device) -> Tensor:
    """The places that blocks of V-JEPA's masks cover, bool (B, rows, columns).

    As in facebookresearch/jepa, src/masks/multiblock3d.py: all blocks of a batch have one size, their top-left corners
    are uniform, and a mask that leaves no place free is drawn again.
    """
    _, rows, columns = vit.grid
    area, aspect = int(mask.scale * rows * columns), float(torch.empty(()).uniform_(0.75, 1.5))
    height = min(rows, max(1, round(math.sqrt(area * aspect))))
    width = min(columns, max(1, round(math.sqrt(area / aspect))))
    covered = torch.ones(batch, rows, columns, dtype=torch.bool, device=device)
    for _ in range(_ATTEMPTS):
        full = covered.flatten(1).all(1)
        if not full.any():
            break
        drawn = torch.zeros_like(covered)
        for _ in range(mask.blocks):
            top = torch.randint(rows - height + 1, (batch, 1, 1), device=device)
            left = torch.randint(columns - width + 1, (batch, 1, 1), device=device)
            drawn |= _rectangles(top, left, height, width, rows, columns)
        covered = torch.where(full[:, None, None], drawn, covered)
    return covered


def _start(place: Tensor, length: Tensor, size: int) -> Tensor:
    """First row (or column) of blocks of a length that cover a place of `size` ones, all (B, 1, 1).

    The block lies in its range as the place, to a random fraction of it, lies in the frame. So it never has to be
    moved into the frame, and a uniform place makes its start uniform.
    """
    fraction = (place + torch.rand(place.shape, device=place.device)) / size
    return (fraction * (size - length + 1)).floor().minimum(size - length)


def _rectangles(
    top: Tensor, left: Tensor, height: Tensor | int, width: Tensor | int, rows: int, columns: int
) -> Tensor:
    """Rectangles, given by tensors (B, 1, 1), as masks bool (B, rows, columns)."""
    row = torch.arange(rows, device=top.device)[None, :, None]
    column = torch.arange(columns, device=top.device)[None, None, :]
    return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)


def through_time(places: Tensor, vit: ViTConfig) -> Tensor:
    """Indices of the tokens at places of a frame (B, P), at every time: (B, time * P).

    A token hidden at one time and visible at another could simply be copied.
    """
    time, rows, columns = vit.grid
    start = torch.arange(time, device=places.device)[:, None] * rows * columns  # (time, 1)
    return rearrange(places[:, None] + start, "b time p -> b (time p)")


def show_only(clips: Tensor, visible: Tensor, vit: ViTConfig) -> Tensor:
    """Clips (B, F, 3, H, W) with all pixels outside the visible tokens (B, V) set to zero."""
    shown = torch.zeros(len(clips), vit.num_tokens, device=clips.device, dtype=clips.dtype)
    time, rows, columns = vit.grid
    shown = repeat(
        shown.scatter(1, visible, 1.0),
        "b (time rows columns) -> b (time tubelet) 1 (rows p) (columns q)",
        time=time,
        rows=rows,
        columns=columns,
        tubelet=vit.tubelet,
        p=vit.patch,
        q=vit.patch,
    )
    return clips * shown


def distance_to_hidden(vit: ViTConfig, visible: Tensor, hidden: Tensor) -> Tensor:
    """Distance from each visible token (B, V) to the nearest hidden one (B, M), in tokens: (B, V)."""
    places = torch.cartesian_prod(*(torch.arange(size, device=visible.device) for size in vit.grid)).float()  # (N, 3)
    return torch.cdist(places[visible], places[hidden]).amin(2)


def _split(covered: Tensor, visible_count: int) -> tuple[Tensor, Tensor]:
    """Indices of equally many visible and hidden places for every clip, from masks bool (B, places).

    The hidden number is the smallest of the batch. Where a mask leaves fewer places free than have to be visible,
    some under the mask are made visible.
    """
    order = covered.float() + 0.5 * torch.rand_like(covered, dtype=torch.float32)  # free tokens first
    ranked = order.argsort(1)  # (B, N)
    hidden_count = min(int(covered.sum(1).min()), covered.shape[1] - visible_count)
    return ranked[:, :visible_count], ranked[:, covered.shape[1] - hidden_count :]
