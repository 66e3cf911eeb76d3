"""Positions, tokens, masks, probes, ranks and identities against plain code and known values."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mindreel.encoders import (
    ALIASES,
    ENCODERS,
    CNNConfig,
    Encoder,
    PixelsConfig,
    StateConfig,
    UntrainedConfig,
    VJEPAConfig,
    has_objective,
    make_encoder,
)
from mindreel.encoders.backbone.masks import (
    PUBLISHED_MASKS,
    MaskConfig,
    cover,
    cover_as_published,
    distance_to_hidden,
    motion_weight,
    sample_masks,
    sample_published_masks,
    sample_tubes,
    show_only,
)
from mindreel.encoders.backbone.readout import EmbeddingReadout, make_readout
from mindreel.encoders.backbone.vit import VideoTransformer, ViTConfig, gather_tokens, sincos_positions
from mindreel.encoders.probes.regression import (
    ProbeConfig,
    effective_rank,
    evenly_spaced,
    linear_probe,
    mlp_predictions,
    r2,
    split_rows,
)

VIT = ViTConfig(image_size=32, frames=4, tubelet=2, patch=8, dim=24, depth=1, heads=2)
VIT_8 = replace(VIT, image_size=64)


# ---- tokens ----


@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_positions_follow_the_grid(base):
    time, height, width, dim = 2, 3, 4, 20  # 6 features an axis, 2 left over
    positions = sincos_positions((time, height, width), dim, base)
    assert positions.shape == (24, dim)
    for n in range(24):
        place = (n // 12, n // 4 % 3, n % 4)
        for axis, index in enumerate(place):
            angles = [index / base ** (k / 3) for k in range(3)]
            expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(positions[n, 6 * axis : 6 * axis + 6], torch.tensor(expected))
    assert not positions[:, 18:].any()
    assert len(positions.unique(dim=0)) == 24


def test_gather_tokens():
    x = torch.randn(3, 7, 5)
    index = torch.tensor([[0, 6], [3, 3], [2, 1]])
    picked = gather_tokens(x, index)
    for b in range(3):
        assert torch.equal(picked[b], x[b, index[b]])


@pytest.mark.parametrize("stem", ["conv", "linear"])
def test_tokens_lie_where_their_pixels_are(stem):
    """Frames 2 and 3, rows 8-15, columns 24-31 are token (1, 1, 3)."""
    vit = VideoTransformer(replace(VIT, stem=stem))
    if stem == "conv":  # its GroupNorm looks at the whole picture
        vit.stem.net = torch.nn.Sequential(*(x for x in vit.stem.net if not isinstance(x, torch.nn.GroupNorm)))
    clip = torch.zeros(1, 4, 3, 32, 32)
    clip[:, 2:, :, 8:16, 24:] = 5.0
    moved = (vit.stem(clip) - vit.stem(torch.zeros_like(clip))).norm(dim=-1)[0]
    touched = (moved > 1e-5).nonzero()[:, 0].tolist()
    assert 16 + 1 * 4 + 3 in touched
    reach = 1 if stem == "conv" else 0  # places beyond the patch that a stem may see
    allowed = [16 + 4 * row + column for row in range(4) for column in range(4)]
    assert set(touched) <= {n for n in allowed if abs(n % 16 // 4 - 1) <= reach and 3 - n % 4 <= reach}
    assert vit(clip).shape == (1, 32, 24)
    every = torch.arange(32)[None]
    torch.testing.assert_close(vit(clip, every), vit(clip))
    assert vit(clip, every[:, :5]).shape == (1, 5, 24)


def test_rotary_positions_go_with_their_tokens():
    vit = VideoTransformer(replace(VIT, positions="rotary", depth=2))
    clip = torch.randn(2, 4, 3, 32, 32)
    whole = vit(clip)
    order = torch.stack([torch.randperm(32), torch.randperm(32)])
    torch.testing.assert_close(vit(clip, order), gather_tokens(whole, order))
    moved = vit.encode(vit.embed(clip).roll(1, 1))  # the same tokens at other places
    assert (moved.roll(-1, 1) - whole).abs().max() > 1e-3


def test_levels_are_outputs_of_blocks():
    vit = VideoTransformer(replace(VIT, depth=3))
    x = vit.embed(torch.randn(2, 4, 3, 32, 32))
    first = vit.blocks[0](x)
    last = vit.blocks[2](vit.blocks[1](first))
    found = vit.encode(x, levels=2)  # after 3 * 1 // 2 blocks, and after all
    torch.testing.assert_close(found, torch.cat([F.layer_norm(first, (24,)), vit.norm(last)], -1))
    torch.testing.assert_close(vit.encode(x), found[..., 24:])


def test_sizes_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match="position_base must be above 1, got 1.0"):
        replace(VIT, position_base=1.0)
    for wrong in ({"image_size": 30}, {"frames": 3}, {"heads": 5}):
        with pytest.raises(ValueError, match="must be a multiple"):
            replace(VIT, **wrong)
    with pytest.raises(ValueError, match="conv or linear"):
        replace(VIT, stem="cnov")


# ---- masks ----


def dot_clips(batch: int, row: int, column: int) -> torch.Tensor:
    clips = torch.zeros(batch, 4, 3, 32, 32)
    clips[:, :, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 3.0
    return clips


@pytest.mark.parametrize(
    "config",
    [
        MaskConfig(),
        MaskConfig(motion=False),
        MaskConfig(blocks=1),
        MaskConfig(scale=0.7),
        MaskConfig(visible=0.8),
    ],
)
def test_masks_are_equal_in_number_and_disjoint(config):
    visible, hidden = sample_masks(config, torch.randn(50, 4, 3, 32, 32), VIT)
    assert visible.shape == (50, 2 * round(config.visible * 16)) and hidden.shape[0] == 50
    assert hidden.shape[1] >= 2
    for v, h in zip(visible.tolist(), hidden.tolist(), strict=True):
        assert len(set(v)) == len(v) and len(set(h)) == len(h) and not set(v) & set(h)
        assert min(v + h) >= 0 and max(v + h) < VIT.num_tokens
        # through the whole clip: the same places at both times
        for tokens in (v, h):
            assert {n for n in tokens if n < 16} == {n - 16 for n in tokens if n >= 16}


def test_one_block_hides_one_rectangle():
    vit = ViTConfig(image_size=64, frames=4, tubelet=4, patch=8, dim=24, heads=2)
    config = MaskConfig(blocks=1, scale=0.2, aspect_min=1.0, aspect_max=1.0, motion=False)
    _, hidden = sample_masks(config, torch.zeros(40, 4, 3, 64, 64), vit)
    assert hidden.shape == (40, 16)  # sqrt(0.2 * 64) rounds to 4 places a side
    for h in hidden:
        rows, columns = h // 8, h % 8
        assert rows.max() - rows.min() == 3 and columns.max() - columns.min() == 3


def test_motion_masks_cover_what_moves():
    shares = {}
    for motion in (True, False):
        config = MaskConfig(blocks=1, scale=0.1, motion=motion)
        _, hidden = sample_masks(config, dot_clips(500, 1, 2), VIT)
        shares[motion] = (hidden == 1 * 4 + 2).any(1).float().mean().item()
    assert shares[True] > 0.4  # the hidden number is the batch's smallest, so not every block shows whole
    assert shares[True] > 2 * shares[False]


def chance(height: int, width: int, rows: int, columns: int) -> torch.Tensor:
    """How likely a block whose top-left corner is uniform covers each place: (rows, columns)."""

    def along(length: int, size: int) -> torch.Tensor:
        place = torch.arange(size)
        starts = place.clamp(max=size - length) - (place - length + 1).clamp(min=0) + 1  # that cover the place
        return starts / (size - length + 1)

    return along(height, rows)[:, None] * along(width, columns)


def test_chance_by_hand():
    assert chance(2, 3, 3, 3).tolist() == [[0.5] * 3, [1.0] * 3, [0.5] * 3]  # two starts along rows, one along columns


def block_size(area: int, aspect: float, side: int) -> tuple[int, int]:
    return min(side, round((area * aspect) ** 0.5)), min(side, round((area / aspect) ** 0.5))


@pytest.mark.parametrize(("side", "count", "scale"), [(8, 4, 0.2), (14, 8, 0.15)])
@pytest.mark.parametrize("motion", [True, False])
def test_blocks_lie_everywhere_alike_where_nothing_moves(side, count, scale, motion):
    """Each place is covered as often as by blocks whose corners are uniform: they do not pile up at the borders."""
    config = MaskConfig(blocks=count, scale=scale, aspect_min=1.0, aspect_max=1.0)
    still = torch.zeros(1, 1, 3, 8 * side, 8 * side)
    weight = motion_weight(still, side, side) if motion else torch.ones(1, side**2)
    found = cover(config, weight.expand(20_000, -1), side, side)
    height, width = block_size(scale * side**2, 1.0, side)
    expected = 1 - (1 - chance(height, width, side, side)) ** count
    torch.testing.assert_close(found.float().mean(0), expected, rtol=0, atol=0.015)


def test_a_block_covers_the_place_that_it_was_drawn_for():
    config = MaskConfig(blocks=1, scale=0.2)
    covered = cover(config, torch.eye(64).repeat(50, 1), 8, 8).flatten(1)
    assert covered[torch.arange(3200), torch.arange(64).repeat(50)].all()


def test_the_published_masks_cover_as_in_the_original():
    """One size for a batch, corners uniform, masks that leave nothing free drawn again (facebookresearch/jepa)."""
    side, aspects = 14, torch.linspace(0.75, 1.5, 5001).tolist()
    vit = ViTConfig(image_size=8 * side, frames=1, tubelet=1, patch=8, dim=24, heads=2)
    eight, two = PUBLISHED_MASKS
    assert (eight.blocks, eight.scale, two.blocks, two.scale) == (8, 0.15, 2, 0.7)
    sizes = [block_size(int(0.15 * side**2), aspect, side) for aspect in aspects]
    expected = torch.stack([1 - (1 - chance(*size, side, side)) ** 8 for size in sizes]).mean(0)
    assert expected[0, 0] == pytest.approx(0.08, abs=0.01) and expected[7, 7] == pytest.approx(0.95, abs=0.01)
    found = torch.cat([cover_as_published(eight, 32, vit, torch.device("cpu")) for _ in range(400)])
    torch.testing.assert_close(found.float().mean(0), expected, rtol=0, atol=0.03)
    sizes = [block_size(int(0.7 * side**2), aspect, side) for aspect in aspects]
    means = {size: mean_of_two(*size, side) for size in set(sizes)}
    expected = torch.stack([means[size] for size in sizes]).mean(0)
    found = torch.cat([cover_as_published(two, 32, vit, torch.device("cpu")) for _ in range(400)])
    assert not found.flatten(1).all(1).any()
    torch.testing.assert_close(found.float().mean(0), expected, rtol=0, atol=0.03)


def mean_of_two(height: int, width: int, side: int) -> torch.Tensor:
    """Mean over all pairs of blocks that leave a place free, by counting."""
    starts = [(top, left) for top in range(side - height + 1) for left in range(side - width + 1)]
    blocks = torch.zeros(len(starts), side, side, dtype=torch.bool)
    for block, (top, left) in zip(blocks, starts, strict=True):
        block[top : top + height, left : left + width] = True
    pairs = (blocks[:, None] | blocks[None]).flatten(0, 1)
    return pairs[~pairs.flatten(1).all(1)].float().mean(0)


def test_the_published_masks_show_what_no_block_covers():
    """As many tokens as the fullest mask of the batch leaves free, and none of them under a block."""
    for mask in PUBLISHED_MASKS:
        torch.manual_seed(5)
        covered = cover_as_published(mask, 16, VIT_8, torch.device("cpu")).flatten(1)
        torch.manual_seed(5)
        visible, hidden = sample_published_masks(mask, 16, VIT_8, torch.device("cpu"))
        assert visible.shape == (16, 2 * int((~covered).sum(1).min()))
        assert hidden.shape == (16, 2 * int(covered.sum(1).min()))
        both = covered.repeat(1, 2)  # two times
        assert both.gather(1, hidden).all() and not both.gather(1, visible).any()


@pytest.mark.parametrize(
    "wrong", [{"visible": 0.0}, {"visible": 1.0}, {"blocks": 0}, {"scale": 0.0}, {"aspect_min": 2.0}]
)
def test_masks_that_cannot_be_drawn_are_named(wrong):
    with pytest.raises(ValueError, match="got"):
        MaskConfig(**wrong)


def test_tubes_hide_places_through_the_whole_clip():
    visible, hidden = sample_tubes(0.9, 50, VIT, torch.device("cpu"))
    assert visible.shape == (50, 2 * 2) and hidden.shape == (50, 2 * 14)  # 1.6 of 16 places are visible: 2
    for v, h in zip(visible.tolist(), hidden.tolist(), strict=True):
        assert sorted(v + h) == list(range(32))
        assert {n for n in v if n < 16} == {n - 16 for n in v if n >= 16}
    assert len(visible[:, 0].unique()) > 8  # anywhere
    assert sample_tubes(0.99, 1, VIT, torch.device("cpu"))[0].shape == (1, 2)  # one place is left


def test_show_only_leaves_the_pixels_of_visible_tokens():
    clips = torch.rand(2, 4, 3, 32, 32) + 1
    shown = show_only(clips, torch.tensor([[5, 16], [31, 31]]), VIT)
    expected = torch.zeros_like(clips)
    expected[0, :2, :, 8:16, 8:16] = clips[0, :2, :, 8:16, 8:16]  # token 5: first tubelet, row 1, column 1
    expected[0, 2:, :, :8, :8] = clips[0, 2:, :, :8, :8]
    expected[1, 2:, :, 24:, 24:] = clips[1, 2:, :, 24:, 24:]
    assert torch.equal(shown, expected)


def test_distance_to_hidden_by_hand():
    visible, hidden = torch.tensor([[0, 3, 16]]), torch.tensor([[5, 1]])  # hidden: (0, 1, 1) and (0, 0, 1)
    found = distance_to_hidden(VIT, visible, hidden)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 2**0.5]]))


# ---- probes ----


def test_r2_of_known_predictions():
    target = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 3.0]])
    assert r2(target, target).tolist() == [1.0, 1.0]
    assert r2(target.mean(0).expand(3, -1), target).tolist() == [0.0, 0.0]
    off = target + torch.tensor([1.0, 0.0])  # residual 3, total 2
    torch.testing.assert_close(r2(off, target), torch.tensor([-0.5, 1.0]))
    still = torch.full((3, 1), 3.7)  # there is nothing to tell
    assert r2(still + 1, still).isnan().all()
    assert r2(target, target, torch.tensor([1.0, 1.0, 0.0]))[1].isnan()  # nor where these rows count


@pytest.mark.parametrize("width", [6, 120])  # fewer and more features than rows
def test_linear_probe_is_ridge_regression(width):
    rng = np.random.default_rng(0)
    x, test_x = rng.normal(2, 3, (80, width)), rng.normal(2, 3, (40, width))
    weight = rng.normal(size=(width, 2))
    y, test_y = x @ weight + rng.normal(size=(80, 2)), test_x @ weight
    config = ProbeConfig(ridge=(10.0,))
    found = linear_probe(config, *(torch.tensor(a, dtype=torch.float32) for a in (x, y, test_x, test_y)))
    mean, std = x.mean(0), x.std(0, ddof=1)
    a, test_a = (x - mean) / std, (test_x - mean) / std
    solution = np.linalg.solve(a.T @ a + 10 * np.eye(width), a.T @ (y - y.mean(0)))
    predicted = test_a @ solution + y.mean(0)
    expected = 1 - ((predicted - test_y) ** 2).sum(0) / ((test_y - test_y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_probes_know_what_there_is_to_know():
    x, test_x = torch.randn(1500, 5), torch.randn(500, 5)
    both = [(torch.stack([2 * a[:, 0] - a[:, 3] + 7, a[:, 1] * a[:, 2]], 1), a) for a in (x, test_x)]
    (y, _), (test_y, _) = both
    config = ProbeConfig(steps=300)
    linear = linear_probe(config, x, y, test_x, test_y)
    mlp = r2(mlp_predictions(config, x, y, test_x), test_y)
    assert linear[0] > 0.99 and linear[1] < 0.1  # a product is not linear
    assert mlp[0] > 0.95 and mlp[1] > 0.8
    noise, test_noise = torch.randn(1500, 5), torch.randn(500, 5)
    assert linear_probe(config, noise, y, test_noise, test_y).max() < 0.1
    # Beside something to know, noise would be learned by heart.
    y[:, 0], test_y[:, 0] = torch.randn(1500), torch.randn(500)
    mlp = r2(mlp_predictions(ProbeConfig(steps=600), x, y, test_x), test_y)
    assert mlp[0] > -0.05 and mlp[1] > 0.8
    constant = torch.ones(1500, 5)
    assert linear_probe(config, constant, y, constant[:500], test_y).abs().max() < 0.05


def test_the_penalty_is_chosen_on_rows_held_back():
    x, test_x = torch.randn(60, 50), torch.randn(500, 50)
    weight = torch.zeros(50, 1)
    weight[0] = 1.0
    y, test_y = x @ weight + 2 * torch.randn(60, 1), test_x @ weight
    config = ProbeConfig(ridge=(1e-3, 100.0))
    chosen = linear_probe(config, x, y, test_x, test_y)
    assert torch.equal(chosen, linear_probe(ProbeConfig(ridge=(100.0,)), x, y, test_x, test_y))


def test_a_target_that_rarely_varies_does_not_spoil_the_others():
    """It is zero in all rows held back, where any guess would be infinitely wrong by R2."""
    x, test_x, weight = torch.randn(2000, 50), torch.randn(500, 50), torch.randn(50, 1)
    rare = torch.zeros(2000, 1)
    rare[split_rows(2000)[0][20:40]] = 1.0
    y = torch.cat([x @ weight, rare], 1)
    test_y = torch.cat([test_x @ weight, (torch.arange(500) == 7).float()[:, None]], 1)
    assert linear_probe(ProbeConfig(), x, y, test_x, test_y)[0] > 0.99


def test_rows_spread_out_are_of_all_parts():
    rows = torch.arange(3000)[:, None]
    assert evenly_spaced(rows, 1000).flatten().tolist() == list(range(0, 3000, 3))
    assert torch.equal(evenly_spaced(rows[:999], 1000), rows[:999])


def test_effective_rank_of_known_matrices():
    assert effective_rank(torch.ones(10, 4)).item() == 1.0
    line = torch.linspace(0, 1, 50)[:, None] * torch.randn(4)
    assert effective_rank(line).item() == pytest.approx(1.0, abs=1e-3)
    cross = torch.cat([torch.eye(5), -torch.eye(5)])  # five independent features of one size
    assert effective_rank(cross).item() == pytest.approx(5.0, abs=1e-3)
    two = cross[:, :2] * torch.tensor([3.0**0.5, 1.0])  # variances 3/4 and 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(two).item() == pytest.approx(math.exp(entropy), abs=1e-4)
    assert effective_rank(100 * two + 7).item() == pytest.approx(math.exp(entropy), abs=1e-3)
    assert effective_rank(torch.full((8, 4), torch.nan)).isnan()


# ---- identity ----

SMALL = {"vit": VIT, "embedding_dim": 16, "token_channels": 4}


def small_encoder(**changes):
    torch.manual_seed(0)
    return make_encoder(VJEPAConfig(**{**SMALL, "predictor_dim": 24, **changes}), 1, 5)


def test_identity_changes_with_whatever_the_features_depend_on():
    names = {name for name, _ in small_encoder().vit.named_parameters(prefix="vit")}
    names |= {name for name, _ in small_encoder().readout.named_parameters(prefix="readout")}
    seen = {small_encoder().identity()}
    assert small_encoder().identity() in seen  # the same encoder made twice
    for name in sorted(names):
        encoder = small_encoder()
        with torch.no_grad():
            encoder.get_parameter(name).flatten()[-1].add_(1e-3)
        seen.add(encoder.identity())
    for name in ("mean_frame", "pixel_std"):
        encoder = small_encoder()
        encoder.get_buffer(name).add_(1.0)
        seen.add(encoder.identity())
    seen.add(small_encoder(vit=replace(VIT, heads=3)).identity())  # no weight differs
    seen.add(small_encoder(vit=replace(VIT, position_base=10_000.0)).identity())
    assert len(seen) == 1 + len(names) + 4


def test_encoders_are_made_from_their_configs():
    clip = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    random = make_encoder(UntrainedConfig(**SMALL), 1, 5)
    assert random(clip).shape == (2, random.feature_dim) == (2, 16)
    with pytest.raises(ValueError, match="training_mode=refresh: expected one of frozen"):
        make_encoder(UntrainedConfig(**SMALL, training_mode="refresh"), 1, 5)
    with pytest.raises(ValueError, match="training_mode=refersh: expected one of frozen, finetune, refresh, cotrain"):
        small_encoder(training_mode="refersh")
    cnn = make_encoder(CNNConfig(image_size=48, frames=2), 1, 5).eval()
    pixels = torch.randint(256, (2, 2, 3, 48, 48), dtype=torch.uint8)
    assert cnn(pixels).shape == (2, cnn.feature_dim) and cnn.trained_by_agent
    tokens = cnn.tokens(pixels)
    assert tokens.shape == (2, math.prod(cnn.token_grid), 32)
    torch.testing.assert_close(tokens.transpose(1, 2).flatten(1), cnn(pixels))
    with pytest.raises(ValueError, match=r"reads uint8 frames \(B, 2, 3, 48, 48\), and got torch.uint8 \(2, 1, 3"):
        cnn(pixels[:, :1])
    state = make_encoder(StateConfig(), 1, 5)
    assert torch.equal(state.tokens(torch.ones(2, 5)), torch.ones(2, 1, 5))
    with pytest.raises(ValueError, match="image_size=16: too small"):
        make_encoder(CNNConfig(image_size=16), 1, 5)
    with pytest.raises(ValueError, match="ViTConfig"):
        make_encoder(VIT, 1, 5)


FIELDS = {"cnn": {"image_size": 48, "frames": 2}, "pixels": {"image_size": 32, "components": 6}, "state": {}}


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "pretrained"])  # which needs a checkpoint
def test_every_encoder_keeps_to_what_its_base_class_promises(name):
    config = ENCODERS[name][0](**FIELDS.get(name, SMALL))
    encoder = make_encoder(config, 2, 5).eval()
    shape = (3, encoder.clip_frames, 3, encoder.image_size, encoder.image_size)
    observation = torch.randint(256, shape, dtype=torch.uint8) if encoder.clip_frames else torch.randn(3, 5)
    with torch.no_grad():
        features, tokens = encoder(observation), encoder.tokens(observation)
        monitored = encoder.monitored_features(observation)
    assert features.shape == (3, encoder.feature_dim) and features.dtype == torch.float32
    assert tokens.shape[:2] == (3, math.prod(encoder.token_grid))
    assert monitored.shape[0] == 3 and monitored.ndim == 2
    assert 0 <= encoder.padding_times < encoder.token_grid[0]
    assert encoder.training_mode in ("frozen", "refresh", "finetune", "cotrain")
    assert (
        has_objective(config)
        == encoder.has_objective
        == (type(encoder).losses is not Encoder.losses and name != "untrained")
    )
    assert encoder.needs_sentences == name.startswith("internvideo")
    if not encoder.has_objective and name != "untrained":
        with pytest.raises(NotImplementedError, match="has no pretraining objective"):
            encoder.losses(observation, torch.zeros(3, 1, 2), torch.zeros(3, 1))
    if not encoder.needs_sentences:
        with pytest.raises(NotImplementedError, match="does not learn from sentences"):
            encoder.set_sentences(("a cat",))


def test_former_names_lead_to_encoders():
    assert ALIASES["random"] == "untrained"
    assert not set(ALIASES) & set(ENCODERS) and set(ALIASES.values()) <= set(ENCODERS)


# ---- readouts ----


def uneven_tokens() -> torch.Tensor:
    """Rows whose principal axes differ in spread, (400, 3, 4)."""
    axes = torch.linalg.qr(torch.randn(12, 12))[0]
    return (torch.randn(400, 12) * 0.6 ** torch.arange(12) @ axes + 3).unflatten(1, (3, 4))


def test_compressed_features_are_standardised_principal_components():
    readout = make_readout("compressed", 3, 4, 5, 0)
    assert readout.feature_dim == 5 and not readout(torch.ones(2, 3, 4)).any()
    tokens = uneven_tokens()
    readout.fit(tokens)
    found = readout(tokens).numpy()
    flat = tokens.flatten(1).double().numpy()
    flat = flat - flat.mean(0)
    _, scale, axes = np.linalg.svd(flat, full_matrices=False)
    expected = flat @ axes[:5].T / (scale[:5] / 400**0.5)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=0.03)  # a component's sign is free


def test_there_are_no_more_components_than_different_clips():
    """Drawn again and again, three clips differ along two axes; along the others new clips must not be blown up."""
    readout = make_readout("compressed", 3, 4, 5, 0)
    tokens = torch.randn(3, 3, 4)
    readout.fit(tokens[torch.randint(3, (500,))])
    assert (readout.axes != 0).any(0).sum() == 2
    assert readout(torch.randn(200, 3, 4)).std(0).max() < 5


@pytest.mark.parametrize(("name", "raw"), [("tokens", lambda x: x.flatten(1)), ("pooled", lambda x: x.mean(1))])
def test_tokens_are_centred_and_scaled_once_fitted(name, raw):
    readout = make_readout(name, 3, 4, 5, 0)
    tokens = 10 + 0.1 * uneven_tokens()
    torch.testing.assert_close(readout(tokens), raw(tokens))
    readout.fit(tokens)
    features = readout(tokens)
    assert features.mean(0).abs().max() < 1e-4 and features.var(0).mean() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(
        features.std(0) / features.std(), raw(tokens).std(0) / (raw(tokens) - raw(tokens).mean(0)).std()
    )
    torch.testing.assert_close(readout.monitored_features(tokens), raw(tokens))  # a collapse is not scaled away
    readout.fit(tokens[:1].repeat(100, 1, 1))
    assert readout(tokens).abs().max() < 1000


def test_components_fitted_again_stay_near_the_former_ones():
    readout = make_readout("compressed", 3, 4, 5, 0)
    tokens = uneven_tokens()
    readout.fit(tokens)
    readout.axes.mul_(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]))  # signs are free, and these are to be kept
    before = readout(tokens)
    drifted = tokens + 0.01 * torch.randn(400, 3, 4)
    readout.fit(drifted)
    after = readout(drifted)
    assert (after - before).pow(2).mean() < 0.02
    torch.testing.assert_close(after.T.cov(), torch.eye(5), atol=0.02, rtol=0)


def test_pixels_are_components_of_small_frames():
    encoder = make_encoder(PixelsConfig(image_size=32, frames=2, pool=4, components=6), 1, 5)
    clips = torch.randint(256, (300, 2, 3, 32, 32), dtype=torch.uint8)
    small = encoder.tokens(clips)
    assert small.shape == (300, 2, 192)
    assert small[7, 1, 64 + 8 * 2 + 3].item() == pytest.approx(clips[7, 1, 1, 8:12, 12:16].float().mean().item() / 255)
    assert encoder.fits_readout and not encoder(clips).any()
    encoder.fit_readout(clips)
    features = encoder(clips)
    assert features.shape == (300, encoder.feature_dim) == (300, 6)
    torch.testing.assert_close(features.T.cov(correction=0), torch.eye(6), atol=1e-2, rtol=0)


def test_the_embedding_is_half_whitened_once_fitted():
    readout = EmbeddingReadout(num_tokens=4, dim=8, width=6, channels=3)
    tokens = torch.randn(3000, 4, 8)
    tokens[..., 0] *= 20  # some axes vary far more than others
    with torch.no_grad():
        raw = readout(tokens)
        torch.testing.assert_close(raw, readout.embedding(tokens))  # nothing is changed before
        readout.fit(tokens)
        evened = readout(tokens)
        torch.testing.assert_close(readout.embedding(tokens), raw)  # what losses act on never is
    assert evened.mean(0).abs().max() < 1e-4
    assert evened.std(0).mean() == pytest.approx(1, abs=1e-3)
    before, after = (torch.linalg.eigvalsh(torch.cov(x.T)) for x in (raw, evened))
    # Each variance goes to its square root: half its logarithm is left.
    torch.testing.assert_close((after / after[-1]).log(), (before / before[-1]).log() / 2, atol=0.02, rtol=0.02)


def test_an_unknown_readout_is_named():
    with pytest.raises(ValueError, match="readout=pool: expected one of embedding, compressed, pooled, tokens"):
        small_encoder(readout="pool")
