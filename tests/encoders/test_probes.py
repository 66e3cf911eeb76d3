"""Probes against closed forms, hand-computed numbers and planted signals."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file

from mindreel.encoders.probes.anomaly import (
    auroc,
    fit_expectation,
    movie_starts,
    pairwise_accuracy,
    surprise,
    surprise_across,
)
from mindreel.encoders.probes.attentive import AttentivePool, attentive_predictions
from mindreel.encoders.probes.bootstrap import bootstrap, weighted_mean
from mindreel.encoders.probes.dynamics import Components, fit_predictor, prediction_errors, unroll
from mindreel.encoders.probes.frontend import Captioner, export_tokens, fit_captioner, token_positions
from mindreel.encoders.probes.recognition import correct, logistic_predictions, majority
from mindreel.encoders.probes.regression import ProbeConfig, linear_predictions, r2
from mindreel.encoders.probes.retrieval import clip_to_clip, recall, sentence_similarity, text_to_clip
from mindreel.envs import EnvConfig, RenderConfig
from mindreel.envs.checks.violations import VIOLATIONS
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites import anomaly_suite
from mindreel.rollouts import generate
from mindreel.rollouts.dataset import RolloutConfig
from mindreel.run_config import RunConfig

CONFIG = ProbeConfig(steps=200, hidden=32, batch_size=64, lr=5e-3)


# ---- intervals ----


def test_weights_count_rows_as_often() -> None:
    predicted, target = torch.randn(4, 2), torch.randn(4, 2)
    weight = torch.tensor([2.0, 0.0, 1.0, 3.0])
    repeated = torch.tensor([0, 0, 2, 3, 3, 3])
    torch.testing.assert_close(r2(predicted, target, weight), r2(predicted[repeated], target[repeated]))


def test_intervals_cover_the_mean_of_rows_that_come_in_episodes() -> None:
    """Twenty episodes of ten rows that are nearly copies: the truth, 0, lies inside 95% of the time."""
    inside, inside_by_rows, trials = 0, 0, 150
    for trial in range(trials):
        values = torch.randn(20, 1).expand(-1, 10).flatten() + 0.1 * torch.randn(200)
        score = weighted_mean(values)
        point, low, high = bootstrap(score, torch.arange(20).repeat_interleave(10), 200, trial)
        assert low < point < high
        inside += int(low < 0 < high)
        _, low, high = bootstrap(score, torch.arange(200), 200, trial)  # as if rows were independent
        inside_by_rows += int(low < 0 < high)
    assert 0.86 * trials < inside <= trials
    assert inside_by_rows < 0.6 * trials


def test_an_interval_of_one_episode_has_no_width() -> None:
    scores = bootstrap(weighted_mean(torch.tensor([0.0, 1.0])), torch.tensor([7, 7]), 20)
    assert scores.tolist() == [[0.5], [0.5], [0.5]]


# ---- attentive ----


def test_the_attentive_probe_finds_a_planted_token() -> None:
    """One token of nine is marked, at any place, and holds the target: what all tokens share on average does not."""
    number, dim = 9, 8

    def clips(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, target = torch.randn(count, number, dim), torch.randn(count, 1)
        tokens[..., 0] = 0.0
        place = torch.randint(number, (count,))
        tokens[torch.arange(count), place, 0] = 5.0
        tokens[torch.arange(count), place, 1] = target[:, 0]
        return tokens, target

    (x, y), (test_x, test_y) = clips(3000), clips(500)
    attentive = r2(attentive_predictions(CONFIG, x, y, test_x), test_y)
    pooled = r2(linear_predictions(CONFIG, x.mean(1), y, test_x.mean(1)), test_y)
    assert attentive > 0.9
    assert pooled < 0.3
    label, test_label = (y[:, 0] > 0).long(), (test_y[:, 0] > 0).long()
    logits = attentive_predictions(CONFIG, x, label, test_x, classes=2)
    assert correct(logits, test_label).mean() > 0.9


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(5, 12, 8)
    pool = AttentivePool(tokens, 16)
    with torch.no_grad():
        pool.query.mul_(100)  # sharp enough to look somewhere
    x = pool.squeeze((tokens - pool.mean) / pool.std) + pool.positions
    key, value = pool.key_value(x).unflatten(-1, (2, 4, -1)).permute(2, 0, 3, 1, 4)
    seen = torch.nn.functional.scaled_dot_product_attention(pool.query.expand(5, -1, -1, -1), key, value)
    torch.testing.assert_close(pool(tokens), pool.out(seen.flatten(1)), rtol=1e-4, atol=1e-5)


def test_the_attentive_probe_reads_places_of_tokens_that_do_not_hold_them() -> None:
    place = torch.randint(6, (1500,))
    tokens = torch.zeros(1500, 6, 4)
    tokens[torch.arange(1500), place, 0] = 1.0
    logits = attentive_predictions(CONFIG, tokens[:1000], place[:1000], tokens[1000:], classes=6)
    assert correct(logits, place[1000:]).mean() > 0.95


# ---- recognition ----


def test_logistic_regression_has_no_gradient_left() -> None:
    x, label = torch.randn(200, 3), torch.randint(3, (200,))
    x[:, 0] += label
    standard = (x - x.mean(0)) / x.std(0)
    # Logits at zero and at the unit vectors give bias and weights.
    back = torch.cat([torch.zeros(1, 3), torch.eye(3)]) * x.std(0) + x.mean(0)
    logits = logistic_predictions(x, label, 3, back, penalty=0.1)
    bias, weight = logits[0], logits[1:] - logits[0]
    residual = (standard @ weight + bias).softmax(1) - torch.nn.functional.one_hot(label, 3)
    assert (standard.T @ residual / 200 + 0.1 * weight).abs().max() < 1e-3
    assert residual.mean(0).abs().max() < 1e-3


def test_chance_is_the_commonest_class_of_what_was_learned_from() -> None:
    learned, seen = torch.tensor([0, 1, 1, 1, 2]), torch.tensor([1, 0, 1, 2])
    assert majority(learned, seen).tolist() == [1, 0, 1, 0]
    assert correct(torch.tensor([[0.0, 1.0], [3.0, 2.0]]), torch.tensor([1, 1])).tolist() == [1, 0]


# ---- retrieval ----


def test_recall_by_hand() -> None:
    similarity = torch.arange(12, 0, -1).float().expand(2, 12)
    right = torch.zeros(2, 12, dtype=torch.bool)
    right[0, 3], right[1, 0], right[1, 11] = True, True, True
    shown = torch.ones(2, 12, dtype=torch.bool)
    shown[1, 0] = False  # its own episode: what is left is the last of eleven
    hits, chances = recall(similarity, right, shown)
    assert hits.tolist() == [[0, 1, 1], [0, 0, 0]]
    torch.testing.assert_close(chances, torch.tensor([[1 / 12, 5 / 12, 10 / 12], [1 / 11, 5 / 11, 10 / 11]]))


def test_the_chance_of_recall_is_that_of_every_order() -> None:
    orders = list(itertools.permutations(range(7)))
    similarity = -torch.tensor(orders).float()
    right = (torch.arange(7) == 3).expand(len(orders), -1)
    hits, chances = recall(similarity, right, torch.ones_like(right))
    torch.testing.assert_close(hits.mean(0), chances[0])
    assert chances[0].tolist() == pytest.approx([1 / 7, 5 / 7, 1.0])


def test_clips_find_their_kind_in_other_episodes() -> None:
    label, episode = torch.arange(5).repeat(40), torch.arange(20).repeat_interleave(10)
    planted = 3 * torch.nn.functional.one_hot(label, 5).float()
    hits, chances = clip_to_clip(planted, planted + 0.1 * torch.randn(200, 5), label, episode)
    assert hits[:, 0].mean() > 0.99
    noise = torch.randn(200, 5)
    hits, chances = clip_to_clip(noise, noise, label, episode)
    assert hits[:, 0].mean() == pytest.approx(float(chances[:, 0].mean()), abs=0.12)
    same_episode = torch.zeros(200, dtype=torch.long)
    assert clip_to_clip(noise, noise, label, same_episode)[0].isnan().all()  # nothing is left to find


def test_sentences_find_their_clips_through_a_linear_map() -> None:
    sentences = torch.randn(4, 16)
    said, label = torch.randint(4, (400,)), torch.randint(4, (100,))
    lift = torch.randn(16, 10)  # features hold the sentence, in another space
    x, test_x = (sentences[index] @ lift + 0.1 * torch.randn(len(index), 10) for index in (said, label))
    similarity = sentence_similarity(CONFIG, x, said, test_x, sentences)
    hits, chances = text_to_clip(similarity, label, torch.ones(100))
    assert hits.tolist() == [1, 1, 1]
    assert 0.1 < chances[0] < 0.4
    nearness, kind = torch.tensor([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]]), torch.tensor([1, 0, 0])
    assert text_to_clip(nearness[:1], kind, torch.ones(3))[0].tolist() == [0, 1, 1]
    without_first = torch.tensor([0.0, 1.0, 2.0])  # what is left of the second sentence's clips is no query
    assert text_to_clip(nearness, kind, without_first)[0].tolist() == [1, 1, 1]


# ---- dynamics ----


class Fraction(torch.nn.Module):
    """Predicts z + fraction * action; the truth is z + action."""

    def __init__(self, fraction: float):
        super().__init__()
        self.fraction = fraction

    def forward(self, z: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return z + self.fraction * action


def walks(episodes: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    action = torch.randn(episodes, steps, 2)
    return torch.cat([torch.zeros(episodes, 1, 2), action.cumsum(1)], 1), action


def test_errors_of_a_known_predictor() -> None:
    z, action = walks(3, 20)
    error, still, episode = prediction_errors(Fraction(0.5), z, action)
    torch.testing.assert_close(error, still / 4)  # half as far off at every horizon, from every start
    assert error.shape == (3 * 6, 3)
    assert episode.tolist() == [e for e in range(3) for _ in range(6)]
    expected = (z[1, 4 + 5] - z[1, 4]).pow(2).sum()
    torch.testing.assert_close(still[6 + 4, 1], expected)
    assert prediction_errors(Fraction(0.5), z[:, :8], action[:, :7])[0].shape == (3 * 3, 2)  # 15 steps are not there


def test_a_predictor_learns_a_linear_system() -> None:
    turn = torch.tensor([[0.9, 0.3], [-0.3, 0.9]])
    z, action = [torch.randn(60, 2)], torch.randn(60, 30, 1)
    for t in range(30):
        z.append(z[-1] @ turn + action[:, t] * torch.tensor([0.5, 0.0]))
    z = torch.stack(z, 1)
    predictor = fit_predictor(CONFIG, z[:50], action[:50])
    error, still, _ = prediction_errors(predictor, z[50:], action[50:])
    assert (error.sum(0) / still.sum(0)).max() < 0.05
    assert unroll(predictor, z[:, 0], action[:, :4]).shape == (60, 4, 2)


def test_components_keep_distances() -> None:
    x = torch.randn(300, 5) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1]) + 7
    small = Components(x)(x)
    assert small.pow(2).mean().item() == pytest.approx(1, abs=0.02)
    ratio = (small[:100] - small[100:200]).norm(dim=1) / (x[:100] - x[100:200]).norm(dim=1)
    assert ratio.std() < 1e-3 * ratio.mean()


# ---- anomaly ----


def test_auroc_and_pairs_by_hand() -> None:
    possible, impossible = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 0.5])
    assert pairwise_accuracy(possible, impossible).tolist() == [1, 1, 0]
    # 2.0 is above 1 and level with 2; 4.0 is above all three; 0.5 is above none
    assert auroc(possible, impossible).item() == pytest.approx((1.5 + 3 + 0) / 9)
    weight = torch.tensor([1.0, 1.0, 0.0])
    assert auroc(possible, impossible, weight).item() == pytest.approx((1.5 + 2) / 4)
    assert pairwise_accuracy(possible, possible).tolist() == [0.5] * 3


class Always(torch.nn.Module):
    """Expects the same error everywhere."""

    def forward(self, z: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.full_like(z[..., 0], 2.0)


def test_a_planted_jump_surprises_and_nothing_else_does() -> None:
    def movies() -> tuple[torch.Tensor, torch.Tensor]:
        z, action = walks(200, 12)
        return z + 0.3 * torch.randn_like(z), action

    (z, action), (others, moved) = movies(), movies()
    jumped = z.clone()
    jumped[:, 6:] += 3.0
    calm, startled = surprise(Fraction(1.0), Always(), z, action), surprise(Fraction(1.0), Always(), jumped, action)
    torch.testing.assert_close(calm, (z[:, 1:] - z[:, :-1] - action).pow(2).sum(-1).amax(1) / 2)
    assert auroc(calm, startled) > 0.99
    assert pairwise_accuracy(calm, startled).mean() > 0.99
    assert auroc(calm, surprise(Fraction(1.0), Always(), others, moved)).item() == pytest.approx(0.5, abs=0.1)


def test_what_lies_behind_a_screen_is_carried_along_and_not_looked_at() -> None:
    z, action = walks(200, 8)
    calm = surprise_across(Fraction(1.0), Always(), z, action)
    assert calm.max() < 1e-8  # a perfect predictor
    screened = z.clone()
    screened[:, 1:-1] = 7.0
    torch.testing.assert_close(surprise_across(Fraction(1.0), Always(), screened, action), calm)
    screened[:, -1] += 3.0
    torch.testing.assert_close(surprise_across(Fraction(1.0), Always(), screened, action), torch.full((200,), 9.0))


def test_errors_are_surprising_where_small_ones_are_expected() -> None:
    """Noise of the last step is as large as the first feature says: 0.1 or 2, in features that stand still."""
    wild = torch.rand(300, 1) < 0.5
    std = torch.where(wild, 2.0, 0.1)
    z = torch.cat([wild.float().expand(-1, 21)[..., None], std[..., None] * torch.randn(300, 21, 4)], -1)
    action = torch.zeros(300, 20, 1)
    expectation = fit_expectation(CONFIG, Fraction(0.0), z, action)
    with torch.no_grad():
        expected = expectation(z[:, :-1], action)
    # Both features of a difference are drawn, one of them is seen: 4 (std^2 + what was seen^2) / 4 each
    truth = 4 * std.pow(2) + z[:, :-1, 1:].pow(2).sum(-1)
    assert (expected / truth).log().abs().median() < 0.3
    largest = (z[:, 1:] - z[:, :-1]).pow(2).sum(-1).max()
    unlike = 1e4 * torch.randn(100, 5)  # nothing that was seen
    assert (expectation(unlike, torch.zeros(100, 1)) < largest).all()

    calm, jumped = surprise(Fraction(0.0), expectation, z, action), z.clone()
    jumped[~wild.squeeze(1), 10:, 1:] += 1.0  # less than the wild ones' noise, ten times the calm ones'
    startled = surprise(Fraction(0.0), expectation, jumped, action)
    assert startled[~wild.squeeze(1)].median() > 3 * calm[wild.squeeze(1)].median()


def test_movies_start_at_different_places_of_all_episodes() -> None:
    episode, step = movie_starts(episodes=3, steps=5, count=12)
    assert len({*zip(episode.tolist(), step.tolist(), strict=True)}) == 12
    assert episode.bincount().tolist() == [4, 4, 4] and step.max() == 4
    assert len(movie_starts(3, 5, 100)[0]) == 15  # as many as there are
    assert len(movie_starts(3, -2, 4)[0]) == 0
    assert torch.equal(movie_starts(3, 5, 12)[1], step)


class Averages(torch.nn.Module):
    """Features that are the newest frame at a quarter of its size."""

    clip_frames = 2

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(clips[:, -1].float() / 255, 8).flatten(1)


def test_every_violation_says_how_many_pairs_there_are(tmp_path) -> None:
    """An arm on a table, of which gravity makes no pair; two short episodes give as many movies as are asked for."""
    torch.manual_seed(0)
    render = RenderConfig(height=32, width=32)
    rollouts = RolloutConfig(policies=("random",), episodes=4, decisions=26)
    config = RunConfig(task="reacher-easy", env=EnvConfig(render=render, frame_skip=3))
    train, test = generate.collect(config, rollouts, {}, lambda: None).split(0.5)
    data = ProbeData(
        encoder=Averages(),
        task="reacher-easy",
        train=train,
        test=test,
        others={},
        config=ProbeConfig(steps=20, hidden=16, resamples=20),
        in_view=True,
        movies=6,
        device=torch.device("cpu"),
        folder=tmp_path,
        env=config.env,
    )
    assert anomaly_suite._stage(data, 2)._sim("").substeps == 3
    rows = anomaly_suite.anomaly(data)
    pairs = {row["target"]: row["score"] for row in rows if row["probe"] == "pairs"}
    assert list(pairs) == [*VIOLATIONS, "all"]
    assert pairs["gravity"] == 0 and pairs["reverse"] == 6
    assert pairs["all"] == sum(pairs[name] for name in VIOLATIONS)
    scored = {row["target"] for row in rows if row["probe"] == "pairwise accuracy"}
    assert scored == {name for name, count in pairs.items() if count}


# ---- front end ----


def test_positions_say_where_tokens_are(tmp_path) -> None:
    positions = token_positions((2, 2, 4))
    assert positions.shape == (16, 3)
    assert positions[0].tolist() == [0.25, 0.25, 0.125]
    assert positions[8 + 4 + 1].tolist() == [0.75, 0.75, 0.375]  # later half, lower row, second column
    tokens = torch.randn(5, 16, 3) * 1e6  # beyond float16
    export_tokens(tmp_path / "deep" / "tokens", tokens, (2, 2, 4), {"task": "any"})
    saved = load_file(tmp_path / "deep" / "tokens.safetensors")
    assert torch.equal(saved["tokens"], tokens)
    assert torch.equal(saved["positions"], positions)
    about = json.loads((tmp_path / "deep" / "tokens.json").read_text())
    assert about["task"] == "any" and about["grid"] == [2, 2, 4] and about["dim"] == 3


def test_the_captioner_says_what_was_planted() -> None:
    sentences = ("a ball falling", "a ball lying in the cup", "a cup")
    index = torch.randint(3, (600,))
    tokens = torch.randn(600, 4, 6)
    tokens[torch.arange(600), torch.randint(4, (600,)), 0] += 6 * (index - 1)
    captioner = fit_captioner(CONFIG, tokens[:500], index[:500], sentences)
    said = captioner.generate(tokens[500:])
    right = [sentence == sentences[i] for sentence, i in zip(said, index[500:].tolist(), strict=True)]
    assert sum(right) > 90
    untrained = Captioner(sentences, tokens, 32).generate(tokens[500:])
    assert sum(sentence == sentences[i] for sentence, i in zip(untrained, index[500:].tolist(), strict=True)) < 60
