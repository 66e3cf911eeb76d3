"""Video transformers that transformers has no class for, as their published state dicts name their parts.

V-JEPA (Bardes et al. 2024; facebookresearch/jepa), V-JEPA 2 and 2.1 (Assran et al. 2025; facebookresearch/vjepa2) and
InternVideo2 (Wang et al. 2024; OpenGVLab/InternVideo).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.vit import rotate

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels, red, green and blue, of 1."""


@dataclass(frozen=True)
class InputFormat:
    """The form in which a checkpoint expects its clips."""

    image_size: int
    """Height and width of its frames, in pixels."""
    patch: int = 0
    """Pixels that one token spans, in height and in width; 0 where that is unknown, or tokens are merged later."""
    resizable: bool = True
    """True if its positions carry over to other sizes."""
    frames: int = 0
    """Frames that it must get: 1 for a model of single pictures, 0 for any multiple of `tubelet`."""
    tubelet: int = 1
    """Frames that one token spans."""
    mean: tuple[float, ...] = IMAGENET[0]
    """Means of red, green and blue, of pixels in [0, 1], which are subtracted."""
    std: tuple[float, ...] = IMAGENET[1]
    """Their standard deviations, which the difference is divided by."""


class Attention(nn.Module):
    """Self-attention: V-JEPA turns queries and keys by their places, InternVideo2 norms them."""

    def __init__(self, dim: int, heads: int, bias: bool, normed: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias)
        self.proj = nn.Linear(dim, dim)
        # Over all heads together.
        self.q_norm = nn.RMSNorm(dim, eps=1e-6) if normed else nn.Identity()
        self.k_norm = nn.RMSNorm(dim, eps=1e-6) if normed else nn.Identity()

    def forward(self, x: Tensor, angles: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)  # each (B, N, D)
        by_head = "b n (heads d) -> b heads n d"
        q, k, v = (rearrange(part, by_head, heads=self.heads) for part in (self.q_norm(q), self.k_norm(k), v))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)  # (B, heads, N, D / heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)"))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block: V-JEPA's (LayerNorm) or InternVideo2's (RMSNorm, LayerScale)."""

    def __init__(self, state: Mapping[str, Tensor], heads: int, internvideo: bool):
        super().__init__()
        hidden, dim = state["blocks.0.mlp.fc1.weight"].shape
        bias, normed = "blocks.0.attn.qkv.bias" in state, "blocks.0.attn.q_norm.weight" in state
        scaled = "blocks.0.ls1.gamma" in state
        norm = nn.RMSNorm if internvideo else nn.LayerNorm
        self.norm1, self.norm2 = norm(dim, eps=1e-6), norm(dim, eps=1e-6)
        self.attn, self.mlp = Attention(dim, heads, bias, normed), Mlp(dim, hidden)
        self.ls1, self.ls2 = (LayerScale(dim) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, angles: Tensor | None = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), angles))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Clips (B, 3, F, H, W) to one vector a tubelet and patch: (B, D, t, h, w)."""

    def __init__(self, weight: Tensor):
        super().__init__()
        dim, channels, tubelet, height, width = weight.shape
        kernel = tubelet, height, width
        self.proj = nn.Conv3d(channels, dim, kernel, kernel)

    def forward(self, clip: Tensor) -> Tensor:
        return self.proj(clip)


class PublishedViT(nn.Module):
    """The base class of the published video transformers. Parameters bear the published names.

    Args:
        state: the encoder's tensors under their published names.
        heads: attention heads, which no tensor's shape tells.
    """

    heads_of: dict[int, int]
    unused: tuple[str, ...]
    input_format: InputFormat

    def __init__(self, state: Mapping[str, Tensor], heads: int, internvideo: bool = False):
        super().__init__()
        self.patch_embed = PatchEmbed(state["patch_embed.proj.weight"])
        depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        self.blocks = nn.ModuleList(Block(state, heads, internvideo) for _ in range(depth))

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised clips (B, F, 3, H, W), newest frame last, to tokens (B, N, D) by time, row, column."""
        raise NotImplementedError


