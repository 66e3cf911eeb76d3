"""Encoders without a class in transformers: random tensors in the published layouts, against plain computations.

The layouts are those of facebookresearch/vjepa2 (src/models and app/vjepa_2_1/models, vision_transformer.py) and of
OpenGVLab/InternVideo (InternVideo2/*/models/**/internvideo2*.py).
"""

import json
import math
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import VJEPA2Config, VJEPA2Model

from mindreel.encoders.public.architectures import IMAGENET
from mindreel.encoders.public.hub import download
from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig
from mindreel.encoders.public.state_dicts import load_published

DIM, HEADS, HIDDEN, DEPTH = 48, 4, 96, 2


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}


def block_shapes(bias: bool) -> dict[str, tuple[int, ...]]:
    """Names in blocks.N of all three, but for norms' biases."""
    return {
        "norm1.weight": (DIM,),
        "attn.qkv.weight": (3 * DIM, DIM),
        **({"attn.qkv.bias": (3 * DIM,)} if bias else {}),
        "attn.proj.weight": (DIM, DIM),
        "attn.proj.bias": (DIM,),
        "norm2.weight": (DIM,),
        "mlp.fc1.weight": (HIDDEN, DIM),
        "mlp.fc1.bias": (HIDDEN,),
        "mlp.fc2.weight": (DIM, HIDDEN),
        "mlp.fc2.bias": (DIM,),
    }


def layout(block: dict[str, tuple[int, ...]], rest: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    blocks = {f"blocks.{n}.{name}": shape for n in range(DEPTH) for name, shape in block.items()}
    return tensors({**rest, **blocks})


def vjepa2() -> dict[str, torch.Tensor]:
    rest = {
        "patch_embed.proj.weight": (DIM, 3, 2, 16, 16),
        "patch_embed.proj.bias": (DIM,),
        "norm.weight": (DIM,),
        "norm.bias": (DIM,),
    }
    return layout(block_shapes(True) | {"norm1.bias": (DIM,), "norm2.bias": (DIM,)}, rest)


def vjepa21() -> dict[str, torch.Tensor]:
    """With its branch for pictures, modality embeddings and four supervised layers."""
    rest = {
        "img_mod_embed": (1, 1, DIM),
        "video_mod_embed": (1, 1, DIM),
        "patch_embed.proj.weight": (DIM, 3, 2, 16, 16),
        "patch_embed.proj.bias": (DIM,),
        "patch_embed_img.proj.weight": (DIM, 3, 1, 16, 16),
        "patch_embed_img.proj.bias": (DIM,),
        **{f"norms_block.{n}.{kind}": (DIM,) for n in range(4) for kind in ("weight", "bias")},
    }
    return layout(block_shapes(True) | {"norm1.bias": (DIM,), "norm2.bias": (DIM,)}, rest)


def internvideo2(stage: str) -> dict[str, torch.Tensor]:
    """Patches of 56 pixels, so that a frame of 224 is 4 x 4; 8 frames."""
    pooling = {f"norm1_{one}.{kind}": (DIM,) for one in "qkv" for kind in ("weight", "bias")}
    pooling |= {f"cross_attn.{one}.weight": (DIM, DIM) for one in "qkv"}
    pooling |= {f"cross_attn.{one}_bias": (DIM,) for one in "qkv"}
    pooling |= {"cross_attn.proj.weight": (32, DIM), "cross_attn.proj.bias": (32,)}
    rest = {
        "cls_token": (1, 1, DIM),
        "patch_embed.proj.weight": (DIM, 3, 1, 56, 56),
        "patch_embed.proj.bias": (DIM,),
        **{f"clip_projector.{name}": shape for name, shape in pooling.items()},
    }
    decoder = {"head.weight": (40, DIM), "head.bias": (40,), "norm.weight": (40,), "norm.bias": (40,)}
    if stage == "1":
        rest |= {"pos_embed": (1, 129, DIM), "clip_pos_embed": (1, 129, DIM), "mae_pos_embed": (1, 128, DIM)}
        rest |= {f"clip_decoder.0.{name}": shape for name, shape in decoder.items()}
        rest |= {f"final_clip_decoder.{name}": shape for name, shape in decoder.items()}
        rest |= {f"mae_decoder.0.{name}": shape for name, shape in decoder.items() if name.startswith("norm")}
        rest |= {"mae_decoder.0.head.0.weight": (DIM, DIM), "mae_decoder.0.head.2.bias": (40,)}
    elif stage == "2":
        rest |= {"pos_embed": (1, 129, DIM), "img_pos_embed": (1, 17, DIM)}
        rest |= {"clip_pos_embed": (1, 129, DIM), "clip_img_pos_embed": (1, 17, DIM)}
        rest |= {f"clip_decoder.0.{name}": shape for name, shape in decoder.items()}
    else:
        rest |= {"pos_embed_spatial": (1, 16, DIM), "pos_embed_temporal": (1, 8, DIM), "pos_embed_cls": (1, 1, DIM)}
        rest |= {"fc_norm.weight": (32,), "fc_norm.bias": (32,), "head.weight": (9, 32), "head.bias": (9,)}
    normed = {"attn.q_norm.weight": (DIM,), "attn.k_norm.weight": (DIM,), "ls1.gamma": (DIM,), "ls2.gamma": (DIM,)}
    return layout(block_shapes(False) | normed, rest)


def saved(folder: Path, state: dict, prefix: str = "", under: str = "") -> Path:
    """As a checkpoint of a training run, or bare."""
    state = {prefix + name: value for name, value in state.items()}
    torch.save({under: state, "epoch": 3} if under else state, folder / "published.pt")
    return folder / "published.pt"


# ---- V-JEPA 2 ----


def as_transformers(state: dict) -> VJEPA2Model:
    config = VJEPA2Config(
        patch_size=16,
        crop_size=64,
        frames_per_clip=4,
        hidden_size=DIM,
        num_attention_heads=HEADS,
        num_hidden_layers=DEPTH,
        mlp_ratio=HIDDEN / DIM,
        pred_hidden_size=12,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=0,
    )
    model = VJEPA2Model(config).eval()
    renamed = {}
    for name, value in state.items():
        name = name.replace("blocks.", "layer.").replace("attn.", "attention.").replace("norm.", "layernorm.")
        name = "encoder." + name.replace("patch_embed.", "embeddings.patch_embeddings.")
        if "qkv" in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("qkv", part)] = third
        else:
            renamed[name] = value
    missing, strange = model.load_state_dict(renamed, strict=False)
    assert not strange and all(name.startswith("predictor.") for name in missing)
    return model


