"""Our V-JEPA as a VJEPA2Model and back: equal outputs, whole folders, clear refusals."""

from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import AutoModel, Dinov2Config, Dinov2Model, VJEPA2Config, VJEPA2Model

from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.objectives.vjepa import VJEPA, VJEPAConfig
from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig
from mindreel.encoders.public.transformers_format import (
    from_transformers,
    push_to_hub,
    save_pretrained,
    to_transformers,
)

VIT = ViTConfig(
    image_size=32, frames=4, tubelet=2, patch=8, stem="linear", positions="rotary", dim=32, depth=2, heads=2
)
CONFIG = VJEPAConfig(vit=VIT, predictor_dim=24, predictor_depth=2)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def shaken(module: torch.nn.Module) -> None:
    """Makes every weight matter."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@pytest.fixture
def encoder() -> VJEPA:
    made = VJEPA(CONFIG, action_dim=1)
    shaken(made)
    made.mean_frame.copy_(256 * torch.rand(3, 32, 32))
    made.pixel_std.fill_(37.0)
    return made.eval()


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of visible and hidden tokens, (2, 20) and (2, 12)."""
    order = torch.stack([torch.randperm(32), torch.randperm(32)])
    return order[:, :20], order[:, 20:]


@torch.no_grad()
def test_export_gives_equal_tokens_and_predictions(encoder, clips, tmp_path):
    save_pretrained(encoder, tmp_path, "Test", "nothing")
    model = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(model, VJEPA2Model)
    clip = encoder.normalise(clips)
    tokens = encoder.vit(clip)
    torch.testing.assert_close(model(clip, skip_predictor=True).last_hidden_state, tokens, **CLOSE)
    visible, hidden = masks()
    ours = encoder.predictor(tokens.gather(1, visible.unsqueeze(-1).expand(-1, -1, 32)), visible, hidden)
    theirs = model(clip, context_mask=[visible], target_mask=[hidden]).predictor_output.last_hidden_state
    torch.testing.assert_close(theirs, ours[:, 20:], **CLOSE)


@torch.no_grad()
def test_there_and_back(encoder, clips, tmp_path):
    save_pretrained(encoder, tmp_path, "Test", "nothing")
    back = from_transformers(tmp_path, action_dim=1).eval()
    assert back.config.vit == VIT and back.config.predictor_dim == 24 and back.config.predictor_depth == 2
    torch.testing.assert_close(back.tokens(clips), encoder.tokens(clips), **CLOSE)
    torch.testing.assert_close(back.teacher(back.normalise(clips)), encoder.tokens(clips), **CLOSE)
    for name, value in encoder.predictor.state_dict().items():
        torch.testing.assert_close(back.predictor.state_dict()[name], value)
    smaller = from_transformers(tmp_path, action_dim=1, frames=2, image_size=16)
    assert smaller.tokens(clips[:, :2, :, :16, :16]).shape == (2, 4, 32)


@torch.no_grad()
def test_exports_are_read_as_public_checkpoints_are(encoder, clips, tmp_path):
    """With the mean frame, which no preprocessing of transformers could take off."""
    save_pretrained(encoder, tmp_path, "Test", "nothing")
    read = Pretrained(PretrainedConfig(source=str(tmp_path), readout="pooled"))
    torch.testing.assert_close(read.tokens(clips), encoder.tokens(clips), **CLOSE)


@torch.no_grad()
def test_a_public_vjepa2_becomes_ours(clips, tmp_path):
    """Its normalisation differs between colours and its predictor is of another kind: ten mask tokens, other heads."""
    config = VJEPA2Config(
        patch_size=8,
        crop_size=32,
        frames_per_clip=4,
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        pred_hidden_size=24,
        pred_num_attention_heads=3,
        pred_num_hidden_layers=1,
    )
    model = VJEPA2Model(config)
    shaken(model)
    model.save_pretrained(tmp_path)
    ours = from_transformers(tmp_path, action_dim=1).eval()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    expected = model.eval()((clips / 255 - mean) / std, skip_predictor=True).last_hidden_state
    torch.testing.assert_close(ours.tokens(clips), expected, **CLOSE)
    frames = torch.randint(0, 256, (8, 6, 3, 32, 32), dtype=torch.uint8)
    with torch.enable_grad():
        losses = ours.losses(frames, torch.zeros(8, 2, 1), torch.zeros(8, 2))
        sum(losses.values()).backward()
    assert ours.vit.stem.net.weight.grad.any()