class PublishedVJEPA(PublishedViT):
    """V-JEPA 2 and 2.1: rotary positions, any input size. Of 2.1 the video branch and its last layer's norm."""

    heads_of = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22, 1664: 26}
    # Tables from before rotary positions, the norms of inner layers, the branch for single pictures.
    unused = ("pos_embed", "norms_block.", "patch_embed_img.", "img_mod_embed")

    def __init__(self, state: Mapping[str, Tensor], heads: int):
        super().__init__(state, heads)
        dim, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
        norms = sum(name.startswith("norms_block.") and name.endswith(".weight") for name in state)
        self.newer, self.head_dim = norms > 0, dim // heads
        if self.newer:
            # One norm a supervised layer; the encoder's output passes the last.
            self.norms_block = nn.ModuleDict({str(norms - 1): nn.LayerNorm(dim, eps=1e-6)})
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, dim))
        else:
            self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.input_format = InputFormat(image_size=384 if self.newer else 256, patch=patch, tubelet=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patch_embed(clip.transpose(1, 2))  # (B, D, t, h, w)
        angles = self.angles(x.shape[2:]).to(x)
        x = rearrange(x, "b d t h w -> b (t h w) d")
        if self.newer:
            x = x + self.video_mod_embed
        for block in self.blocks:
            x = block(x, angles)
        norm = next(iter(self.norms_block.values())) if self.newer else self.norm
        return norm(x)

    def angles(self, grid: tuple[int, ...]) -> Tensor:
        """What queries and keys are turned by at each place of a (time, height, width) grid: (N, D / heads)."""
        pairs = self.head_dim // 6
        frequencies = 10000 ** (-torch.arange(pairs) / pairs)
        places = torch.cartesian_prod(*(torch.arange(size) for size in grid)).float()  # (N, 3)
        if self.newer:
            # Rows and columns are stretched to the 16 of the size that pretraining began at.
            places[:, 1:] *= 15 / (torch.tensor(grid[1:]) - 1).clamp(min=1)
            frequencies = frequencies.repeat_interleave(2)
        else:
            frequencies = frequencies.repeat(2)  # as its weights were trained: a pair's two differ
        return F.pad((places.unsqueeze(-1) * frequencies).flatten(1), (0, self.head_dim - 6 * pairs))


class PublishedVJEPA1(PublishedViT):
    """The first V-JEPA: a table of sine positions is added; those of other sizes are interpolated linearly."""

    heads_of = PublishedVJEPA.heads_of
    unused = ()

    def __init__(self, state: Mapping[str, Tensor], heads: int):
        super().__init__(state, heads)
        dim, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
        grid = sine_grid(state["pos_embed"])
        assert grid is not None
        self.trained_grid = grid
        self.pos_embed = nn.Parameter(torch.zeros(1, state["pos_embed"].shape[1], dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.input_format = InputFormat(image_size=grid[1] * patch, patch=patch, tubelet=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patch_embed(clip.transpose(1, 2))  # (B, D, t, h, w)
        times, side, _ = self.trained_grid
        positions = rearrange(self.pos_embed, "b (t h w) d -> b d t h w", t=times, h=side)
        if x.shape[2:] != positions.shape[2:]:
            positions = F.interpolate(positions, size=x.shape[2:], mode="trilinear")
        x = rearrange(x + positions, "b d t h w -> b (t h w) d")
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def sine_grid(table: Tensor) -> tuple[int, int, int] | None:
    """The grid (times, rows, columns) whose sine positions a table (1, N, D) holds; None if it holds others.

    Half of the features tell the time and a quarter each the row and the column or, as V-JEPA was trained, a third
    each (`get_3d_sincos_pos_embed` of facebookresearch/jepa). Some rows are compared, not all.
    """
    if table.ndim != 3 or table.shape[0] != 1 or min(table.shape) < 1:
        return None
    count, dim = table.shape[1:]
    rows = torch.linspace(0, count - 1, min(count, 256), device=table.device).long()
    held = table[0, rows].detach().double()
    for side in range(1, int(count**0.5) + 1):
        if count % side**2:
            continue
        places = rows // side**2, rows // side % side, rows % side
        for widths in ((dim // 2, dim // 4, dim // 4), (2 * -(-dim // 6),) * 3):
            if not any(width % 2 for width in widths):
                features = [_sines(place, width) for place, width in zip(places, widths, strict=True)]
                expected = torch.cat(features, 1)[:, :dim]
                if expected.shape == held.shape and torch.allclose(expected, held, atol=0.01):
                    return count // side**2, side, side
    return None


def _sines(places: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of places (N,) at falling frequencies: float64 (N, width)."""
    frequencies = 10000 ** (-torch.arange(width // 2, dtype=torch.float64, device=places.device) / (width / 2))
    angles = places.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class PublishedInternVideo2(PublishedViT):
    """InternVideo2's video encoder: a class token, learned positions, no norm at the end.

    The positions of other clip lengths and sizes are interpolated as in the published code: linearly in time,
    then bicubically in space. The class token takes part and is left out of the output.
    """

    heads_of = {384: 6, 768: 12, 1024: 16, 1408: 16, 3200: 25}
    # Pooling and heads, the positions of the teachers' decoders, those of single pictures.
    unused = ("clip_", "mae_", "final_clip_decoder.", "fc_norm.", "head.", "img_pos_embed")

    def __init__(self, state: Mapping[str, Tensor], heads: int):
        super().__init__(state, heads, internvideo=True)
        dim, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.separate = "pos_embed_spatial" in state
        if self.separate:
            places, times = state["pos_embed_spatial"].shape[1], state["pos_embed_temporal"].shape[1]
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, places, dim))
            self.pos_embed_temporal = nn.Parameter(torch.zeros(1, times, dim))
            self.pos_embed_cls = nn.Parameter(torch.zeros(1, 1, dim))
        else:
            count = state["pos_embed"].shape[1]
            # Without a table for single pictures nothing tells times from places; all were trained at 224 pixels.
            places = state["img_pos_embed"].shape[1] - 1 if "img_pos_embed" in state else (224 // patch) ** 2
            times = (count - 1) // places
            self.pos_embed = nn.Parameter(torch.zeros(1, count, dim))
        side = round(places**0.5)
        if side * side != places or not times or not self.separate and times * places + 1 != count:
            raise ValueError(f"its positions are those of no square video: {times} times, {places} places a frame")
        self.trained_grid = times, side, side
        self.input_format = InputFormat(image_size=side * patch, patch=patch, tubelet=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patch_embed(clip.transpose(1, 2))  # (B, D, t, h, w)
        own, positions = self.positions(x.shape[2:])
        x = rearrange(x, "b d t h w -> b (t h w) d") + positions
        x = torch.cat([(self.cls_token + own).expand(len(x), -1, -1), x], 1)  # (B, 1 + N, D)
        for block in self.blocks:
            x = block(x)
        return x[:, 1:]

    def positions(self, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The class token's position (1, 1, D) and those of a (time, height, width) grid (1, N, D)."""
        times, height, width = self.trained_grid
        if self.separate:
            own = self.pos_embed_cls
            table = self.pos_embed_spatial.unsqueeze(1) + self.pos_embed_temporal.unsqueeze(2)  # (1, t, h w, D)
        else:
            own = self.pos_embed[:, :1]
            table = self.pos_embed[:, 1:].unflatten(1, (times, -1))
        table = table[0].permute(1, 2, 0)  # (h w, D, t)
        if grid[0] != times:
            table = F.interpolate(table, size=grid[0], mode="linear")
        table = table.permute(2, 1, 0).unflatten(2, (height, width))  # (t, D, h, w)
        if tuple(grid[1:]) != (height, width):
            table = F.interpolate(table, size=tuple(grid[1:]), mode="bicubic", align_corners=False)
        return own, table.flatten(2).transpose(1, 2).flatten(0, 1).unsqueeze(0)
