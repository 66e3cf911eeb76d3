"""The suites of probes: from an encoder and a corpus of rollouts to rows of scores with intervals."""

from collections.abc import Callable

import torch
from torch import Tensor

from mindreel.encoders.objectives.sentences import SentenceEncoder
from mindreel.encoders.probes.anomaly import (
    Expectation,
    auroc,
    fit_expectation,
    movie_starts,
    pairwise_accuracy,
    surprise,
    surprise_across,
)
from mindreel.encoders.probes.attentive import attentive_predictions
from mindreel.encoders.probes.bootstrap import Score, bootstrap, weighted_mean
from mindreel.encoders.probes.dynamics import HORIZONS, prediction_errors
from mindreel.encoders.probes.frontend import export_tokens, fit_captioner
from mindreel.encoders.probes.recognition import correct, logistic_predictions, majority
from mindreel.encoders.probes.regression import effective_rank, linear_predictions, mlp_predictions, r2, spread_out
from mindreel.encoders.probes.retrieval import RANKS, clip_to_clip, sentence_similarity, text_to_clip
from mindreel.envs.checks.violations import HIDDEN, Movie, Pair, Stage
from mindreel.probing.probe_data import Drawn, Subject
from mindreel.rollouts.dataset import Rollouts

_EXPORTED = 64  # clips whose tokens are written for a language model
_RANK_ROWS = 1000
_CALM, _AFTER = 4, 16  # decisions of a movie between its first whole clip and the violation, and from there on
_GALLERY = 1000  # clips that are searched
_FAR = 10**6  # between the numbers of one corpus's episodes and the next one's


def rows_of(probe: str, targets: list[str], scores: Tensor) -> list[dict]:
    """Rows from scores, lows and highs (3, K)."""
    keys = ("score", "low", "high")
    columns = zip(targets, scores.T.tolist(), strict=True)
    return [{"probe": probe, "target": target} | dict(zip(keys, values, strict=True)) for target, values in columns]


def _scored(subject: Subject, probe: str, targets: list[str], score: Score, episode: Tensor) -> list[dict]:
    return rows_of(probe, targets, bootstrap(score, episode.to(subject.device), subject.config.resamples))


# ---- state ----


def state(subject: Subject) -> list[dict]:
    """R2 of probes to positions, angles and velocities: of the features, of all tokens, of the newest tubelet's."""
    train, test = subject.drawn(lambda rollouts: rollouts.in_view if subject.in_view else None)
    if not (len(train.episode) and len(test.episode)):
        raise ValueError("No frame shows the middle of everything that moves: in_view=false probes them all.")
    names, values = train.rollouts.targets()
    y, test_y = train.of(values), test.of(test.rollouts.targets()[1])
    varies = r2(test_y, test_y) == 1  # a fixed target, say, cannot be scored
    names = [name for name, keep in zip(names, varies.tolist(), strict=True) if keep]
    y, test_y = y[:, varies], test_y[:, varies]
    newest, test_newest = train.newest_tokens, test.newest_tokens
    predicted = {
        "linear": linear_predictions(subject.config, train.features, y, test.features),
        "mlp": mlp_predictions(subject.config, train.features, y, test.features),
        "attentive": attentive_predictions(subject.config, train.tokens, y, test.tokens),
        "linear on tokens": linear_predictions(subject.config, newest, y, test_newest),
        "mlp on tokens": mlp_predictions(subject.config, newest, y, test_newest),
    }
    rows = []
    for probe, guess in predicted.items():

        def score(weight: Tensor, guess: Tensor = guess) -> Tensor:
            each = r2(guess, test_y, weight)
            return torch.cat([each, each.nanmean(0, keepdim=True)])

        rows += _scored(subject, probe, [*names, "mean"], score, test.episode)
    about = {
        "effective rank": float(effective_rank(spread_out(test.features, _RANK_ROWS))),
        "feature std": float(test.features.std(0).mean()),
        "frames out of view": float(1 - test.rollouts.in_view.float().mean()) if subject.in_view else 0.0,
    }
    return rows + [{"probe": "features", "target": name, "score": x, "low": x, "high": x} for name, x in about.items()]


