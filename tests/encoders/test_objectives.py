"""What holds for every objective on the video transformer, and each one's formula against a reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate
from torch.nn import functional as F

from mindreel.encoders import ENCODERS, PixelsConfig, make_encoder
from mindreel.encoders.backbone.frames import shifted
from mindreel.encoders.backbone.readout import READOUTS
from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig
from mindreel.encoders.objectives.lejepa import epps_pulley, sigreg
from mindreel.encoders.objectives.video_encoder import Batch, VideoEncoder
from mindreel.encoders.objectives.videomae import patches
from mindreel.encoders.pretrainer import PretrainConfig, Pretrainer
from mindreel.encoders.probes.regression import ProbeConfig, linear_probe

VIT = ViTConfig(image_size=32, frames=4, tubelet=2, patch=8, dim=24, depth=2, heads=2)
STEPS = 3
SMALL = {
    "vjepa": {"predictor_dim": 24, "random_shift": 0},
    "videomae": {"decoder_dim": 24},
    "lejepa": {"projector_dim": 24, "projections": 64},
    "vicreg": {"expander_dim": 32},
}
READS_PIXELS = [name for name, (_, cls) in ENCODERS.items() if name in (*SMALL, "untrained")]
MASKED = {"vjepa": "predictor", "videomae": "decoder"}
"""Objectives that hide tokens -> what fills them in."""


def make(name: str, **changes) -> VideoEncoder:
    torch.manual_seed(0)
    sizes = {"vit": VIT, "embedding_dim": 16, "token_channels": 4} | SMALL.get(name, {})
    encoder = make_encoder(ENCODERS[name][0](**(sizes | changes)), 2, 5)
    assert isinstance(encoder, VideoEncoder)
    encoder.fit(sequences(200)[0][:, :2], torch.rand(200))
    encoder.fit_readout(sequences(200)[0][:, : VIT.frames])
    return encoder


def sequences(count: int, seed: int = 1) -> tuple[torch.Tensor, ...]:
    """A square that the actions push over a gradient: frames, actions, rewards, and its centre at the newest frame."""
    generator = torch.Generator().manual_seed(seed)
    length = VIT.frames + STEPS
    action = 2 * torch.rand(count, length - 1, 2, generator=generator) - 1
    place = 8 + 16 * torch.rand(count, 2, generator=generator)
    places = [place]
    for t in range(length - 1):
        places.append((places[-1] + 3 * action[:, t]).clamp(3, 28))
    path, grid = torch.stack(places, 1), torch.arange(32)
    near = (grid - path[..., None]).abs() < 3  # (B, F + K, 2, 32)
    square = near[:, :, 0, :, None] & near[:, :, 1, None, :]
    frames = torch.where(square.unsqueeze(2), 250.0, torch.linspace(0, 120, 32)).expand(-1, -1, 3, -1, -1)
    newest = VIT.frames - 1
    reward = 1 - (path[:, newest + 1 :, 0] - 16).abs() / 16
    return frames.byte().contiguous(), action[:, newest:], reward, path[:, newest] / 16 - 1


@pytest.mark.parametrize(("name", "width"), [("vjepa", "predictor_dim"), ("videomae", "decoder_dim")])
def test_what_fills_in_may_be_of_a_width_that_the_heads_do_not_divide(name, width):
    frames, action, reward, _ = sequences(4)
    for heads, dim, found in ((6, 64, 2), (6, 24, 6), (4, 50, 2), (3, 16, 1)):
        encoder = make(name, vit=replace(VIT, heads=heads), **{width: dim})
        block = getattr(encoder, MASKED[name]).blocks[0]
        assert block.heads == found
        torch.stack(list(encoder.losses(frames, action, reward).values())).sum().backward()
        assert block.qkv.weight.grad.any()
    with pytest.raises(ValueError, match=r"even and at least 6, got 18 / 2\."):
        make(name, vit=replace(VIT, positions="rotary", heads=2), **{width: 18})
    with pytest.raises(ValueError, match=r"encoder\.vit\.patch=32 makes one token of a frame of 32 pixels"):
        make(name, vit=replace(VIT, patch=32))


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding_dim": 0},
        {"token_channels": 0},
        {"random_shift": -1},
        {"ema_start": 2.0},
        {"ema_end": -0.1},
        {"jepa_fraction": -1.0},
        {"jepa_fraction": 0.0},
    ],
    ids=str,
)
def test_fields_out_of_range_are_named(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        make("vjepa", **changes)
    for wrong in ({"future_pool": 0}, {"contrast_temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AuxiliaryConfig(**wrong)
    with pytest.raises(ValueError, match=r"multiple of pool \(0\)"):
        PixelsConfig(pool=0)
    for size in ("image_size", "frames", "tubelet", "patch", "dim", "heads"):
        with pytest.raises(ValueError, match="1 or more"):
            replace(VIT, **{size: 0})


# ---- what holds for all ----


@pytest.mark.parametrize("stem", ["conv", "linear"])
@pytest.mark.parametrize("name", SMALL)
def test_losses_are_finite_and_train_the_whole_transformer(name, stem):
    encoder = make(name, vit=replace(VIT, stem=stem))
    losses = encoder.losses(*sequences(16)[:3])
    assert all(loss.shape == () and loss.isfinite() and loss > 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for key, parameter in encoder.vit.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key
    if encoder.teacher is not None:
        assert all(p.grad is None for p in encoder.teacher.parameters())


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("name", READS_PIXELS)
def test_any_readout_of_any_objective(name, readout):
    encoder = make(name, readout=readout, auxiliary=AuxiliaryConfig(reward_coef=1.0)).eval()
    clips = sequences(20, seed=3)[0][:, : VIT.frames]
    with torch.no_grad():
        features, tokens = encoder(clips), encoder.tokens(clips)
    assert features.shape == (20, encoder.feature_dim)
    assert encoder.feature_dim == {"embedding": 16, "compressed": 16, "pooled": 24, "tokens": 32 * 24}[readout]
    assert tokens.shape == (20, 32, 24) and encoder.token_grid == (2, 4, 4)
    assert (features.std(0) > 0).all()
    if encoder.has_objective:
        assert all(loss.isfinite() for loss in encoder.losses(*sequences(8)[:3]).values())


@pytest.mark.parametrize("name", SMALL)
def test_what_comes_later_reaches_no_feature(name):
    encoder = make(name).eval()
    frames, action, reward, _ = sequences(6)
    other = frames.clone()
    other[:, VIT.frames :] = torch.randint(256, other[:, VIT.frames :].shape, dtype=torch.uint8)
    now, changed = (Batch(encoder, encoder.normalise(x), action, reward, action) for x in (frames, other))
    assert torch.equal(now.clip, changed.clip) and not torch.equal(now.after, changed.after)
    assert torch.equal(now.tokens, changed.tokens)
    torch.testing.assert_close(now.tokens, encoder.tokens(frames[:, : VIT.frames]))


@pytest.mark.parametrize(("name", "stem"), [("vjepa", "linear"), ("videomae", "linear"), ("videomae", "conv")])
def test_hidden_pixels_do_not_reach_the_student(name, stem):
    changes = {"masks": replace(ENCODERS["vjepa"][0]().masks, motion=False), "jepa_fraction": 1.0}
    encoder = make(name, vit=replace(VIT, stem=stem), **(changes if name == "vjepa" else {}))
    seen = []
    getattr(encoder, MASKED[name]).register_forward_pre_hook(lambda _, given: seen.append(given))
    frames, action, reward, _ = sequences(8)

    def context(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(6)
        encoder.losses(frames, action, reward)
        return seen[-1][0], seen[-1][1]

    before, visible = context(frames)
    shown = torch.zeros(8, 32).scatter(1, visible, 1.0).view(8, 2, 4, 4)
    shown = F.interpolate(shown[:, None], (4, 32, 32))[:, 0].unsqueeze(2).bool()  # (B, F, 1, H, W)
    noise = torch.randint(256, (8, 4, 3, 32, 32), dtype=torch.uint8)
    hidden_changed, shown_changed = frames.clone(), frames.clone()
    hidden_changed[:, :4] = torch.where(shown, frames[:, :4], noise)
    shown_changed[:, :4] = torch.where(shown, noise, frames[:, :4])
    after, again = context(hidden_changed)
    assert torch.equal(again, visible) and not torch.equal(hidden_changed, frames)
    assert torch.equal(after, before)
    assert not torch.equal(context(shown_changed)[0], before)


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_encoder_is_the_same_one(name):
    encoder = make(name).train()
    optimizer = torch.optim.SGD(encoder.vit.parameters(), lr=0.1)
    first = encoder.identity()
    torch.stack(list(encoder.losses(*sequences(8)[:3]).values())).sum().backward()
    optimizer.step()
    encoder.update_teacher(0.0)
    assert encoder.identity() != first
    other = make_encoder(encoder.config, 2, 5)
    other.load_state_dict(encoder.state_dict())
    assert other.identity() == encoder.identity()
    clips = sequences(5)[0][:, : VIT.frames]
    assert torch.equal(other.eval()(clips), encoder.eval()(clips))


@pytest.mark.parametrize("name", SMALL)
def test_grounding_stands_beside_any_objective(name):
    terms = AuxiliaryConfig(
        future_coef=1.0, contrast_coef=1.0, reward_coef=1.0, inverse_coef=1.0, variance_coef=1.0, covariance_coef=1.0
    )
    alone = make(name, auxiliary=AuxiliaryConfig(), readout="compressed")
    both = make(name, auxiliary=terms, readout="compressed")
    added = {f"{term}_loss" for term in ("future", "contrast", "reward", "inverse", "variance", "covariance")}
    sample = sequences(16)[:3]
    own = set(alone.losses(*sample))
    losses = both.losses(*sample)
    assert set(losses) == own | added and not own & added
    assert all(loss.isfinite() for loss in losses.values())
    assert both.head is not None and both.teacher is not None and both.teacher_head is not None
    assert (alone.teacher is None) == (name != "vjepa")  # made only where something reads it
    both.head.squeeze.weight.data.fill_(1.0)
    both.teacher_head.squeeze.weight.data.zero_()
    both.update_teacher(0.0)
    torch.testing.assert_close(both.teacher_head.squeeze.weight, torch.full((4, 24), 1 - both.config.ema_start))


def test_any_one_term_switches_grounding_on():
    terms = ["future", "contrast", "reward", "variance", "covariance", "inverse"]
    assert not AuxiliaryConfig().active
    assert all(AuxiliaryConfig(**{f"{term}_coef": 0.5}).active for term in terms)


@pytest.mark.parametrize("name", MASKED)
def test_a_head_that_nothing_trains_is_named(name):
    changes = {"readout": "embedding", "auxiliary": AuxiliaryConfig()}
    with pytest.raises(ValueError, match="Nothing would train the head of encoder.readout=embedding: choose"):
        make(name, **changes)
    assert make(name, training_mode="finetune", **changes).feature_dim == 16


@pytest.mark.parametrize("name", SMALL)
def test_who_trains_it(name):
    for mode, by_agent in {"frozen": False, "refresh": False, "finetune": True, "cotrain": True}.items():
        assert make(name, training_mode=mode).trained_by_agent == by_agent
    with pytest.raises(ValueError, match="training_mode=never: expected one of frozen, finetune, refresh, cotrain"):
        make(name, training_mode="never")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda clips: clips[:, :3],
        lambda clips: clips.float(),
        lambda clips: clips[..., :16],
        lambda clips: clips[:, :, :1],
        lambda clips: clips[0],
    ],
)
@pytest.mark.parametrize("name", [*READS_PIXELS, "pixels"])
def test_a_clip_of_the_wrong_kind_is_named(name, wrong):
    if name in READS_PIXELS:
        encoder = make(name)
    else:
        encoder = make_encoder(ENCODERS[name][0](image_size=32, frames=4), 2, 5)
    clips = torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"reads uint8 frames \(B, 4, 3, 32, 32\), and got torch"):
        encoder(wrong(clips))
    if encoder.has_objective:
        with pytest.raises(ValueError, match=r"uint8 frames \(B, 7, 3, 32, 32\)"):
            encoder.losses(clips, torch.zeros(2, STEPS, 2), torch.zeros(2, STEPS))


@pytest.mark.parametrize("name", [name for name in READS_PIXELS if name != "untrained"])
def test_actions_and_rewards_of_the_wrong_shape_are_named(name):
    encoder = make(name)
    frames, action, reward = sequences(2)[:3]
    for actions, rewards in ((action[..., :1], reward), (action, reward[:, :1]), (action[:, 0], reward)):
        with pytest.raises(ValueError, match=r"actions \(B, K, 2\) and rewards \(B, K\)"):
            encoder.losses(frames, actions, rewards)


@pytest.fixture(scope="module")
def rollouts() -> dict[str, tuple[torch.Tensor, ...]]:
    return {"seen": sequences(600), "held": sequences(300, seed=2)}


def position_error(encoder: VideoEncoder, rollouts) -> float:
    """Share of the variance of the square's place that a linear probe of new clips misses."""
    encoder.eval()
    with torch.no_grad():
        seen, held = (encoder(rollouts[name][0][:, : VIT.frames]) for name in ("seen", "held"))
    score = linear_probe(ProbeConfig(), seen, rollouts["seen"][3], held, rollouts["held"][3])
    return 1 - score.mean().item()


