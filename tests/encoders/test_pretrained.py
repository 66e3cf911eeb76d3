"""Public checkpoints: small random models of the real architectures, saved as transformers saves them."""

import json
import os
import pickle
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mindreel.encoders import make_encoder
from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig
from mindreel.encoders.objectives.internvideo2 import InternVideo2Config
from mindreel.encoders.pretrainer import PretrainConfig, Pretrainer
from mindreel.encoders.public.architectures import IMAGENET
from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
MODELS = {
    "vjepa2": (
        transformers.VJEPA2Model,
        transformers.VJEPA2Config(
            crop_size=32, pred_hidden_size=12, pred_num_attention_heads=2, pred_num_hidden_layers=1, **SMALL
        ),
    ),
    "videomae": (transformers.VideoMAEModel, transformers.VideoMAEConfig(image_size=32, num_frames=8, **SMALL)),
    "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config(image_size=32, **SMALL)),
    "dinov3": (
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig(image_size=32, num_register_tokens=4, **SMALL),
    ),
    "vit": (transformers.ViTModel, transformers.ViTConfig(image_size=32, **SMALL)),
    "convnext": (
        transformers.ConvNextModel,
        transformers.ConvNextConfig(image_size=32, hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1]),
    ),
}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
"""The preprocessing that ViT and ConvNext come with here, whose families have no one way."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Name -> folder of a saved model."""
    torch.manual_seed(0)
    found = {}
    for name, (kind, config) in MODELS.items():
        model, folder = kind(config), tmp_path_factory.mktemp(name)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        if name in ("vit", "convnext"):
            (folder / "preprocessor_config.json").write_text(json.dumps(HALF))
        found[name] = folder
    return found


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)


def encoder(source: Path | str, **fields) -> Pretrained:
    return Pretrained(PretrainedConfig(source=str(source), **{"readout": "tokens", "places": 0} | fields)).eval()