# ---- recognition ----


def recognition(subject: Subject) -> list[dict]:
    """Accuracy of telling tasks, behaviours and policies apart, beside that of the commonest class."""
    rows = []
    train, test = subject.drawn(lambda rollouts: None)
    label = [part.rollouts.policy[part.episode].to(subject.device) for part in (train, test)]
    rows += _classified(subject, "policy", len(train.rollouts.facts.policies), (train, test), label)
    if subject.train.facts.behaviours:
        known = subject.drawn(lambda rollouts: rollouts.behaviour >= 0)
        if all(len(part.episode) for part in known):
            label = [part.of(part.rollouts.behaviour) for part in known]
            rows += _classified(subject, "behaviour", len(subject.train.facts.behaviours), known, label)
    return rows + (_tasks(subject) if subject.others else [])


def _classified(
    subject: Subject, target: str, classes: int, parts: tuple[Drawn, Drawn], label: list[Tensor]
) -> list[dict]:
    train, test = parts
    linear = logistic_predictions(train.features, label[0], classes, test.features)
    attentive = attentive_predictions(subject.config, train.tokens, label[0], test.tokens, classes)
    return _accuracies(subject, target, {"linear": linear, "attentive": attentive}, label, test.episode)


def _accuracies(
    subject: Subject, target: str, logits: dict[str, Tensor], label: list[Tensor], episode: Tensor
) -> list[dict]:
    right = {probe: correct(guess, label[1]) for probe, guess in logits.items()} | {"chance": majority(*label)}
    return [
        row for probe, hits in right.items() for row in _scored(subject, probe, [target], weighted_mean(hits), episode)
    ]