@pytest.mark.parametrize(
    ("name", "readout"), [("videomae", "compressed"), ("lejepa", "embedding"), ("vicreg", "embedding")]
)
def test_it_learns(rollouts, name, readout):
    encoder = make(name, readout=readout)
    before = position_error(encoder, rollouts)
    config = PretrainConfig(steps=60, batch_size=32, lr=3e-3, log_every=10, min_effective_rank=1.2)

    def sample() -> tuple[torch.Tensor, ...]:
        rows = torch.randint(600, (config.batch_size,))
        return tuple(x[rows] for x in rollouts["seen"][:3])

    logged = [row for row in Pretrainer(config, encoder).train(sample, config.steps, config.lr) if row]
    assert logged[-1]["loss"] < 0.8 * logged[0]["loss"]
    if name != "videomae":  # pixels want more steps before features show it
        assert position_error(encoder, rollouts) < 0.6 * before


# ---- VideoMAE ----


def test_videomae_predicts_normalised_hidden_patches():
    encoder = make("videomae")
    frames, action, reward, _ = sequences(4)
    made = []
    encoder.decoder.register_forward_hook(lambda _, given, out: made.append((*given, out)))
    loss = encoder.losses(frames, action, reward)["videomae_loss"]
    _, visible, hidden, predicted = made[0]
    clip = encoder.normalise(frames[:, :4]).numpy()
    errors = []
    for b in range(4):
        for m, token in enumerate(hidden[b].tolist()):
            t, row, column = token // 16, token % 16 // 4, token % 4
            block = clip[b, 2 * t : 2 * t + 2, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            block = block.transpose(0, 2, 3, 1).reshape(-1, 3)  # pixels, colours
            target = (block - block.mean(0)) / np.sqrt(block.var(0, ddof=1) + 1e-4)
            error = predicted[b, visible.shape[1] + m].detach().numpy() - target.reshape(-1)
            errors.append((error**2).mean())
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-4)