def normalised(clip: torch.Tensor, mean=IMAGENET[0], std=IMAGENET[1]) -> torch.Tensor:
    return (clip / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def own(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """What transformers itself makes of normalised pixels."""
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(folder).eval()(pixels).last_hidden_state


# ---- tokens equal to transformers' own ----


def test_vjepa2_reads_the_clip_as_it_is(folders, clips):
    expected = own(folders["vjepa2"], normalised(clips))
    made = encoder(folders["vjepa2"])
    assert made.token_grid == (2, 4, 4) and not made.alone
    torch.testing.assert_close(made.tokens(clips), expected)
    torch.testing.assert_close(made(clips), expected.flatten(1))


def test_vjepa2_fills_a_tubelet_with_the_oldest_frame(folders, clips):
    still = torch.cat([clips[:, :1], clips[:, :3]], 1)
    expected = own(folders["vjepa2"], normalised(still))
    torch.testing.assert_close(encoder(folders["vjepa2"], frames=3).tokens(clips[:, :3]), expected)


def test_vjepa2_reads_single_frames_doubled(folders, clips):
    made = encoder(folders["vjepa2"], clip="single")
    assert made.token_grid == (4, 4, 4)
    tokens = made.tokens(clips).unflatten(1, (4, 16))
    for t in range(4):
        doubled = clips[:, t : t + 1].expand(-1, 2, -1, -1, -1)
        torch.testing.assert_close(tokens[:, t], own(folders["vjepa2"], normalised(doubled)))


def test_videomae_fills_its_clip_with_the_oldest_frame(folders, clips):
    still = torch.cat([clips[:, :1].expand(-1, 4, -1, -1, -1), clips], 1)
    made = encoder(folders["videomae"])
    assert made.token_grid == (4, 4, 4)
    torch.testing.assert_close(made.tokens(clips), own(folders["videomae"], normalised(still)))


def test_what_fills_a_clip_up_teaches_nothing(folders):
    """A VideoMAE of eight frames is shown two: three of its four times are of repeats of the first one."""
    teacher = encoder(folders["videomae"], frames=2)
    assert (teacher.token_grid[0], teacher.padding_times) == (4, 3)
    assert encoder(folders["videomae"], frames=3).padding_times == 2  # one tubelet shows it and its repeat
    assert encoder(folders["videomae"], frames=2, clip="single").padding_times == 0
    assert encoder(folders["vjepa2"], frames=3).padding_times == 0
    student = make_encoder(InternVideo2Config(teacher="x", vit=ViTConfig(image_size=32, frames=2, tubelet=2)), 1, 0)
    student.set_teacher(teacher)
    clip = torch.randn(1, 2, 3, 32, 32)
    shown = teacher.tokens(((clip * student.pixel_std + student.mean_frame).round().clamp(0, 255)).byte())[:, -16:]
    turn = student._external_teacher[1]
    expected = torch.nn.functional.layer_norm(shown, shown.shape[-1:]) @ turn
    torch.testing.assert_close(student._targets(clip), expected)


@pytest.mark.parametrize(("name", "extra"), [("dinov2", 1), ("dinov3", 5), ("vit", 1), ("convnext", 0)])
def test_models_of_pictures_read_frame_by_frame(folders, clips, name, extra):
    """Without class and register tokens."""
    statistics = (HALF["image_mean"], HALF["image_std"]) if name in ("vit", "convnext") else IMAGENET
    made = encoder(folders[name])
    side = 1 if name == "convnext" else 4
    assert made.token_grid == (4, side, side)
    tokens = made.tokens(clips).unflatten(1, (4, -1))
    for t in range(4):
        expected = own(folders[name], normalised(clips[:, t], *statistics))
        if expected.ndim == 4:
            expected = expected.flatten(2).mT
        torch.testing.assert_close(tokens[:, t], expected[:, extra:])


def save_video(folder: Path, model: torch.nn.Module) -> Path:
    """With every weight of some size: positions and class tokens start at 0."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(HALF))
    return folder


def test_vivit_gives_a_token_for_each_tubelet(tmp_path, clips):
    """Six frames, of which the oldest stands still for two; without the class token."""
    sizes = {name: value for name, value in SMALL.items() if name != "patch_size"}
    config = transformers.VivitConfig(image_size=32, num_frames=6, tubelet_size=[2, 8, 8], **sizes)
    folder = save_video(tmp_path, transformers.VivitModel(config))
    still = torch.cat([clips[:, :1].expand(-1, 2, -1, -1, -1), clips], 1)
    expected = own(folder, normalised(still, HALF["image_mean"], HALF["image_std"]))[:, 1:]
    made = encoder(folder)
    assert made.token_grid == (3, 4, 4)
    torch.testing.assert_close(made.tokens(clips), expected)
    (folder / "preprocessor_config.json").write_text(json.dumps(HALF | {"rescale_factor": 1 / 127.5, "offset": True}))
    grey = torch.full((1, 4, 3, 32, 32), 51, dtype=torch.uint8)  # 0.4 - 1, less 0.5, over 0.5
    torch.testing.assert_close(encoder(folder).normalise(grey)[0, 0, :, 0, 0], torch.full((3,), -2.2))


@pytest.mark.parametrize("attention", ["divided_space_time", "joint_space_time", "space_only"])
def test_timesformer_s_tokens_are_put_in_order_of_time(tmp_path, clips, attention):
    """But for space_only it gives place by place, each through all four times."""
    config = transformers.TimesformerConfig(image_size=32, num_frames=4, attention_type=attention, **SMALL)
    folder = save_video(tmp_path, transformers.TimesformerModel(config))
    theirs = own(folder, normalised(clips, HALF["image_mean"], HALF["image_std"]))[:, 1:]
    made = encoder(folder)
    assert made.token_grid == (4, 4, 4)
    tokens = made.tokens(clips).unflatten(1, (4, 16))
    for time in range(4):
        expected = theirs.unflatten(0, (2, 4))[:, time] if attention == "space_only" else theirs[:, time::4]
        torch.testing.assert_close(tokens[:, time], expected)
    moved = clips.clone()
    moved[:, 1, :, 8:16, :8] = 255 - moved[:, 1, :, 8:16, :8]
    change = (made.tokens(moved).unflatten(1, (4, 16)) - tokens).norm(dim=-1).mean(0)
    assert divmod(int(change.argmax()), 16) == (1, 4)  # the second time, the first place of the second row


def test_a_model_of_pictures_and_text_gives_its_eyes(tmp_path, clips):
    part = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=part | {"vocab_size": 99}, vision_config=part | {"patch_size": 8, "image_size": 32}
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HALF))
    expected = transformers.CLIPVisionModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        picture = expected(normalised(clips[:, -1], HALF["image_mean"], HALF["image_std"])).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(tmp_path).tokens(clips)[:, -16:], picture)


# ---- what each expects ----


def test_frames_are_scaled_bilinearly(folders):
    """Half the size: each pixel is a mean of 4 x 4 with the weights of a triangle as wide as 4 of them."""
    large = torch.randint(0, 256, (1, 4, 3, 64, 64), dtype=torch.uint8)
    scaled = encoder(folders["vjepa2"]).normalise(large)
    assert scaled.shape == (1, 4, 3, 32, 32)
    weight = torch.tensor([1, 3, 3, 1]) / 8
    pixel = torch.einsum("tchw,h,w->tc", large[0, :, :, 9:13, 19:23].float(), weight, weight)
    expected = (pixel / 255 - torch.tensor(IMAGENET[0])) / torch.tensor(IMAGENET[1])
    torch.testing.assert_close(scaled[0, :, :, 5, 10], expected, atol=1e-5, rtol=1e-5)


def test_other_sizes(folders, clips):
    """V-JEPA 2 and DINOv2 read more places, ViT interpolates its positions, VideoMAE refuses."""
    large = clips.repeat_interleave(2, -1).repeat_interleave(2, -2)
    config = transformers.VJEPA2Config.from_pretrained(folders["vjepa2"])
    config.crop_size = 64
    model = transformers.VJEPA2Model.from_pretrained(folders["vjepa2"], config=config).eval()
    with torch.no_grad():
        expected = model(normalised(large)).last_hidden_state
    torch.testing.assert_close(encoder(folders["vjepa2"], image_size=64).tokens(large), expected)

    made = encoder(folders["dinov2"], image_size=64)
    assert made.token_grid == (4, 8, 8)
    expected = own(folders["dinov2"], normalised(large[:, 3]))[:, 1:]
    torch.testing.assert_close(made.tokens(large)[:, -64:], expected)
    assert encoder(folders["vit"], image_size=48).token_grid == (4, 6, 6)
    with pytest.raises(ValueError, match="32 pixels and no others"):
        encoder(folders["videomae"], image_size=64)
    with pytest.raises(ValueError, match="8"):
        encoder(folders["videomae"], frames=16)


def test_a_checkpoint_s_own_preprocessing_comes_first(folders, tmp_path, clips):
    """Mean, spread, scale and crop size of its own file."""
    kind, config = MODELS["dinov2"]
    kind(config).save_pretrained(tmp_path)
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "crop_size": {"height": 16, "width": 16}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    made = encoder(tmp_path)
    assert made.token_grid == (4, 2, 2)
    frames = torch.full((1, 4, 3, 16, 16), 51, dtype=torch.uint8)  # 0.2
    torch.testing.assert_close(made.normalise(frames)[0, 0, :, 0, 0], torch.tensor([0.25, 0.0, -1 / 6]))
    doubled = settings | {"rescale_factor": 2 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(doubled))
    torch.testing.assert_close(encoder(tmp_path).normalise(frames)[0, 0, :, 0, 0], torch.tensor([0.75, 0.4, 1 / 6]))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(doubled | {"do_normalize": False}))
    torch.testing.assert_close(encoder(tmp_path).normalise(frames)[0, 0, :, 0, 0], torch.full((3,), 0.4))


def test_a_family_without_one_way_has_to_bring_its_own(tmp_path):
    kind, config = MODELS["vit"]
    kind(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):
        encoder(tmp_path)


def test_each_frame_stays_in_its_place(folders, clips):
    """The newest frame moves the newest tokens of a model of pictures and no others."""
    made = encoder(folders["dinov2"])
    other = clips.clone()
    other[:, -1] = 255 - other[:, -1]
    moved = (made.tokens(clips) != made.tokens(other)).any(-1).unflatten(1, (4, 16))
    assert moved[:, 3].all() and not moved[:, :3].any()


# ---- what the agent receives, and who trains it ----


def test_readouts(folders, clips):
    pooled = encoder(folders["vjepa2"], readout="pooled")
    torch.testing.assert_close(pooled(clips), pooled.tokens(clips).mean(1))
    coarse = encoder(folders["vjepa2"], places=2)
    assert coarse.feature_dim == 2 * 2 * 2 * 24
    quarter = coarse.tokens(clips).unflatten(1, (2, 2, 2, 2, 2)).mean((3, 5))  # the mean of 2 x 2 neighbours
    torch.testing.assert_close(coarse(clips), quarter.flatten(1))
    compressed = encoder(folders["vjepa2"], readout="compressed", width=8, places=2)
    many = torch.randint(0, 256, (40, 4, 3, 32, 32), dtype=torch.uint8)
    compressed.fit_readout(many)
    features = compressed(many)
    torch.testing.assert_close(features.T.cov(correction=0), torch.eye(8), atol=1e-3, rtol=0)


def test_training_modes(folders, clips):
    frozen = encoder(folders["dinov2"])
    assert not any(p.requires_grad for p in frozen.parameters()) and not frozen.trained_by_agent
    tuned = encoder(folders["vjepa2"], training_mode="finetune")
    tuned(clips).sum().backward()
    assert tuned.trained_by_agent and all(p.grad is not None for p in tuned.parameters())
    assert not tuned.has_objective and not frozen.has_objective
    for mode in ("refresh", "cotrain"):
        fields = {"readout": "tokens", "places": 0, "training_mode": mode}
        made = Pretrained(PretrainedConfig(source=str(folders["dinov2"]), **fields), action_dim=1).eval()
        assert made.has_objective and made.trained_by_agent == (mode == "cotrain")
        # What terms there are changes nothing of what it is as published.
        assert torch.equal(made(clips), frozen(clips))


def pushed(count: int) -> tuple[torch.Tensor, ...]:
    """A bright bar that the action pushes up or down: frames of 4 + 2, two actions, and where it is as reward."""
    action = 2 * torch.rand(count, 5, 1) - 1
    place = 12 + 8 * torch.rand(count, 1) + torch.cat([torch.zeros(count, 1), 4 * action[..., 0].cumsum(1)], 1)
    bar = (torch.arange(32) - place[..., None]).abs() < 3  # (B, 6, 32)
    frames = 200 * bar[:, :, None, :, None].expand(-1, -1, 3, -1, 32)
    return frames.byte().contiguous(), action[:, 3:], place[:, 4:] / 16 - 1


@pytest.mark.parametrize("name", ["dinov2", "vjepa2"])  # one of pictures, one of video
def test_rollouts_teach_a_checkpoint_what_comes(folders, name):
    terms = AuxiliaryConfig(1.0, future_components=3, change_components=2, reward_coef=1.0, inverse_coef=1.0)
    fields = {"training_mode": "refresh", "places": 4, "width": 64, "auxiliary": terms}
    made = Pretrained(PretrainedConfig(source=str(folders[name]), **fields), action_dim=1)
    for parameter in made.model.parameters():
        parameter.data.mul_(0.3)  # its weights are those of no trained model
    frames, action, reward = pushed(1000)
    made.fit(frames[:, 3:5], reward[:, 0])
    before = {key: value.clone() for key, value in made.model.state_dict().items()}
    config = PretrainConfig(warmup=5, batch_size=32, min_effective_rank=1.0, log_every=200)
    pretrainer = Pretrainer(config, made)

    def sample() -> tuple[torch.Tensor, ...]:
        rows = torch.randint(800, (32,))
        return frames[rows], action[rows], reward[rows]

    def held_out() -> dict[str, float]:
        with torch.no_grad():
            losses = made.eval().losses(frames[800:], action[800:], reward[800:])
        return {key: float(value) for key, value in losses.items()}

    untrained = held_out()
    for _ in pretrainer.train(sample, 150, 2e-3):
        pass
    trained = held_out()
    assert trained.keys() == {"future_loss", "reward_loss", "inverse_loss"}
    for key, value in trained.items():
        assert value < 0.5 * untrained[key], (key, value, untrained[key])
    learned = made.model.state_dict()
    assert any(not torch.equal(learned[key], value) for key, value in before.items())
    made.fit_readout(frames[:, :4])
    assert made(frames[:9, :4]).shape == (9, made.feature_dim)


def test_terms_that_cannot_train_a_checkpoint(folders):
    for auxiliary, said in (
        (AuxiliaryConfig(), "needs a term of encoder.auxiliary"),
        (AuxiliaryConfig(contrast_coef=1.0), "has no teacher"),
    ):
        with pytest.raises(ValueError, match=said):
            encoder(folders["dinov2"], training_mode="refresh", auxiliary=auxiliary)
    with pytest.raises(ValueError, match="encoder.frames must be 2 or more"):
        encoder(folders["dinov2"], training_mode="cotrain", frames=1)
    with pytest.raises(ValueError, match="expected one of frozen, finetune, refresh, cotrain"):
        encoder(folders["dinov2"], training_mode="refesh")


def test_wrong_clips(folders, clips):
    made = encoder(folders["vjepa2"])
    for wrong in (clips.float(), clips[:, :3], clips[0]):
        with pytest.raises(ValueError, match="uint8 frames"):
            made(wrong)


# ---- sources that cannot be read ----


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


@pytest.fixture
def copy(folders, tmp_path):
    """A copy of a saved model, to be spoilt."""

    def make(name: str) -> Path:
        for file in folders[name].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        return tmp_path

    return make


def test_no_source():
    with pytest.raises(ValueError, match="Which checkpoint"):
        encoder("")
    for name in ("/no/such/folder", "./none", "none", "owner/name/folder"):
        with pytest.raises(ValueError, match="no such file or folder"):
            encoder(name)


def test_the_hub_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="the hub did not give a model of that name.*name its folder"):
        encoder("mindreel-tests/no-such-model")


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="neither a model of transformers"):
        encoder(tmp_path)


def test_truncated_weights(copy):
    folder = copy("dinov2")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="no whole model"):
        encoder(folder)


def test_missing_and_foreign_tensors(copy):
    folder = copy("dinov2")
    state = load_file(folder / "model.safetensors")
    del state["layernorm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 tensors of a Dinov2Model \(layernorm.weight\)"):
        encoder(folder)
    state["layernorm.weight"] = torch.ones(25)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="no whole model"):
        encoder(folder)


def test_weights_that_hold_code_are_not_run(copy, tmp_path):
    folder = copy("dinov2")
    (folder / "model.safetensors").unlink()
    with open(folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"layernorm.weight": Trap(tmp_path / "trapped")}, file, protocol=2)  # as torch.save has it
    with pytest.raises(ValueError, match="no whole model"):
        encoder(folder)
    torch.save({"layernorm.weight": Trap(tmp_path / "trapped")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no whole model"):
        encoder(folder)
    assert not (tmp_path / "trapped").exists()


def test_code_beside_the_weights_is_not_run(copy, tmp_path):
    folder = copy("dinov2")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "trap", "auto_map": {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "trap.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w').close()\nclass Trap: pass\n")
    with pytest.raises(ValueError, match="no whole model"):
        encoder(folder)
    assert not (tmp_path / "trapped").exists()


def test_models_that_do_not_see_or_see_otherwise(tmp_path):
    text = transformers.BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=99)
    transformers.BertModel(text).save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="BertModel reads input_ids"):
        encoder(tmp_path / "text")
    grey = transformers.ViTConfig(image_size=32, num_channels=1, **SMALL)
    transformers.ViTModel(grey).save_pretrained(tmp_path / "grey")
    (tmp_path / "grey" / "preprocessor_config.json").write_text(json.dumps(HALF))
    with pytest.raises(ValueError, match="does not read frames of 32 x 32 pixels"):
        encoder(tmp_path / "grey")
    masked = transformers.ViTMAEConfig(image_size=32, **SMALL)
    transformers.ViTMAEModel(masked).save_pretrained(tmp_path / "masked")
    (tmp_path / "masked" / "preprocessor_config.json").write_text(json.dumps(HALF))
    with pytest.raises(ValueError, match="gives 5 tokens, of which 1 are known to lead and 1 x 16 are places"):
        encoder(tmp_path / "masked")
    detects = transformers.YolosConfig(image_size=[32, 32], num_detection_tokens=10, **SMALL)
    transformers.YolosModel(detects).save_pretrained(tmp_path / "detects")
    (tmp_path / "detects" / "preprocessor_config.json").write_text(json.dumps(HALF))
    with pytest.raises(ValueError, match="a YolosModel gives 27 tokens, of which 1 are known to lead"):
        encoder(tmp_path / "detects")


def test_wrong_fields(folders):
    with pytest.raises(ValueError, match="sliding or single"):
        encoder(folders["dinov2"], clip="both")
    with pytest.raises(ValueError, match="compressed, pooled, tokens"):
        encoder(folders["dinov2"], readout="embedding")
    with pytest.raises(ValueError, match="encoder.image_size=30: .* patches of 8 pixels"):
        encoder(folders["vit"], image_size=30)