@torch.no_grad()
@pytest.mark.parametrize(("prefix", "under"), [("module.backbone.", "target_encoder"), ("", "")])
def test_vjepa2_is_transformers_vjepa2(tmp_path, prefix, under):
    state = vjepa2()
    stored = state | {"pos_embed": torch.zeros(1, 32, DIM)}  # left over in the published files
    model = load_published(saved(tmp_path, stored, prefix, under), HEADS)
    clip = torch.randn(2, 4, 3, 64, 64)
    expected = as_transformers(state)(clip, skip_predictor=True).last_hidden_state
    torch.testing.assert_close(model(clip), expected, atol=1e-5, rtol=1e-5)
    assert (model.input_format.image_size, model.input_format.tubelet, model.input_format.resizable) == (256, 2, True)


# ---- plain computations ----


def attention(state: dict, at: str, x: torch.Tensor, turn=None, norm=None) -> torch.Tensor:
    """Head by head, token by token, for one clip: (N, D) -> (N, D)."""
    qkv = x @ state[f"{at}.qkv.weight"].T + state.get(f"{at}.qkv.bias", 0.0)
    q, k, v = qkv.split(DIM, -1)
    if norm is not None:
        q, k = norm(q, state[f"{at}.q_norm.weight"]), norm(k, state[f"{at}.k_norm.weight"])
    heads, width = [], DIM // HEADS
    for h in range(HEADS):
        part = slice(h * width, (h + 1) * width)
        one, two = q[:, part], k[:, part]
        if turn is not None:
            one, two = (torch.stack([turn(n, row) for n, row in enumerate(rows)]) for rows in (one, two))
        heads.append((one @ two.T / math.sqrt(width)).softmax(-1) @ v[:, part])
    return torch.cat(heads, -1) @ state[f"{at}.proj.weight"].T + state[f"{at}.proj.bias"]


