"""V-JEPA: its terms, its teacher, and what it learns of a dot that moves."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from mindreel import cli
from mindreel.encoders.backbone.masks import PUBLISHED_MASKS, MaskConfig, distance_to_hidden, sample_published_masks
from mindreel.encoders.backbone.vit import ViTConfig, gather_tokens
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig
from mindreel.encoders.objectives.vjepa import VJEPA, VJEPAConfig
from mindreel.encoders.pretrainer import CollapseError, PretrainConfig, Pretrainer
from mindreel.encoders.probes.regression import ProbeConfig, linear_probe
from mindreel.run_config import GROUPS, TrainConfig

FRAMES, STEPS, SIDE = 2, 2, 32
CONFIG = VJEPAConfig(
    readout="embedding",
    vit=ViTConfig(image_size=SIDE, frames=FRAMES, tubelet=FRAMES, patch=8, dim=24, depth=1, heads=2),
    masks=MaskConfig(),
    embedding_dim=32,
    token_channels=8,
    predictor_dim=24,
    auxiliary=AuxiliaryConfig(
        future_coef=1.0, contrast_coef=1.0, reward_coef=1.0, future_components=8, change_components=4
    ),
)


def rollouts(count: int, seed: int) -> tuple[torch.Tensor, ...]:
    """A dot over a gradient, pushed left or right: frames, actions, rewards, and its centre (N, 2)."""
    generator = torch.Generator().manual_seed(seed)
    action = 2 * torch.rand(count, FRAMES - 1 + STEPS, 1, generator=generator) - 1
    place = 6 + 20 * torch.rand(count, 2, generator=generator)
    background = torch.linspace(0, 120, SIDE).expand(3, SIDE, SIDE)
    frames, places, grid = [], [], torch.arange(SIDE)
    for t in range(FRAMES + STEPS):
        near = ((grid[None, :, None] - place[:, 0, None, None]).abs() < 2.5) & (
            (grid[None, None, :] - place[:, 1, None, None]).abs() < 2.5
        )
        frames.append(torch.where(near[:, None], 250.0, background).byte())
        places.append(place)
        if t < FRAMES + STEPS - 1:
            place = (place + torch.tensor([0.0, 4.0]) * action[:, t]).clamp(3, SIDE - 4)
    reward = torch.stack([1 - (p[:, 1] - 16).abs() / 16 for p in places[FRAMES:]], 1)
    return torch.stack(frames, 1), action[:, FRAMES - 1 :], reward, places[FRAMES - 1] / 16 - 1


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, ...]:
    return rollouts(600, seed=1)


def encoder(data, auxiliary=(), **changes) -> VJEPA:
    config = replace(CONFIG, auxiliary=replace(CONFIG.auxiliary, **dict(auxiliary)), **changes)
    made = VJEPA(config, action_dim=1)
    made.fit(data[0][:, :2], data[2][:, 0])
    return made


TERMS = {
    "jepa_coef": "vjepa_loss",
    "future_coef": "future_loss",
    "contrast_coef": "contrast_loss",
    "reward_coef": "reward_loss",
    "variance_coef": "variance_loss",
    "covariance_coef": "covariance_loss",
    "inverse_coef": "inverse_loss",
}


def weighed(data, weights: dict[str, float]) -> VJEPA:
    auxiliary = {name: weight for name, weight in weights.items() if name != "jepa_coef"}
    return encoder(data, auxiliary, jepa_coef=weights["jepa_coef"])


def test_each_coefficient_weighs_its_term_and_zero_switches_it_off(data):
    sample = [x[:16] for x in data[:3]]
    results = {}
    for weight in (1.0, 3.0):
        torch.manual_seed(2)
        made = weighed(data, dict.fromkeys(TERMS, weight))
        torch.manual_seed(3)
        results[weight] = {name: x.detach() for name, x in made.losses(*sample).items()}
    assert set(results[1.0]) == set(TERMS.values())
    for name, value in results[1.0].items():
        assert value > 0
        assert results[3.0][name].item() == pytest.approx(3 * value.item(), rel=1e-4), name
    for coefficient, term in TERMS.items():
        with torch.no_grad():
            losses = weighed(data, dict.fromkeys(TERMS, 1.0) | {coefficient: 0.0}).losses(*sample)
        assert float(losses.get(term, 0.0)) == 0.0
        assert all(float(losses[other]) > 0 for other in TERMS.values() if other != term)


def test_variance_and_covariance_by_hand(data):
    made = encoder(data, {"variance_coef": 2.0, "covariance_coef": 0.5}).auxiliary
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.6], [-1.0, 0.6]]).repeat(1, 1)
    losses = made.collapse_losses(x)
    std = [(4 / 3 + 1e-4) ** 0.5, (0.36 / 3 + 1e-4) ** 0.5]
    assert losses["variance_loss"].item() == pytest.approx(2 * (0 + 1 - std[1]) / 2, rel=1e-4)
    assert losses["covariance_loss"].item() == pytest.approx(0.0, abs=1e-6)
    tilted = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # covariance 2, twice off the diagonal, over 2 features
    assert made.collapse_losses(tilted)["covariance_loss"].item() == pytest.approx(0.5 * (4 + 4) / 2)


def test_the_teacher_is_a_moving_average_without_gradient(data):
    made = encoder(data, ema_start=0.9, ema_end=1.0)
    weight, teacher = made.vit.norm.weight, made.teacher.norm.weight
    assert torch.equal(weight, teacher)
    weight.data.fill_(2.0)
    teacher.data.fill_(1.0)
    made.update_teacher(0.0)
    torch.testing.assert_close(teacher, torch.full_like(teacher, 1.1))
    made.update_teacher(0.5)  # keeps 0.95
    torch.testing.assert_close(teacher, torch.full_like(teacher, 1.145))
    made.update_teacher(1.0)
    torch.testing.assert_close(teacher, torch.full_like(teacher, 1.145))
    sum(made.losses(*[x[:16] for x in data[:3]]).values()).backward()
    assert all(p.grad is None for p in made.teacher.parameters())
    assert all(p.grad is not None and p.grad.any() for p in made.vit.blocks.parameters())
    trained = {id(p) for group in Pretrainer(PretrainConfig(), made).optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in made.teacher.parameters()}


def test_components_are_white(data):
    made = encoder(data)
    terms = made.auxiliary
    before, now = terms._pooled(made.normalise(data[0][:, :2])).unbind(1)
    for values, axes, count in ((now, terms.frame_components, 8), (now - before, terms.change_components, 4)):
        scores = values @ axes
        torch.testing.assert_close(scores.T.cov(), torch.eye(count), atol=0.1, rtol=0)
    torch.testing.assert_close(made.normalise(data[0][:, 1]).std(), torch.tensor(1.0), atol=0.01, rtol=0)


def test_the_options_of_the_papers_by_hand(data):
    """Hidden and visible tokens under two masks and at two levels, recomputed from the parts."""
    changes = {"published_masks": True, "visible_coef": 0.3, "levels": 2, "jepa_fraction": 1.0, "jepa_coef": 2.0}
    changes["random_shift"] = 0
    made = encoder(data, vit=replace(CONFIG.vit, depth=2, frames=2, tubelet=1), **changes)
    sample = [x[:8] for x in data[:3]]
    torch.manual_seed(4)
    found = made.losses(*sample)["vjepa_loss"]
    torch.manual_seed(4)
    vit, clip = made.config.vit, made.normalise(sample[0][:, :FRAMES])
    taught = made.teacher.encode(made.teacher.embed(clip), levels=2)  # the levels are layer-normed, and once more
    targets = [F.layer_norm(level, (24,)) for level in taught.split(24, -1)]
    errors = []
    drawn = [sample_published_masks(mask, len(clip), vit, clip.device) for mask in PUBLISHED_MASKS]
    for number, (visible, hidden) in enumerate(drawn):
        context = made.vit.encode(made.vit.embed(clip), visible, levels=2)
        predicted = made.predictor(context, visible, hidden, number).split(24, -1)
        total = 0.0
        for level, target in zip(predicted, targets, strict=True):
            total += (level[:, visible.shape[1] :] - gather_tokens(target, hidden)).abs().mean() / 2
            error = (level[:, : visible.shape[1]] - gather_tokens(target, visible)).abs().mean(-1)
            total += 0.3 * (error / distance_to_hidden(vit, visible, hidden).sqrt()).mean() / 2
        errors.append(total)
    assert found.item() == pytest.approx(2.0 * (errors[0] + errors[1]).item() / 2, rel=1e-5)
    with pytest.raises(ValueError, match="blocks of the transformer, so it must be 1 to 1, got 2"):
        replace(CONFIG, levels=2)


def test_each_published_mask_has_a_token_of_its_own(data):
    made = encoder(data, published_masks=True)
    assert made.predictor.mask_tokens.shape == (2, 24) and not made.predictor.mask_tokens.any()  # zero at first
    assert encoder(data).predictor.mask_tokens.shape == (1, 24)
    made.losses(*[x[:16] for x in data[:3]])["vjepa_loss"].backward()
    gradient = made.predictor.mask_tokens.grad
    assert gradient[0].any() and gradient[1].any() and not torch.allclose(gradient[0], gradient[1])
    with torch.no_grad():
        made.predictor.mask_tokens.copy_(torch.randn(2, 24))
    single = encoder(data).predictor
    state = made.predictor.state_dict()
    single.load_state_dict(state | {"mask_tokens": state["mask_tokens"][1:]})
    context, visible, hidden = torch.randn(3, 2, 24), torch.tensor([[0, 5]] * 3), torch.tensor([[1, 2, 7]] * 3)
    torch.testing.assert_close(made.predictor(context, visible, hidden, 1), single(context, visible, hidden))
    assert not torch.allclose(made.predictor(context, visible, hidden, 0), single(context, visible, hidden))


def test_one_preset_is_the_published_recipe(data):
    """The numbers of facebookresearch/jepa, configs/pretrain/vitl16.yaml; the transformer keeps our size."""
    config = cli.compose(TrainConfig, GROUPS, ["preset=published"]).encoder
    assert isinstance(config, VJEPAConfig) and config.published_masks and not config.auxiliary.active
    assert (config.ema_start, config.ema_end, config.jepa_fraction, config.random_shift) == (0.998, 1.0, 1.0, 0)
    assert (config.vit.stem, config.vit.positions, config.vit.position_base) == ("linear", "sincos", 10_000.0)
    assert (config.vit.dim, config.levels, config.visible_coef) == (VJEPAConfig().vit.dim, 1, 0.0)
    small = replace(config, vit=replace(config.vit, **{"image_size": SIDE, "frames": FRAMES, "tubelet": FRAMES}))
    made = VJEPA(small, action_dim=1)
    made.fit(data[0][:, :2], data[2][:, 0])
    assert set(made.losses(*[x[:16] for x in data[:3]])) == {"vjepa_loss"}
    smaller = cli.compose(TrainConfig, GROUPS, ["preset=published", "encoder.vit.positions=rotary"]).encoder
    assert smaller.published_masks and smaller.vit.positions == "rotary"


def train(made: VJEPA, data, steps: int, **changes) -> list[dict[str, float]]:
    config = PretrainConfig(**({"steps": steps, "batch_size": 32, "lr": 3e-3, "log_every": 10} | changes))

    def sample() -> tuple[torch.Tensor, ...]:
        rows = torch.randint(len(data[0]), (config.batch_size,))
        return tuple(x[rows] for x in data[:3])

    rows = list(Pretrainer(config, made).train(sample, steps, config.lr))
    assert len(rows) == steps
    return [row for row in rows if row is not None]


def test_pretraining_learns_where_the_dot_is(data):
    made = encoder(data)
    untrained = copy.deepcopy(made)
    rows = train(made, data, steps=120)
    for name in ("future_loss", "contrast_loss", "reward_loss"):
        assert rows[-1][name] < 0.9 * rows[0][name], name
    assert rows[-1]["effective_rank"] > 2
    held = rollouts(300, seed=2)
    scores = {}
    with torch.no_grad():
        for name, each in (("trained", made), ("untrained", untrained)):
            seen, unseen = each(data[0][:, :FRAMES]), each(held[0][:, :FRAMES])
            scores[name] = linear_probe(ProbeConfig(), seen, data[3], unseen, held[3])
    error = {name: (1 - score).mean().item() for name, score in scores.items()}
    assert error["trained"] < 0.15
    assert error["trained"] < 0.5 * error["untrained"]


def test_a_resumed_phase_goes_on_where_it_stood(data):
    config = PretrainConfig(steps=6, batch_size=8, log_every=1)

    def sample() -> tuple[torch.Tensor, ...]:
        rows = torch.randint(len(data[0]), (8,))
        return tuple(x[rows] for x in data[:3])

    whole = encoder(data)
    parts = copy.deepcopy(whole)
    torch.manual_seed(1)
    expected = list(Pretrainer(config, whole).train(sample, 6, 1e-3))
    torch.manual_seed(1)
    first = Pretrainer(config, parts)
    training = first.train(sample, 6, 1e-3)
    found = [next(training) for _ in range(3)]
    second = Pretrainer(config, parts)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    found += list(second.train(sample, 6, 1e-3))
    assert found == expected
    assert second.done == 0 and second.step == 6 and not parts.training
    for (name, one), two in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_a_collapsed_encoder_stops_the_run(data):
    made = encoder(data)
    with torch.no_grad():
        made.readout.mlp[-1].weight.zero_()
    with pytest.raises(CollapseError, match=r"collapsed at step 1: .*effective rank 1\.0"):
        train(made, data, 3, log_every=1, lr=1e-9, warmup=1000)
    made = encoder(data)
    with torch.no_grad():
        made.readout.mlp[-1].bias.fill_(torch.nan)
    with pytest.raises(CollapseError, match="effective rank nan"):
        train(made, data, 3, log_every=1)