def test_the_folder_says_what_it_holds(encoder, tmp_path):
    save_pretrained(encoder, tmp_path, "A walker's eyes", "walker-walk, 1,000 episodes.")
    found = {file.name for file in tmp_path.iterdir()}
    assert found == {"config.json", "model.safetensors", "mean_frame.safetensors", "README.md"}
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "# A walker's eyes\n" in card and "Trained on: walker-walk, 1,000 episodes." in card
    assert "4 frames of 32 x 32 pixels" in card and "32 tokens of 32 features" in card
    assert "{" not in card.replace('f"{folder}/mean_frame.safetensors"', "")


@torch.no_grad()
def test_the_card_s_code_runs(encoder, clips, tmp_path, monkeypatch):
    save_pretrained(encoder, tmp_path, "Test", "nothing")
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = "\n".join(line for line in code.splitlines() if "snapshot_download" not in line)
    names = {"folder": str(tmp_path), "frames": clips}
    exec(code, names)
    torch.testing.assert_close(names["tokens"], encoder.tokens(clips), **CLOSE)


@torch.no_grad()
def test_without_a_predictor_that_fits(clips):
    """V-JEPA 2.1's predicts several layers: it stays behind, and the tokens are the same."""
    made = VJEPA(replace(CONFIG, levels=2), action_dim=1).eval()
    model = to_transformers(made)
    clip = made.normalise(clips)
    torch.testing.assert_close(model(clip, skip_predictor=True).last_hidden_state, made.vit(clip), **CLOSE)
    assert len(model.predictor.layer) == 0


@pytest.mark.parametrize("change", [{"stem": "conv"}, {"positions": "sincos"}])
def test_what_cannot_be_exported_is_refused(change):
    made = VJEPA(replace(CONFIG, vit=replace(VIT, **change)), action_dim=1)
    with pytest.raises(ValueError, match=r"encoder.vit.stem=linear encoder.vit.positions=rotary\."):
        to_transformers(made)


def test_what_cannot_be_taken_is_refused(tmp_path):
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
    Dinov2Model(Dinov2Config(image_size=32, **small)).save_pretrained(tmp_path / "pictures")
    with pytest.raises(ValueError, match="Dinov2Model, not a VJEPA2Model"):
        from_transformers(tmp_path / "pictures", action_dim=1)
    other = VJEPA2Config(
        crop_size=32, mlp_ratio=2.0, pred_hidden_size=12, pred_num_attention_heads=2, pred_num_hidden_layers=1, **small
    )
    VJEPA2Model(other).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"has no mlp_ratio=2\.0"):
        from_transformers(tmp_path / "wide", action_dim=1)
    with pytest.raises(ValueError, match="no whole model"):
        from_transformers(tmp_path, action_dim=1)


def test_uploading_out_of_reach(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="was not uploaded .*whole, in"):
        push_to_hub(tmp_path, "mindreel-tests/none")
    with pytest.raises(ValueError, match="was not uploaded"):
        push_to_hub(tmp_path, "not a name")
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ValueError, match="was not uploaded"):
        push_to_hub(tmp_path, "mindreel-tests/none")


def test_each_mask_token_is_exported(tmp_path):
    config = replace(CONFIG, published_masks=True)
    encoder = VJEPA(config, action_dim=1)
    shaken(encoder)
    save_pretrained(encoder, tmp_path, "Test", "nothing")
    model = AutoModel.from_pretrained(tmp_path)
    assert model.config.pred_num_mask_tokens == 2
    assert torch.equal(model.predictor.embeddings.mask_tokens.flatten(1), encoder.predictor.mask_tokens.flatten(1))
    back = from_transformers(tmp_path, 1, config)
    assert torch.equal(back.predictor.mask_tokens, encoder.predictor.mask_tokens)
    assert from_transformers(tmp_path, 1).predictor.mask_tokens.shape == (1, 48)  # of one mask: a new predictor