def mlp(state: dict, at: str, x: torch.Tensor) -> torch.Tensor:
    hidden = F.gelu(x @ state[f"{at}.fc1.weight"].T + state[f"{at}.fc1.bias"])
    return hidden @ state[f"{at}.fc2.weight"].T + state[f"{at}.fc2.bias"]


def patches(state: dict, clip: torch.Tensor) -> torch.Tensor:
    """One clip (F, 3, H, W), cut and multiplied tubelet by tubelet: (N, D)."""
    weight = state["patch_embed.proj.weight"]
    tubelet, side = weight.shape[2], weight.shape[3]
    cut = clip.unfold(0, tubelet, tubelet).unfold(2, side, side).unfold(3, side, side)  # (t, 3, h, w, tubelet, p, p)
    cut = cut.permute(0, 2, 3, 1, 4, 5, 6).flatten(3).flatten(0, 2)
    return cut @ weight.flatten(1).T + state["patch_embed.proj.bias"]


# ---- V-JEPA, the first ----


def sine_table(times: int, side: int, thirds: bool) -> torch.Tensor:
    """Positions (1, N, DIM) as facebookresearch/jepa computes them (get_3d_sincos_pos_embed), number by number."""
    widths = (2 * math.ceil(DIM / 6),) * 3 if thirds else (DIM // 2, DIM // 4, DIM // 4)
    rows = []
    for time in range(times):
        for row in range(side):
            for column in range(side):
                numbers: list[float] = []
                for place, width in zip((time, row, column), widths, strict=True):
                    angles = [place / 10000 ** (i / (width / 2)) for i in range(width // 2)]
                    numbers += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
                rows.append(numbers[:DIM])
    return torch.tensor(rows).unsqueeze(0)


@torch.no_grad()
@pytest.mark.parametrize("thirds", [False, True])
def test_vjepa1_adds_its_positions(tmp_path, thirds):
    """Patches of 16 pixels at 224: 14 x 14 places; attention is not turned by them."""
    state = vjepa2()
    table = sine_table(2, 14, thirds)
    model = load_published(saved(tmp_path, state | {"pos_embed": table}, "module.backbone.", "target_encoder"), HEADS)
    assert (model.input_format.image_size, model.input_format.tubelet) == (224, 2)
    clip = torch.randn(4, 3, 224, 224)
    x = patches(state, clip) + table[0]
    for n in range(DEPTH):
        normed = F.layer_norm(x, (DIM,), state[f"blocks.{n}.norm1.weight"], state[f"blocks.{n}.norm1.bias"], 1e-6)
        x = x + attention(state, f"blocks.{n}.attn", normed)
        normed = F.layer_norm(x, (DIM,), state[f"blocks.{n}.norm2.weight"], state[f"blocks.{n}.norm2.bias"], 1e-6)
        x = x + mlp(state, f"blocks.{n}.mlp", normed)
    expected = F.layer_norm(x, (DIM,), state["norm.weight"], state["norm.bias"], 1e-6)
    torch.testing.assert_close(model(clip.unsqueeze(0))[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_vjepa1_at_other_sizes(tmp_path):
    """As its `interpolate_pos_encoding`: trilinearly, over times, rows and columns at once."""
    table = sine_table(4, 14, True)
    model = load_published(saved(tmp_path, vjepa2() | {"pos_embed": table}), HEADS)
    clip = torch.randn(1, 4, 3, 112, 112)
    stretched = table.reshape(1, 4, 14, 14, DIM).permute(0, 4, 1, 2, 3)
    stretched = F.interpolate(stretched, scale_factor=(2 / 4, 7 / 14, 7 / 14), mode="trilinear")
    expected = stretched.permute(0, 2, 3, 4, 1).flatten(1, 3)
    model.blocks = torch.nn.ModuleList()
    model.norm = torch.nn.Identity()
    without = model.patch_embed(clip.transpose(1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model(clip) - without, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("table", [torch.zeros(1, 32, DIM), torch.randn(1, 392, DIM), sine_table(2, 16, True)])
def test_a_table_that_is_left_over_changes_nothing(tmp_path, table):
    """Empty, no sines though of V-JEPA's shape, or the sines of 256 pixels, at which V-JEPA 2 was trained."""
    state = vjepa2()
    model = load_published(saved(tmp_path, state | {"pos_embed": table}), HEADS)
    clip = torch.randn(1, 4, 3, 64, 64)
    expected = as_transformers(state)(clip, skip_predictor=True).last_hidden_state
    torch.testing.assert_close(model(clip), expected, atol=1e-5, rtol=1e-5)


def test_what_may_be_either_is_refused(tmp_path):
    for side in (6, 24):
        state = vjepa2() | {"pos_embed": sine_table(2, side, False)}
        with pytest.raises(ValueError, match=rf"whether this is a V-JEPA, .*{16 * side} x {16 * side} pixels"):
            load_published(saved(tmp_path, state), HEADS)


@torch.no_grad()
@pytest.mark.parametrize("under", ["ema_encoder", "target_encoder"])
def test_vjepa21(tmp_path, under):
    """Pairs of neighbours turn together, and 4 rows and columns are stretched to the 16 of 256 pixels."""
    state = vjepa21()
    model = load_published(saved(tmp_path, state, "module.backbone.", under), HEADS)
    assert (model.input_format.image_size, model.input_format.tubelet) == (384, 2)
    clip = torch.randn(4, 3, 64, 64)

    def turn(n: int, row: torch.Tensor) -> torch.Tensor:
        place = (n // 16, n // 4 % 4 * 15 / 3, n % 4 * 15 / 3)
        turned = row.clone()
        for axis in range(3):  # 4 of the head's 12 features an axis, 2 pairs
            for pair in range(2):
                angle = place[axis] * 10000 ** (-pair / 2)
                i = 4 * axis + 2 * pair
                turned[i] = row[i] * math.cos(angle) - row[i + 1] * math.sin(angle)
                turned[i + 1] = row[i + 1] * math.cos(angle) + row[i] * math.sin(angle)
        return turned

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        return F.layer_norm(x, (DIM,), state[f"{at}.weight"], state[f"{at}.bias"], 1e-6)

    x = patches(state, clip) + state["video_mod_embed"][0]
    for n in range(DEPTH):
        x = x + attention(state, f"blocks.{n}.attn", norm(x, f"blocks.{n}.norm1"), turn=turn)
        x = x + mlp(state, f"blocks.{n}.mlp", norm(x, f"blocks.{n}.norm2"))
    expected = norm(x, "norms_block.3")
    torch.testing.assert_close(model(clip[None])[0], expected, atol=1e-4, rtol=1e-4)


def plain_internvideo2(state: dict, clip: torch.Tensor, own: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Tokens (N, D) of a clip, with the positions of the class token (D,) and of the others (N, D)."""

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()

    x = torch.cat([(state["cls_token"][0, 0] + own)[None], patches(state, clip) + positions])
    for n in range(DEPTH):
        at = f"blocks.{n}"
        attended = attention(state, f"{at}.attn", norm(x, state[f"{at}.norm1.weight"]), norm=norm)
        x = x + state[f"{at}.ls1.gamma"] * attended
        x = x + state[f"{at}.ls2.gamma"] * mlp(state, f"{at}.mlp", norm(x, state[f"{at}.norm2.weight"]))
    return x[1:]


@torch.no_grad()
@pytest.mark.parametrize(("stage", "prefix", "under"), [("1", "", ""), ("2", "vision_encoder.", "module")])
def test_internvideo2(tmp_path, stage, prefix, under):
    state = internvideo2(stage)
    model = load_published(saved(tmp_path, state, prefix, under), HEADS)
    assert (model.input_format.image_size, model.input_format.tubelet, model.input_format.frames) == (224, 1, 0)
    # In float64, where the order of sums does not matter: in float32 it is at times 1e-4.
    model, state = model.double(), {name: value.double() for name, value in state.items()}
    clip = torch.randn(8, 3, 224, 224, dtype=torch.float64)
    table = state["pos_embed"][0]
    expected = plain_internvideo2(state, clip, table[0], table[1:])
    torch.testing.assert_close(model(clip[None])[0], expected, atol=1e-8, rtol=1e-8)


@torch.no_grad()
def test_internvideo2_with_places_and_times_apart(tmp_path):
    state = internvideo2("tuned")
    model = load_published(saved(tmp_path, state), HEADS)
    clip = torch.randn(8, 3, 224, 224)
    rows = [state["pos_embed_temporal"][0, t] + state["pos_embed_spatial"][0, s] for t in range(8) for s in range(16)]
    expected = plain_internvideo2(state, clip, state["pos_embed_cls"][0, 0], torch.stack(rows))
    torch.testing.assert_close(model(clip[None])[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_internvideo2_positions_of_other_clips(tmp_path):
    """Four times lie half-way between pairs of the eight; rows at twice the size by the cubic with a = -0.75."""
    state = internvideo2("1")
    model = load_published(saved(tmp_path, state), HEADS)
    table = state["pos_embed"][0, 1:].unflatten(0, (8, 16))
    _, found = model.positions((4, 4, 4))
    torch.testing.assert_close(found[0].unflatten(0, (4, 16)), (table[::2] + table[1::2]) / 2)
    ramp = torch.arange(4.0).view(4, 1, 1).expand(4, 4, DIM).flatten(0, 1)
    model.pos_embed[0, 1:] = ramp.repeat(8, 1)
    _, found = model.positions((8, 8, 8))
    rows = found[0].unflatten(0, (8, 8, 8))[0, :, 0, 0]
    # Row 3 lies at 1.25, of 0 1 2 3: weights -0.10546875, 0.87890625, 0.26171875, -0.03515625.
    torch.testing.assert_close(rows[3:5], torch.tensor([1.296875, 3 - 1.296875]))
    assert model(torch.randn(1, 4, 3, 448, 448)).shape == (1, 4 * 64, DIM)


# ---- as encoders ----


@torch.no_grad()
@pytest.mark.parametrize("layout_of", [vjepa21, lambda: internvideo2("2")])
def test_as_an_encoder(tmp_path, layout_of):
    file = saved(tmp_path, layout_of())
    encoder = Pretrained(PretrainedConfig(source=str(file), heads=HEADS, image_size=112, readout="pooled"))
    clips = torch.randint(0, 256, (2, 4, 3, 112, 112), dtype=torch.uint8)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in IMAGENET)
    expected = load_published(file, HEADS)((clips / 255 - mean) / std)
    torch.testing.assert_close(encoder.tokens(clips), expected)
    torch.testing.assert_close(encoder(clips), expected.mean(1))
    assert encoder.token_grid == ((2, 7, 7) if layout_of is vjepa21 else (4, 2, 2))


def test_safetensors_and_half_precision(tmp_path):
    state = {name: value.half() for name, value in vjepa2().items()}
    save_file(state, tmp_path / "model.safetensors")
    encoder = Pretrained(PretrainedConfig(source=str(tmp_path), heads=HEADS, image_size=64))
    assert all(p.dtype == torch.float32 for p in encoder.model.parameters())


# ---- from the hub, as far as it is kept here ----


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts files into a cache laid out as the hub's: (OWNER/NAME, name -> tensors) -> snapshot."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def keep(model: str, files: dict[str, dict]) -> Path:
        place = tmp_path / "hub" / f"models--{model.replace('/', '--')}"
        commit = "0123456789abcdef0123456789abcdef01234567"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(commit)
        for name, state in files.items():
            file = place / "snapshots" / commit / name
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, file)
        return place / "snapshots" / commit

    return keep


def from_hub(source: str) -> Pretrained:
    return Pretrained(PretrainedConfig(source=source, heads=HEADS, image_size=112, readout="pooled"))


@torch.no_grad()
def test_a_file_of_the_hub(hub, tmp_path):
    one, other = internvideo2("1"), vjepa21()
    hub("owner/name", {"one.pt": one, "weights/other.pth": other, "trap.bin": {"trap": Trap(tmp_path / "trapped")}})
    clips = torch.randint(0, 256, (1, 4, 3, 112, 112), dtype=torch.uint8)
    for source, state in (("owner/name/one.pt", one), ("owner/name/weights/other.pth", other)):
        expected = from_hub(str(saved(tmp_path, state))).tokens(clips)
        torch.testing.assert_close(from_hub(source).tokens(clips), expected)
    with pytest.raises(ValueError, match="need code to be run are not read"):
        from_hub("owner/name/trap.bin")
    assert not (tmp_path / "trapped").exists()
    with pytest.raises(ValueError, match="the hub did not give"):
        from_hub("owner/name/missing.pt")
    with pytest.raises(ValueError, match="nor one file of weights: 2 are there.*OWNER/NAME/FILE"):
        from_hub("owner/name")


def test_the_one_file_of_a_model_of_the_hub(hub):
    hub("owner/single", {"weights.pt": vjepa21()})
    assert from_hub("owner/single").input_format.image_size == 384


class SmallHub(BaseHTTPRequestHandler):
    """A hub with one model, owner/name, as far as its files are listed and fetched."""

    files: dict[str, bytes] = {}
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self):
        path = self.path.partition("?")[0]
        name = path.split("/", 5)[-1]  # /owner/name/resolve/REVISION/...
        if path.startswith("/api/models/owner/name/tree/"):
            listed = [{"type": "file", "path": name, "size": len(x), "oid": "0"} for name, x in self.files.items()]
            self.answer(200, json.dumps(listed).encode())
        elif path == "/api/models/owner/name/revision/main":
            self.answer(200, json.dumps({"id": "owner/name", "sha": self.commit, "siblings": []}).encode())
        else:
            self.answer(200 if name in self.files else 404, self.files.get(name, b""), name)

    def do_HEAD(self):
        self.do_GET()

    def answer(self, status: int, content: bytes, name: str = "") -> None:
        self.send_response(status)
        about = {"Content-Length": len(content), "ETag": f'"{name}"', "X-Repo-Commit": self.commit}
        for key, value in about.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The files of a model on a hub of this machine, to be filled."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SmallHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, constants = f"http://127.0.0.1:{server.server_port}", huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(SmallHub, "files", {})
    yield SmallHub.files
    server.shutdown()
    server.server_close()


def test_what_of_a_model_is_fetched(served, tmp_path, monkeypatch):
    """Its one file of torch's where it has nothing else, and where it has several the one that is named."""
    served |= {"README.md": b"hello", "one.pt": b"first"}
    assert download("owner/name").read_bytes() == b"first"
    served["more/two.bin"] = b"second"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"has 2 files of weights.*name one, as in encoder.source=owner/name/one\.pt"):
        download("owner/name")
    assert download("owner/name/more/two.bin").read_bytes() == b"second"
    with pytest.raises(ValueError, match="the hub did not give"):
        download("owner/name/three.pt")
    served |= {"config.json": b"{}", "model.safetensors": b"safe"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "third"))
    assert {file.name for file in download("owner/name").iterdir()} == {"config.json", "model.safetensors"}


# ---- files that cannot be read ----


class Trap:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


def test_a_file_with_code_is_not_run(tmp_path):
    file = saved(tmp_path, vjepa2() | {"trap": Trap(tmp_path / "trapped")})
    with pytest.raises(ValueError, match="need code to be run are not read"):
        load_published(file, HEADS)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_truncated_file(tmp_path, kind):
    file = saved(tmp_path, vjepa2())
    if kind == "safetensors":
        file = tmp_path / "published.safetensors"
        save_file(vjepa2(), file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="neither a whole safetensors file"):
        load_published(file, HEADS)


def test_other_layouts(tmp_path):
    with pytest.raises(ValueError, match="no video encoder in it"):
        load_published(saved(tmp_path, {"conv.weight": torch.zeros(3)}))
    state = vjepa2()
    with pytest.raises(ValueError, match=r"48 wide.*set encoder.heads"):
        load_published(saved(tmp_path, state))
    with pytest.raises(ValueError, match=r"of 28 tensors 0 are missing.*1 are not known \(blocks.0.extra\)"):
        load_published(saved(tmp_path, state | {"blocks.0.extra": torch.zeros(3)}), HEADS)
    del state["blocks.1.norm1.bias"]
    with pytest.raises(ValueError, match=r"1 are missing.*blocks.1.norm1.bias"):
        load_published(saved(tmp_path, state), HEADS)
    state = internvideo2("1")
    state["pos_embed"] = state["pos_embed"][:, :100]
    with pytest.raises(ValueError, match="no square video"):
        load_published(saved(tmp_path, state), HEADS)
