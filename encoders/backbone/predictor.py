"""Predicts the hidden tokens of a clip from the visible ones: V-JEPA's predictor, VideoMAE's decoder."""

import math

import torch
from einops import repeat
from torch import Tensor, nn

from mindreel.encoders.backbone.vit import TransformerBlock, ViTConfig, check_width, rotary_angles, sincos_positions


class TokenPredictor(nn.Module):
    """A narrow transformer over visible tokens and, at hidden places, a learned mask token.

    Args:
        vit: the transformer whose tokens it reads: their grid and kind of positions. The predictor has as many heads
            as divide both widths, those of the transformer if possible.
        dim: width.
        depth: transformer blocks.
        in_dim: width of the tokens that it reads.
        out_dim: width of its prediction for a token.
        num_masks: number of masks, each of which has a mask token of its own.

    Raises:
        ValueError: a head is too narrow, or odd, for rotary positions; or a frame has a single place.
    """

    positions: Tensor | None
    angles: Tensor | None

    def __init__(self, vit: ViTConfig, dim: int, depth: int, in_dim: int, out_dim: int, num_masks: int = 1):
        super().__init__()
        if vit.grid[1:] == (1, 1):
            raise ValueError(
                f"encoder.vit.patch={vit.patch} makes one token of a frame of {vit.image_size} pixels, and a mask "
                "needs two at least, one hidden and one visible. Choose a smaller patch."
            )
        heads = math.gcd(dim, vit.heads)
        check_width(dim, heads, vit.positions)
        self.heads = heads
        self.embed = nn.Linear(in_dim, dim)
        self.mask_tokens = nn.Parameter(torch.zeros(num_masks, dim))
        rotary = vit.positions == "rotary"
        self.register_buffer(
            "positions", None if rotary else sincos_positions(vit.grid, dim, vit.position_base), persistent=False
        )
        self.register_buffer("angles", rotary_angles(vit.grid, dim // heads) if rotary else None, persistent=False)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.out = nn.Linear(dim, out_dim)
        nn.init.trunc_normal_(self.mask_tokens, std=0.02)

    def forward(self, context: Tensor, visible: Tensor, hidden: Tensor, mask: int = 0) -> Tensor:
        """Predictions for all tokens, the visible ones first.

        Args:
            context: encoded visible tokens, (B, V, in_dim).
            visible: their indices, (B, V).
            hidden: indices of the hidden tokens, (B, M).
            mask: number of the mask, below `num_masks`.

        Returns:
            (B, V + M, out_dim).
        """
        places = torch.cat([visible, hidden], 1)
        tokens = repeat(self.mask_tokens[mask], "d -> b m d", b=len(hidden), m=hidden.shape[1])
        x = torch.cat([self.embed(context), tokens], 1)
        if self.positions is not None:
            x = x + self.positions[places]
        angles = None if self.angles is None else self.angles[places]
        for block in self.blocks:
            x = block(x, angles)
        return self.out(self.norm(x))