def _tasks(subject: Subject) -> list[dict]:
    """Which task a clip shows, from clips of all tasks as this encoder sees them."""
    corpora = {subject.task: (subject.train, subject.test)} | subject.others
    wanted = subject.config.rows, subject.config.held_out_rows
    sizes = [min(rows, subject.affordable) // len(corpora) for rows in wanted]
    features, tokens, label, episodes = ([], []), ([], []), ([], []), []
    for index, pair in enumerate(corpora.values()):
        for part, (rollouts, size) in enumerate(zip(pair, sizes, strict=True)):
            episode, step = subject.some(rollouts, size)
            features[part].append(subject.read(subject.encoder, rollouts, episode, step).float())
            tokens[part].append(subject.read(subject.encoder.tokens, rollouts, episode, step))
            label[part].append(torch.full((len(episode),), index, device=subject.device))
        episodes.append(episode + index * _FAR)  # the held-out part's, which came last
    x, test_x = (torch.cat(parts) for parts in features)
    seen, test_seen = (torch.cat(parts) for parts in tokens)
    labels = [torch.cat(parts) for parts in label]
    logits = {
        "linear": logistic_predictions(x, labels[0], len(corpora), test_x),
        "attentive": attentive_predictions(subject.config, seen, labels[0], test_seen, len(corpora)),
    }
    return _accuracies(subject, "task", logits, labels, torch.cat(episodes))


# ---- retrieval ----


def retrieval(subject: Subject) -> list[dict]:
    """Recall of clips of the same behaviour, by a clip and by its sentence, beside that of a random order.

    The gallery holds clips of all tasks that are compared; what is asked for is of the subject's own. There are no
    rows where no sentence holds in any of its clips.
    """
    pairs = [(subject.train, subject.test), *subject.others.values()]
    pairs = [pair for pair in pairs if all((part.behaviour >= 0).any() for part in pair)]
    if not pairs or pairs[0][0] is not subject.train:
        return []
    # Tasks of one domain share sentences: a clip of any of them matches.
    sentences = tuple(dict.fromkeys(one for train, _ in pairs for one in train.facts.behaviours))
    learned, _, said = _described(subject, [train for train, _ in pairs], subject.config.rows, sentences)
    features, episode, label = _described(subject, [test for _, test in pairs], _GALLERY, sentences)
    targets = [f"recall at {k}" for k in RANKS]
    hits, chances = clip_to_clip(learned, features, label, episode)
    asked = (episode < _FAR) & ~hits.isnan().any(1)
    rows = []
    for probe, values in (("clip to clip", hits), ("clip to clip, chance", chances)):
        rows += _scored(subject, probe, targets, weighted_mean(values[asked]), episode[asked]) if asked.any() else []
    vectors = sentence_vectors(sentences)
    if vectors is None:
        return rows
    likeness = sentence_similarity(subject.config, learned, said, features, vectors.to(subject.device))
    likeness = likeness[: len(subject.train.facts.behaviours)]
    for probe, which in (("text to clip", 0), ("text to clip, chance", 1)):
        rows += _scored(
            subject, probe, targets, lambda w, which=which: text_to_clip(likeness, label, w)[which], episode
        )
    return rows


def _described(
    subject: Subject, corpora: list[Rollouts], count: int, sentences: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of these corpora, equally many of each, whose behaviour is known.

    Returns:
        features (N, D), numbers of the episodes (N,), from `_FAR` on for those of the second corpus and so on, and
        indices into `sentences` of those that describe them (N,).
    """
    features, episodes, labels = [], [], []
    for index, rollouts in enumerate(corpora):
        episode, step = subject.some(rollouts, count // len(corpora), rollouts.behaviour >= 0)
        place = torch.tensor([sentences.index(one) for one in rollouts.facts.behaviours])
        features.append(subject.read(subject.encoder, rollouts, episode, step).float())
        episodes.append(episode + index * _FAR)
        labels.append(place[rollouts.behaviour[episode, step]])
    return torch.cat(features), torch.cat(episodes).to(subject.device), torch.cat(labels).to(subject.device)


def sentence_vectors(sentences: tuple[str, ...]) -> Tensor | None:
    """Vectors of sentences (L, E), or None where the optional package that makes them is not installed."""
    try:
        return SentenceEncoder()(sentences)
    except ValueError as error:
        print(f"No text to clip: {error}")
        return None


# ---- anomaly ----


def anomaly(subject: Subject) -> list[dict]:
    """How often the predictor is more surprised by what cannot happen, over pairs of movies, and how many there are."""
    test, lead = subject.test, subject.encoder.clip_frames - 1
    at = lead + _CALM
    length = at + max(_AFTER, HIDDEN + lead + 1)  # so that a whole clip is left when the screen is gone
    episode, step = movie_starts(len(test), test.steps - length + 1, subject.movies)
    if not len(episode):
        raise ValueError(f"A movie has {length} decisions: rollouts.decisions={test.steps} is too short for anomalies.")
    start = {"qpos": test.qpos[episode, step], "qvel": test.qvel[episode, step], "geom_xpos": test.geom_xpos[episode]}
    action = test.action[episode[:, None], step[:, None] + torch.arange(length)].to(subject.device)
    learned = subject.components(subject.features(subject.train)), subject.train.action.to(subject.device)
    expectation = fit_expectation(subject.config, subject.predictor, *learned)
    episode = episode.to(subject.device)
    rows, everything = [], []
    for violation, pair in _stage(subject, len(episode)).pairs(start, action, at):
        possible, impossible = (_surprise(subject, expectation, pair, x) for x in (pair.possible, pair.impossible))
        kept = pair.differs & possible.isfinite() & impossible.isfinite()
        everything.append((possible[kept], impossible[kept], episode[kept]))
        rows += _surprises(subject, violation, *everything[-1])
    return rows + _surprises(subject, "all", *(torch.cat(parts) for parts in zip(*everything, strict=True)))


def _stage(subject: Subject, movies: int) -> Stage:
    """Worlds as those that the rollouts were made in."""
    env = subject.env
    return Stage(
        subject.task,
        movies,
        subject.device,
        env.render,
        subject.test.facts.action_repeat,
        frame_skip=env.frame_skip,
        max_contacts=env.max_contacts,
        max_constraints=env.max_constraints,
        randomize=env.randomize,
    )


def _surprises(subject: Subject, target: str, possible: Tensor, impossible: Tensor, episode: Tensor) -> list[dict]:
    count = float(len(possible))
    rows = [{"probe": "pairs", "target": target, "score": count, "low": count, "high": count}]
    if not len(possible):
        return rows
    pairwise = weighted_mean(pairwise_accuracy(possible, impossible))
    rows += _scored(subject, "pairwise accuracy", [target], pairwise, episode)
    return rows + _scored(subject, "AUROC", [target], lambda w: auroc(possible, impossible, w)[None], episode)


@torch.no_grad()
def _surprise(subject: Subject, expectation: Expectation, pair: Pair, movie: Movie) -> Tensor:
    """Of one movie of each pair, from where it can differ from the other: (M,)."""
    lead = subject.encoder.clip_frames - 1
    seen = movie.frames.unfold(1, lead + 1, 1).movedim(-1, 2)  # (M, T + 1 - lead, F, 3, H, W)
    z = torch.stack([subject.components(subject.encoder(clips)) for clips in seen])
    action = movie.action[:, lead:]
    first = max(0, pair.before - lead)  # the last clip before the violation, or the movie's first
    if pair.after == pair.before + 1:
        return surprise(subject.predictor, expectation, z[:, first:], action[:, first:])
    revealed = pair.after  # the clip that begins with the first frame without the screen
    carried = z[:, first : revealed + 1], action[:, first:revealed]
    return surprise_across(subject.predictor, expectation, *carried)


# ---- front end ----


def frontend(subject: Subject) -> list[dict]:
    """Share of clips that a captioner, reading tokens, describes by the right sentence; tokens are exported too."""
    sentences = subject.train.facts.behaviours
    if not sentences:
        return []
    train, test = subject.drawn(lambda rollouts: rollouts.behaviour >= 0)
    if not (len(train.episode) and len(test.episode)):
        return []
    said, truth = (part.of(part.rollouts.behaviour) for part in (train, test))
    captioner = fit_captioner(subject.config, train.tokens, said, sentences)
    spoken = [sentence for part in test.tokens.split(512) for sentence in captioner.say(part)]
    right = [sentence == sentences[index] for sentence, index in zip(spoken, truth.tolist(), strict=True)]
    scores = {"captioner": torch.tensor(right, device=subject.device).float(), "chance": majority(said, truth)}
    few = slice(0, None, max(1, len(test.episode) // _EXPORTED))
    about = {
        "task": subject.task,
        "clip_frames": subject.encoder.clip_frames,
        "action_repeat": subject.test.facts.action_repeat,
        "sentences": [sentences[index] for index in truth[few].tolist()],
    }
    export_tokens(subject.folder / "tokens", test.tokens[few], subject.encoder.token_grid, about)
    return [
        row
        for probe, hits in scores.items()
        for row in _scored(subject, probe, ["exact sentence"], weighted_mean(hits), test.episode)
    ]


# ---- dynamics ----


def dynamics(subject: Subject) -> list[dict]:
    """Squared error of the predictor as a share of that of predicting no change."""
    z = subject.components(subject.features(subject.test))
    error, still, episode = prediction_errors(subject.predictor, z, subject.test.action.to(subject.device))
    targets = [f"{h} step{'s' if h > 1 else ''}" for h in HORIZONS[: error.shape[1]]]
    return _scored(subject, "predictor", targets, lambda w: (w @ error) / (w @ still).clamp(min=1e-12), episode)


SUITES: dict[str, Callable[[Subject], list[dict]]] = {
    "state": state,
    "recognition": recognition,
    "retrieval": retrieval,
    "anomaly": anomaly,
    "frontend": frontend,
    "dynamics": dynamics,
}
"""Name -> suite."""
