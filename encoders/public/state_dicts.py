"""Public encoders that transformers has no class for, rebuilt from their published state dicts.

V-JEPA 2 and 2.1 (Assran et al. 2025; the .pt files of facebookresearch/vjepa2) and InternVideo2 (Wang et al. 2024;
those of OpenGVLab/InternVideo, of stage 1, stage 2 or tuned). The architecture is told from the tensors' names and
shapes. Only tensors are read, so a file cannot run code.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.vit import rotate

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels, red, green and blue, of 1."""


@dataclass(frozen=True)
class InputFacts:
    """What a checkpoint expects its clips to be."""

    image_size: int
    """Height and width of its frames, in pixels."""
    patch: int = 0
    """Pixels that one token spans, in height and in width; 0 where that is not told, or tokens are merged later."""
    resizable: bool = True
    """Whether its positions carry over to other sizes."""
    frames: int = 0
    """Frames that it must get: 1 for a model of single pictures, 0 for any multiple of `tubelet`."""
    tubelet: int = 1
    """Frames that one token spans."""
    mean: tuple[float, ...] = IMAGENET[0]
    """What is taken off the red, green and blue of a pixel, of 1."""
    std: tuple[float, ...] = IMAGENET[1]
    """What they are then divided by."""


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
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q_norm(q), self.k_norm(k), v))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)  # (B, heads, N, D / heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


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
    """The part that the published video transformers share. Parameters bear the published names.

    Args:
        state: the encoder's tensors under their published names.
        heads: attention heads, which no tensor's shape tells.
    """

    heads_of: dict[int, int]
    unused: tuple[str, ...]
    facts: InputFacts

    def __init__(self, state: Mapping[str, Tensor], heads: int, internvideo: bool):
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
        super().__init__(state, heads, internvideo=False)
        dim, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
        norms = sum(name.startswith("norms_block.") and name.endswith(".weight") for name in state)
        self.newer, self.head_dim = norms > 0, dim // heads
        if self.newer:
            # One norm a supervised layer; the encoder's output passes the last.
            self.norms_block = nn.ModuleDict({str(norms - 1): nn.LayerNorm(dim, eps=1e-6)})
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, dim))
        else:
            self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.facts = InputFacts(image_size=384 if self.newer else 256, patch=patch, tubelet=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patch_embed(clip.transpose(1, 2))  # (B, D, t, h, w)
        angles = self.angles(x.shape[2:]).to(x)
        x = x.flatten(2).transpose(1, 2)
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
        self.facts = InputFacts(image_size=side * patch, patch=patch, tubelet=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patch_embed(clip.transpose(1, 2))  # (B, D, t, h, w)
        own, positions = self.positions(x.shape[2:])
        x = x.flatten(2).transpose(1, 2) + positions
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


def load_published(path: Path, heads: int = 0) -> PublishedViT:
    """The encoder in a published file, in evaluation mode and float32.

    Args:
        path: a .pt, .pth, .bin or .safetensors file.
        heads: attention heads; 0 for the number that the published models of that width have.

    Raises:
        ValueError: the file holds something else than tensors, is damaged, or is of no layout known here.
    """
    state = _encoder_tensors(path, _read(path))
    kind = PublishedInternVideo2 if "cls_token" in state else PublishedVJEPA
    width = state["patch_embed.proj.weight"].shape[0]
    heads = heads or kind.heads_of.get(width, 0)
    if not heads or width % heads:
        raise ValueError(
            f"{path}: no published model is {width} wide, so its attention heads are not known: "
            f"set encoder.heads to a divisor of {width}."
        )
    try:
        with torch.device("meta"):  # the file's tensors are taken as they are
            model = kind(state, heads)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: not in the layout of a published V-JEPA 2, 2.1 or InternVideo2: {error}.") from None
    wanted = model.state_dict()
    wrong = [name for name, value in wanted.items() if name not in state or state[name].shape != value.shape]
    strange = [name for name in state if name not in wanted and not name.startswith(kind.unused)]
    if wrong or strange:
        raise ValueError(
            f"{path}: not in the layout of a published V-JEPA 2, 2.1 or InternVideo2: of {len(wanted)} tensors "
            f"{len(wrong)} are missing or of another shape and {len(strange)} are not known "
            f"({', '.join((wrong + strange)[:3])})."
        )
    model.load_state_dict({name: state[name].float() for name in wanted}, assign=True)
    return model.eval()


def _read(path: Path) -> object:
    """What the file holds, read without running any code that is in it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, OSError) as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise ValueError(
            f"{path}: neither a whole safetensors file nor a whole torch file of tensors alone ({reason}). "
            "Files that need code to be run are not read."
        ) from None


def _encoder_tensors(path: Path, held: object) -> dict[str, Tensor]:
    """The encoder's own tensors by their published names, out of a whole training checkpoint if need be."""
    for part in ("target_encoder", "ema_encoder", "encoder", "model", "module", "state_dict"):
        if isinstance(held, dict) and isinstance(held.get(part), dict):
            held = held[part]
            break
    tensors = {n: t for n, t in held.items() if isinstance(t, Tensor)} if isinstance(held, dict) else {}
    first = "patch_embed.proj.weight"
    prefixes = [name.removesuffix(first) for name in tensors if name.endswith(first) and "teacher" not in name]
    if len(prefixes) != 1 or tensors[prefixes[0] + first].ndim != 5:
        raise ValueError(
            f"{path}: no video encoder in it that is known here: expected the published V-JEPA 2, V-JEPA 2.1 "
            f"or InternVideo2, with one 3D convolution {first!r}."
        )
    return {n.removeprefix(prefixes[0]): t for n, t in tensors.items() if n.startswith(prefixes[0])}
