"""The video transformer that all pretraining objectives share: clips to tokens, tokens to tokens."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ViTConfig:
    """A video transformer small enough to pretrain on a laptop."""

    image_size: int = 64
    """Height and width of a frame, in pixels."""
    frames: int = 4
    """Frames F of a clip: the newest one and those before it."""
    tubelet: int = 4
    """Frames that one token spans."""
    patch: int = 8
    """Pixels that one token spans, in height and in width."""
    stem: str = "conv"
    """How tubelets become tokens: conv (stride-2 convolutions), or linear (one linear map, as in ViT)."""
    positions: str = "sincos"
    """How blocks know where tokens are: sincos (added to tokens), or rotary (rotates queries and keys: V-JEPA 2)."""
    position_base: Annotated[float, Gt(1)] = 100.0
    """Base of the frequencies of positions=sincos: 10000 as published, 100 to tell the places of a small grid apart."""
    dim: int = 64
    """Width D of a token."""
    depth: int = 2
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""

    def __post_init__(self):
        counts = self.image_size, self.frames, self.tubelet, self.patch, self.dim, self.heads
        if min(counts) < 1 or self.depth < 0:
            raise ValueError(
                "image_size, frames, tubelet, patch, dim and heads must be 1 or more, and depth 0 or more, got "
                f"{', '.join(map(str, counts))} and {self.depth}."
            )
        if self.image_size % self.patch or self.frames % self.tubelet or self.dim % self.heads:
            raise ValueError(
                f"image_size ({self.image_size}) must be a multiple of patch ({self.patch}), frames ({self.frames}) "
                f"of tubelet ({self.tubelet}) and dim ({self.dim}) of heads ({self.heads})."
            )
        if self.stem not in ("conv", "linear"):
            raise ValueError(f"stem must be conv or linear, got {self.stem!r}.")
        if self.stem == "conv" and self.patch & (self.patch - 1):
            raise ValueError(f"A conv stem halves the picture at each layer: patch must be 2^k, got {self.patch}.")
        if self.positions not in ("sincos", "rotary"):
            raise ValueError(f"positions must be sincos or rotary, got {self.positions!r}.")
        if self.position_base <= 1:
            raise ValueError(f"position_base must be above 1, got {self.position_base}.")
        check_width(self.dim, self.heads, self.positions)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        side = self.image_size // self.patch
        return self.frames // self.tubelet, side, side

    @property
    def num_tokens(self) -> int:
        """Tokens N of a clip."""
        time, height, width = self.grid
        return time * height * width


def check_width(dim: int, heads: int, positions: str) -> None:
    """Raises ValueError if attention heads of `dim / heads` features are too narrow, or odd, for these positions."""
    if positions == "rotary" and (dim // heads < 6 or dim // heads % 2):
        raise ValueError(
            "positions=rotary rotates pairs of features for each of three axes: dim / heads must be even and at least "
            f"6, got {dim} / {heads}."
        )


class Stem(nn.Module):
    """Clips to one token per tubelet and patch, without positions.

    The convolutional stem sees a few pixels beyond each patch. It learns several times faster than the linear one
    where the moving parts are thin (Xiao et al. 2021). MWM (Seo et al. 2022) masks convolutional features as well.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        channels = 3 * config.tubelet
        if config.stem == "linear":
            self.net: nn.Module = nn.Conv2d(channels, config.dim, config.patch, config.patch)
            return
        layers: list[nn.Module] = []
        halvings = config.patch.bit_length() - 1
        for i in range(halvings):
            width = max(16, config.dim >> (halvings - 1 - i))
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.GroupNorm(1, width), nn.SiLU()]
            channels = width
        layers += [nn.Conv2d(channels, config.dim, 1)]
        self.net = nn.Sequential(*layers)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised clips (B, F, 3, H, W) to tokens (B, N, D), ordered by time, row, column."""
        x = rearrange(clip, "b (time tubelet) c h w -> (b time) (tubelet c) h w", tubelet=self.config.tubelet)
        return rearrange(self.net(x), "(b time) d rows columns -> b (time rows columns) d", b=len(clip))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer MLP of four times the width."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"

    def forward(self, x: Tensor, angles: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) to tokens of the same shape.

        Args:
            x: tokens.
            angles: rotate queries and keys (see `rotate`), (N, D / heads) or (B, N, D / heads); None leaves them.
        """
        qkv = rearrange(self.qkv(self.norm1(x)), "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        q, k, v = qkv  # (B, heads, N, D / heads) each
        if angles is not None:
            angles = angles.unsqueeze(-3)  # the same for every head
            q, k = rotate(q, angles), rotate(k, angles)
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(rearrange(attended, "b heads n d -> b n (heads d)"))
        return x + self.mlp(self.norm2(x))


class VideoTransformer(nn.Module):
    """Clips to tokens. `forward` encodes all tokens of a clip or, for masked pretraining, only the visible ones.

    Args:
        config: sizes and kind of positions.
    """

    positions: Tensor | None
    angles: Tensor | None

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.stem = Stem(config)
        rotary = config.positions == "rotary"
        positions = None if rotary else sincos_positions(config.grid, config.dim, config.position_base)
        angles = rotary_angles(config.grid, config.dim // config.heads) if rotary else None
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("angles", angles, persistent=False)
        self.blocks = nn.ModuleList(TransformerBlock(config.dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, clip: Tensor, visible: Tensor | None = None) -> Tensor:
        """Normalised clips (B, F, 3, H, W) to tokens.

        Args:
            clip: float frames, newest last.
            visible: indices of the tokens to keep, (B, V); all of them if None.

        Returns:
            (B, N, D), or (B, V, D) with `visible`.
        """
        return self.encode(self.embed(clip), visible)

    def embed(self, clip: Tensor) -> Tensor:
        """Normalised clips (B, F, 3, H, W) to tokens before any block: (B, N, D)."""
        x = self.stem(clip)
        return x if self.positions is None else x + self.positions

    def encode(self, x: Tensor, visible: Tensor | None = None, levels: int = 1) -> Tensor:
        """Sends what `embed` returned through the blocks.

        Args:
            x: tokens (B, N, D).
            visible: indices of the tokens to keep, (B, V); all of them if None.
            levels: number L of evenly spaced depths whose outputs are returned; the last block is always one of them.

        Returns:
            (B, N or V, L * D): the outputs concatenated, each layer-normed, the last block's at the end.
        """
        angles = self.angles
        if visible is not None:
            x = gather_tokens(x, visible)
            angles = None if angles is None else angles[visible]  # (B, V, D / heads)
        between = {len(self.blocks) * level // levels for level in range(1, levels)}
        outputs = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x, angles)
            if number in between:
                outputs.append(F.layer_norm(x, x.shape[-1:]))
        return torch.cat([*outputs, self.norm(x)], -1) if outputs else self.norm(x)

    def extra_repr(self) -> str:
        return f"positions={self.config.positions}, position_base={self.config.position_base}"


def gather_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens of x (B, N, D) at index (B, V): (B, V, D)."""
    return x.gather(1, repeat(index, "b v -> b v d", d=x.shape[-1]))


def sincos_positions(grid: tuple[int, int, int], dim: int, base: float) -> Tensor:
    """Fixed sine-cosine positions for a (time, height, width) grid: (N, dim).

    Each axis gets a third of the features. Those left over when `dim` is no multiple of 6 are zero; otherwise positions
    are those of V-JEPA with its base of 10000.

    Args:
        grid: sizes of the three axes, N in all.
        dim: number of features.
        base: wavelengths go from 2 pi to 2 pi times nearly this number, in places.
    """
    per_axis = dim // 6 * 2
    axes = []
    for size in grid:
        frequencies = 1 / base ** (torch.arange(per_axis // 2) / (per_axis // 2))
        angles = torch.arange(size).unsqueeze(1) * frequencies  # (size, per_axis / 2)
        axes.append(torch.cat([angles.sin(), angles.cos()], 1))
    time, height, width = grid
    by_axis = (
        repeat(axes[0], "t d -> (t h w) d", h=height, w=width),
        repeat(axes[1], "h d -> (t h w) d", t=time, w=width),
        repeat(axes[2], "w d -> (t h w) d", t=time, h=height),
    )
    return F.pad(torch.cat(by_axis, 1), (0, dim - 3 * per_axis))


def rotary_angles(grid: tuple[int, int, int], head_dim: int) -> Tensor:
    """Angles that rotate the queries and keys of a (time, height, width) grid: (N, head_dim).

    A third of the features rotates with each axis, in pairs; those left over stay as they are. Frequencies are laid
    out as in the published V-JEPA 2 (Assran et al. 2025): the list of frequencies is repeated, so the two features
    of a pair rotate at different speeds. Its weights were trained that way, and ours can be exchanged with them.
    """
    pairs = head_dim // 6
    frequencies = 10000 ** (-torch.arange(pairs) / pairs)
    places = torch.cartesian_prod(*(torch.arange(size) for size in grid))  # (N, 3)
    angles = rearrange(places.unsqueeze(-1) * frequencies.repeat(2), "n three d -> n (three d)")  # (N, 6 pairs)
    return F.pad(angles, (0, head_dim - 6 * pairs))


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotates the pairs of neighbouring features of x (..., N, D), D even, by angles that broadcast to x."""
    first, second = rearrange(x, "... (pairs two) -> two ... pairs", two=2)
    across = rearrange([-second, first], "two ... pairs -> ... (pairs two)")
    return x * angles.cos().to(x.dtype) + across * angles.sin().to(x.dtype)