def test_still_patches_stay_still():
    clip = torch.randn(2, 4, 3, 32, 32)
    clip[0, :2, :, :8, :8] = 0.5 + 1e-6 * torch.randn(2, 3, 8, 8)
    found = patches(clip, VIT)
    assert found[0, 0].abs().max() < 1e-3
    assert found[0, 1].std().item() == pytest.approx(1.0, abs=0.01)


# ---- LeJEPA ----


def closed_form(x: np.ndarray) -> float:
    """The statistic over the whole line, where the integral has a closed form."""
    n, pairs = len(x), np.exp(-((x[:, None] - x) ** 2) / 2).sum() / len(x)
    return (2 * np.pi) ** 0.5 * (pairs - 2**0.5 * np.exp(-(x**2) / 4).sum() + n / 3**0.5)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.3, 0.0), (1.0, 2.0), (3.0, -1.0)])
def test_epps_pulley_against_its_integral(scale, offset):
    x = np.random.default_rng(0).normal(offset, scale, 60)

    def integrand(t: float) -> float:
        return abs(np.exp(1j * t * x).mean() - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)

    expected = 60 * integrate.quad(integrand, -3, 3, limit=200)[0]
    found = epps_pulley(torch.tensor(x[:, None], dtype=torch.float32), knots=17).item()
    assert found == pytest.approx(expected, rel=0.02)
    assert found == pytest.approx(closed_form(x), rel=0.05)  # beyond |t| = 3 there is next to nothing


