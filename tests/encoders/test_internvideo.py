"""InternVideo and InternVideo2: text losses by hand, stages, teachers, and what they learn of a dot that moves."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.baselines import StateConfig, StateEncoder
from mindreel.encoders.objectives.internvideo import InternVideo, InternVideoConfig
from mindreel.encoders.objectives.internvideo2 import (
    InternVideo2,
    InternVideo2Config,
    resampled,
    sample_moving,
    unit_distance,
)
from mindreel.encoders.objectives.sentences import SENTENCE_DIM, TextConfig, TextHeads
from mindreel.encoders.objectives.video_encoder import UntrainedConfig, UntrainedEncoder
from mindreel.encoders.pretrainer import PretrainConfig, Pretrainer, flops_per_clip

FRAMES, STEPS, SIDE = 2, 1, 32
VIT = ViTConfig(image_size=SIDE, frames=FRAMES, tubelet=FRAMES, patch=8, dim=24, depth=1, heads=2)
FIRST = InternVideoConfig(vit=VIT, hidden=0.75, embedding_dim=32, text=TextConfig(dim=16))
SECOND = InternVideo2Config(vit=VIT, embedding_dim=32, text=TextConfig(dim=16))
VECTORS = torch.eye(3, SENTENCE_DIM)  # of three sentences: a dot moving left, right, and resting


def rollouts(count: int, seed: int) -> tuple[torch.Tensor, ...]:
    """A dot over a gradient: frames, actions, rewards, and whether it went left, right or nowhere."""
    generator = torch.Generator().manual_seed(seed)
    behaviour = torch.randint(3, (count,), generator=generator)
    place = 8 + 16 * torch.rand(count, 2, generator=generator)
    move = torch.tensor([[0.0, -4.0], [0.0, 4.0], [0.0, 0.0]])[behaviour]
    background, grid = torch.linspace(0, 120, SIDE).expand(3, SIDE, SIDE), torch.arange(SIDE)
    frames = []
    for t in range(FRAMES + STEPS):
        row, column = (place + t * move).T[:, :, None, None]
        near = ((grid[:, None] - row).abs() < 2.5) & ((grid[None] - column).abs() < 2.5)
        frames.append(torch.where(near[:, None], 250.0, background).byte())
    return torch.stack(frames, 1), torch.zeros(count, STEPS, 1), torch.zeros(count, STEPS), behaviour


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, ...]:
    return rollouts(600, seed=1)


def built(data, config) -> InternVideo | InternVideo2:
    made = (InternVideo if isinstance(config, InternVideoConfig) else InternVideo2)(config, action_dim=1)
    made.fit(data[0][:, :2], data[2][:, 0])
    made.text.sentences = VECTORS
    return made


# ---- text ----


def plain_heads(**changes) -> TextHeads:
    """Heads whose projections pass the first two features on."""
    heads = TextHeads(replace(TextConfig(dim=2, temperature=1.0), **changes), dim=2)
    heads.sentences = VECTORS[:2]
    with torch.no_grad():
        for layer in (heads.video, heads.text):
            layer.weight.copy_(torch.eye(2, layer.in_features))
            layer.bias.zero_()
    return heads


def test_clips_of_one_sentence_are_all_its_matches():
    """Cosines are 1 or 0: three clips of the sentences 0, 0 and 1, and one without a sentence."""
    heads, e = plain_heads(), math.e
    video = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    behaviour = torch.tensor([0, 0, 1, -1])
    to_sentence = math.log(e + 1) - 1
    to_clips = (math.log(2 * e + 1) - 1 + math.log(e + 2) - 1) / 2  # of sentence 0 both clips, each against all three
    expected = (to_sentence + to_clips) / 2
    assert heads.contrast_loss(video, behaviour).item() == pytest.approx(expected, rel=1e-5)
    assert heads.contrast_loss(video[:3], behaviour[:3]).item() == pytest.approx(expected, rel=1e-5)
    sharp = plain_heads(temperature=0.5).contrast_loss(video[2:3], behaviour[2:3])
    assert sharp.item() == pytest.approx((math.log(e**2 + 1) - 2) / 2, rel=1e-5)  # the only clip: found for sure


def test_labels_by_hand():
    heads = plain_heads(max_sentences=3)
    with torch.no_grad():
        heads.classifier.weight.zero_()
        heads.classifier.bias.copy_(torch.tensor([math.log(3), 0.0, 100.0]))  # the third sentence was never read
    loss = heads.label_loss(torch.randn(3, 2), torch.tensor([0, 1, -1]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-5)


def test_a_corpus_without_matches_is_named(data):
    frames, action, reward, behaviour = (x[:4] for x in data)
    for config in (FIRST, SECOND):
        made = built(data, config)
        with pytest.raises(ValueError, match="sentence 3.*only 3"):
            made.losses(frames, action, reward, torch.full((4,), 3))
        with pytest.raises(ValueError, match="the task has none"):
            made.set_sentences(())
        with pytest.raises(ValueError, match="3, 2 of them different"):
            made.set_sentences(("a cat", "a dog", "a cat"))
        made.text.sentences = VECTORS[:0]
        with pytest.raises(ValueError, match="has no sentences: call set_sentences"):
            made.losses(frames, action, reward, behaviour)
    with pytest.raises(ValueError, match="max_sentences=1"):
        TextHeads(TextConfig(max_sentences=1), 8).set_sentences(("a cat", "a dog"))
    wordless = built(data, replace(FIRST, text_coef=0.0, label_coef=0.0))
    assert set(wordless.losses(frames, action, reward)) == {"pixel_loss"} and not wordless.needs_sentences
    matching = built(data, replace(SECOND, stage1_fraction=1.0, stage2_fraction=0.0))
    assert matching.losses(frames, action, reward) and not matching.needs_sentences


@pytest.mark.parametrize("nothing", [None, torch.full((4,), -1)])
def test_a_batch_without_sentences_has_text_terms_of_nothing(data, nothing):
    """Zero, with a gradient of zeros: processes that average theirs need as many of them each."""
    frames, action, reward, _ = (x[:4] for x in data)
    for config, progress in ((FIRST, 0.0), (SECOND, 0.7), (SECOND, 1.0)):
        made = built(data, config)
        made.update_teacher(progress)
        losses = made.losses(frames, action, reward, nothing)
        spoken = {name: x for name, x in losses.items() if name in ("text_loss", "label_loss")}
        assert spoken and all(x.item() == 0 for x in spoken.values())
        assert all(x.isfinite() for x in losses.values()) and len(losses) > len(spoken)
        sum(spoken.values()).backward()
        reached = [p.grad for p in made.parameters() if p.grad is not None]
        assert len(reached) > len(list(made.vit.parameters())) and not any(x.any() for x in reached)


# ---- InternVideo ----


def test_each_coefficient_weighs_its_term_and_zero_switches_it_off(data):
    sample = [x[:16] for x in data]
    terms = {"pixel_coef": "pixel_loss", "text_coef": "text_loss", "label_coef": "label_loss"}
    results = {}
    for weight in (1.0, 3.0):
        torch.manual_seed(2)
        made = built(data, replace(FIRST, **dict.fromkeys(terms, weight)))
        torch.manual_seed(3)
        results[weight] = made.losses(*sample)
    assert set(results[1.0]) == set(terms.values())
    for name, value in results[1.0].items():
        assert results[3.0][name].item() == pytest.approx(3 * value.item(), rel=1e-4), name
    for coefficient, term in terms.items():
        assert set(built(data, replace(FIRST, **{coefficient: 0.0})).losses(*sample)) == set(terms.values()) - {term}


def test_clips_without_a_sentence_carry_no_text(data):
    frames, action, reward, behaviour = (x[:16].clone() for x in data)
    made = built(data, FIRST)
    behaviour[8:] = -1
    losses = made.losses(frames, action, reward, behaviour)
    frames[8:] = 255 - frames[8:]
    changed = made.losses(frames, action, reward, behaviour)
    half = made.losses(frames[:8], action[:8], reward[:8], behaviour[:8])
    for name in ("text_loss", "label_loss"):
        assert changed[name].item() == pytest.approx(losses[name].item(), rel=1e-5)
        assert half[name].item() == pytest.approx(losses[name].item(), rel=1e-5)
    (losses["text_loss"] + losses["label_loss"]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.vit.parameters())
    assert all(p.grad.any() for p in made.text.parameters() if p.grad is not None)


def train(made, data, steps: int) -> list[dict[str, float]]:
    config = PretrainConfig(steps=steps, batch_size=32, log_every=10)

    def sample() -> tuple[torch.Tensor, ...]:
        rows = torch.randint(len(data[0]), (config.batch_size,))
        return tuple(x[rows] for x in data)

    made.fit_readout(data[0][:, :FRAMES])
    rows = Pretrainer(config, made).train(sample, steps, 3e-3)
    return [row for row in rows if row is not None]


@torch.no_grad()
def accuracy(made, held) -> tuple[float, float]:
    """How often label and nearest sentence are right, on clips that were not trained on."""
    video = made.embed(made.tokens(held[0][:, :FRAMES]))
    labels = made.text.classifier(video)[:, :3].argmax(1)
    nearest = (made.text.video(video) @ torch.nn.functional.normalize(made.text.text(VECTORS), dim=-1).T).argmax(1)
    return (labels == held[3]).float().mean().item(), (nearest == held[3]).float().mean().item()


@pytest.fixture(scope="module")
def trained(data) -> tuple[InternVideo, list[dict[str, float]]]:
    torch.manual_seed(0)
    made = built(data, FIRST)
    return made, train(made, data, 100)


def test_internvideo_learns_what_the_dot_does(trained):
    made, rows = trained
    assert rows[-1]["pixel_loss"] < 0.8 * rows[0]["pixel_loss"]
    labels, nearest = accuracy(made, rollouts(200, seed=2))
    assert labels > 0.8 and nearest > 0.8  # by chance 0.33


# ---- InternVideo2 ----


def test_the_stage_follows_from_the_share_of_pretraining_done(data):
    sample = [x[:16] for x in data]
    config = replace(SECOND, stage1_fraction=0.5, stage2_fraction=0.25, match_later=0.0)
    made = built(data, config)
    both = built(data, replace(config, match_later=0.5))
    terms = {0.0: "match_loss", 0.49: "match_loss", 0.5: "text_loss", 0.74: "text_loss", 0.75: "label_loss"}
    first = None
    for progress, term in (terms | {1.0: "label_loss"}).items():
        made.update_teacher(progress)
        both.load_state_dict(made.state_dict())
        torch.manual_seed(0)
        losses = made.losses(*sample)
        assert set(losses) == {term}
        torch.manual_seed(0)
        matched = both.losses(*sample)
        assert set(matched) == {term, "match_loss"} and torch.equal(matched[term], losses[term])
        whole = matched["match_loss"] / (1.0 if term == "match_loss" else 0.5)
        first = matched["match_loss"].item() if first is None else first
        assert whole.item() == pytest.approx(first, rel=1e-5)
    made.update_teacher(0.6)
    other = built(data, config)
    other.load_state_dict(made.state_dict())
    assert other.stage == made.stage == 2 and other.identity() == made.identity()
    with pytest.raises(ValueError, match="together at most 1"):
        InternVideo2Config(stage1_fraction=0.7, stage2_fraction=0.4)


def test_operations_are_the_mean_over_the_stages(data):
    def flops(first: float, second: float) -> float:
        made = built(data, replace(SECOND, stage1_fraction=first, stage2_fraction=second))
        return flops_per_clip(made, lambda: tuple(x[:8] for x in data))

    one, two, three = flops(1.0, 0.0), flops(0.0, 1.0), flops(0.0, 0.0)
    assert one < two and one < three  # the teacher is matched in all of them
    assert flops(0.6, 0.2) == pytest.approx(0.6 * one + 0.2 * two + 0.2 * three)


def test_distance_grid_and_visible_tokens_by_hand():
    one, other = torch.tensor([[[3.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[0.0, 5.0], [0.0, 1.0]]])
    assert unit_distance(one, other).item() == pytest.approx((2 + 0) / 2)
    assert unit_distance(one, -one).item() == pytest.approx(4)
    row = torch.tensor([0.0, 4.0]).view(1, 2, 1)
    assert resampled(row, (1, 1, 2), (1, 1, 2)) is row
    assert resampled(row, (1, 1, 2), (1, 1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert resampled(row, (1, 1, 2), (2, 2, 1)).flatten().tolist() == [2.0] * 4
    eight = 8 * torch.eye(8)[:1].view(1, 8, 1)  # a coarser grid has the means of all that lies in its places
    assert resampled(eight, (8, 1, 1), (2, 1, 1)).flatten().tolist() == [2.0, 0.0]
    assert resampled(eight, (2, 2, 2), (1, 1, 1)).item() == 1.0
    clips = torch.zeros(200, FRAMES, 3, SIDE, SIDE)
    clips[:, :, :, 8:16, 16:24] = 5.0  # row 1, column 2 of 4 x 4 places
    drawn = sample_moving(0.2, clips, VIT)
    assert drawn.shape == (200, 3)
    assert (drawn == 6).any(1).float().mean() > 0.9
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    longer = replace(VIT, frames=2 * FRAMES)
    drawn = sample_moving(0.2, clips.repeat(1, 2, 1, 1, 1), longer)
    assert torch.equal(drawn[:, :3] + 16, drawn[:, 3:])


def test_the_untrained_network_teaches_where_no_teacher_is_named(data):
    made = built(data, SECOND)
    clip = made.normalise(data[0][:8, :FRAMES])
    expected = made.vit(clip).detach()
    before = copy.deepcopy(made.untrained.state_dict())
    rows = train(made, data, 30)
    assert rows[0]["match_loss"] > 0
    torch.testing.assert_close(made._targets(clip), expected)
    for name, value in made.untrained.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.allclose(made.vit(clip), expected, atol=1e-2)


def test_another_encoder_teaches(data):
    """Its tokens of the frames as they came, their cosines kept, on this one's grid, and outside its weights."""
    torch.manual_seed(5)
    teacher = UntrainedEncoder(UntrainedConfig(vit=replace(VIT, dim=12)), action_dim=1)
    teacher.fit(data[0][300:400, :2], data[2][300:400, 0])
    made = built(data, replace(SECOND, teacher="runs/teacher"))
    clips = data[0][:8, :FRAMES]
    with pytest.raises(ValueError, match=r"runs/teacher.*set_teacher"):
        made.losses(*[x[:8] for x in data])
    names = set(made.state_dict())
    made.set_teacher(teacher)
    assert set(made.state_dict()) == names and made.untrained is None
    tokens = teacher.tokens(clips).detach()
    tokens = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:])
    targets = made._targets(made.normalise(clips))
    assert targets.shape == (8, VIT.num_tokens, VIT.dim)
    torch.testing.assert_close(targets @ targets.mT, tokens @ tokens.mT, rtol=1e-4, atol=1e-3)
    coarse = UntrainedEncoder(UntrainedConfig(vit=replace(VIT, patch=16, dim=48, frames=1, tubelet=1)), action_dim=1)
    made.set_teacher(coarse)  # one frame, a fourth of the tokens, twice the width
    targets = made._targets(made.normalise(clips))
    newest = made._targets(made.normalise(clips.flip(1)))
    assert targets.shape == (8, VIT.num_tokens, VIT.dim) and not torch.allclose(targets, newest)
    rows = train(made, data, 40)
    assert rows[1]["match_loss"] < 0.9 * rows[0]["match_loss"]
    assert all(p.grad is None for p in coarse.parameters())


def test_teachers_that_do_not_fit_are_named(data):
    made = built(data, replace(SECOND, teacher="runs/teacher"))
    with pytest.raises(ValueError, match="reads 0"):
        made.set_teacher(StateEncoder(StateConfig(), 1, 3))
    with pytest.raises(ValueError, match="reads 4"):
        made.set_teacher(UntrainedEncoder(UntrainedConfig(vit=replace(VIT, frames=4)), action_dim=1))
    with pytest.raises(ValueError, match="encoder.teacher .* frames of 32 by 32 pixels, and cannot: .* 64, 64"):
        made.set_teacher(UntrainedEncoder(UntrainedConfig(vit=replace(VIT, image_size=64)), action_dim=1))


def test_a_trained_teacher_hands_on_what_it_knows(data, trained):
    """With the untrained network in its place as many steps leave both at chance."""
    made = built(data, replace(SECOND, teacher="runs/teacher", stage1_fraction=0.4, stage2_fraction=0.3))
    made.set_teacher(trained[0])
    rows = train(made, data, 150)
    assert "text_loss" in rows[len(rows) // 2] and "label_loss" in rows[-1]
    labels, nearest = accuracy(made, rollouts(200, seed=2))
    assert labels > 0.8 and nearest > 0.8