def test_sigreg_is_least_for_a_standard_normal():
    normal = torch.randn(500, 8)
    sign = torch.where(torch.rand(500, 1) < 0.5, -1.0, 1.0)
    clouds = {
        "normal": normal,
        "collapsed": torch.zeros(500, 8),
        "constant": torch.ones(500, 8),
        "narrow": 0.3 * normal,
        "wide": 3 * normal,
        "line": normal[:, :1].expand(-1, 8),
        "bimodal": 0.1 * normal + 2 * sign * F.normalize(torch.randn(8), dim=0),
    }
    found = {name: sigreg(cloud, 512, 17).item() for name, cloud in clouds.items()}
    assert found["normal"] == pytest.approx(1.05, abs=0.4)
    assert all(value > 10 * found["normal"] for name, value in found.items() if name != "normal"), found


def test_sigreg_pulls_a_cloud_to_the_normal():
    cloud = (0.2 * torch.randn(256, 4) + 1.5).requires_grad_()
    optimizer = torch.optim.Adam([cloud], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        sigreg(cloud, 64, 17).backward()
        optimizer.step()
    assert cloud.mean(0).abs().max() < 0.2
    torch.testing.assert_close(cloud.detach().T.cov(), torch.eye(4), atol=0.25, rtol=0)


def test_lejepa_by_hand():
    encoder = make("lejepa", sigreg_coef=0.5).eval()  # BatchNorm's running values, so that rows stand alone
    frames, action, reward, _ = sequences(6)
    torch.manual_seed(7)
    losses = encoder.losses(frames, action, reward)
    z, after = (encoder.projector(encoder.embed(encoder.tokens(x))) for x in (frames[:, :4], frames[:, -4:]))
    torch.manual_seed(7)
    expected = 0.5 * sigreg(torch.stack([z, after]), 64, 17)
    torch.testing.assert_close(losses["sigreg_loss"], expected)
    for k in range(STEPS):
        z = z + encoder.forward_model(torch.cat([z, action[:, k]], 1))
    error = (z - after).pow(2).mean()
    torch.testing.assert_close(losses["lejepa_loss"], error)
    weight = encoder.vit.norm.weight  # through the target too: there is neither teacher nor stop-gradient
    (found,), (wanted,) = (torch.autograd.grad(loss, weight) for loss in (losses["lejepa_loss"], error))
    torch.testing.assert_close(found, wanted)
    assert encoder.teacher is None


# ---- VICReg ----


def test_vicreg_by_hand():
    encoder = make("vicreg", moments=True).eval()
    frames, action, reward, _ = sequences(10)
    losses = encoder.losses(frames, action, reward)
    with torch.no_grad():
        views = [
            encoder.expander(encoder.embed(encoder.tokens(x))).double().numpy() for x in (frames[:, :4], frames[:, -4:])
        ]
    invariance = ((views[0] - views[1]) ** 2).mean()
    variance = np.mean([np.maximum(0, 1 - np.sqrt(x.var(0, ddof=1) + 1e-4)).mean() for x in views])
    covariances = [np.cov(x.T) for x in views]
    covariance = sum((c**2).sum() - (np.diag(c) ** 2).sum() for c in covariances) / 32
    assert losses["vicreg_invariance_loss"].item() == pytest.approx(25 * invariance, rel=1e-3)
    assert losses["vicreg_variance_loss"].item() == pytest.approx(25 * variance, rel=1e-3)
    assert losses["vicreg_covariance_loss"].item() == pytest.approx(covariance, rel=1e-3)


def test_views_are_shifts():
    clips = torch.rand(40, 4, 3, 32, 32)
    moved = shifted(clips, 2)
    padded = F.pad(clips.flatten(0, 1), (2,) * 4, mode="replicate").unflatten(0, (40, 4))
    seen = set()
    for b in range(40):
        places = [
            (y, x) for y in range(5) for x in range(5) if torch.equal(moved[b], padded[b, :, :, y : y + 32, x : x + 32])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 10


def test_frames_of_a_sequence_are_moved_together():
    encoder = make("videomae", random_shift=3)
    batches = []
    encoder.objective = lambda batch: batches.append(batch) or {"loss": batch.frames.sum()}
    frames, action, reward, _ = sequences(20)
    encoder.losses(frames, action, reward)
    moved, still = batches[0].frames, encoder.normalise(frames)  # (B, F + K, 3, 32, 32)
    padded = F.pad(still.flatten(0, 1), (3,) * 4, mode="replicate").unflatten(0, still.shape[:2])
    offsets = set()
    for b in range(20):
        places = [(y, x) for y in range(7) for x in range(7)]
        places = [(y, x) for y, x in places if torch.equal(moved[b], padded[b, :, :, y : y + 32, x : x + 32])]
        assert len(places) == 1
        offsets.add(places[0])
    assert len(offsets) > 8


def test_brightness_changes_what_the_camera_saw():
    encoder = make("vicreg", shift=0, brightness=0.2)
    pixels = torch.randint(256, (40, 4, 3, 32, 32), dtype=torch.uint8)
    raw = encoder._view(encoder.normalise(pixels)) * encoder.pixel_std + encoder.mean_frame
    ratio = (raw.flatten(1).sum(1) / pixels.float().flatten(1).sum(1)) - 1
    torch.testing.assert_close(raw, pixels * (1 + ratio.view(-1, 1, 1, 1, 1)), atol=1e-2, rtol=1e-3)
    assert ratio.abs().max() < 0.2 and ratio.std() > 0.08
