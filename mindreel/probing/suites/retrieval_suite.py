"""Clips found by another clip or by a sentence."""

import torch
from torch import Tensor

from mindreel.encoders.objectives.sentences import SentenceEncoder
from mindreel.encoders.probes.bootstrap import weighted_mean
from mindreel.encoders.probes.retrieval import RANKS, clip_to_clip, sentence_similarity, text_to_clip
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites.scoring import FAR, scored
from mindreel.rollouts.dataset import Rollouts

_GALLERY = 1000  # clips that are searched


def retrieval(data: ProbeData) -> list[dict]:
    """Recall of clips of the same behaviour, searched by a clip and by its sentence, and of a random order.

    The gallery holds clips of all tasks that are compared; the queries come from the task that is probed. There are no
    rows if no sentence describes any of its clips.
    """
    pairs = [(data.train, data.test), *data.others.values()]
    pairs = [pair for pair in pairs if all((part.behaviour >= 0).any() for part in pair)]
    if not pairs or pairs[0][0] is not data.train:
        return []
    # Tasks of one domain share sentences: a clip of any of them matches.
    sentences = tuple(dict.fromkeys(one for train, _ in pairs for one in train.metadata.behaviours))
    learned, _, learned_label = _described(data, [train for train, _ in pairs], data.config.rows, sentences)
    features, episode, label = _described(data, [test for _, test in pairs], _GALLERY, sentences)
    targets = [f"recall at {k}" for k in RANKS]
    hits, chances = clip_to_clip(learned, features, label, episode)
    query = (episode < FAR) & ~hits.isnan().any(1)
    rows = []
    for probe, values in (("clip to clip", hits), ("clip to clip, chance", chances)):
        rows += scored(data, probe, targets, weighted_mean(values[query]), episode[query]) if query.any() else []
    vectors = sentence_vectors(sentences)
    if vectors is None:
        return rows
    similarity = sentence_similarity(data.config, learned, learned_label, features, vectors.to(data.device))
    similarity = similarity[: len(data.train.metadata.behaviours)]
    for probe, which in (("text to clip", 0), ("text to clip, chance", 1)):
        rows += scored(data, probe, targets, lambda w, which=which: text_to_clip(similarity, label, w)[which], episode)
    return rows


def _described(
    data: ProbeData, datasets: list[Rollouts], count: int, sentences: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Clips whose behaviour is known, equally many of each dataset.

    Returns:
        features (N, D), numbers of their episodes (N,), offset by `FAR` for each further dataset, and indices into
        `sentences` of the sentences that describe them (N,).
    """
    features, episodes, labels = [], [], []
    for index, rollouts in enumerate(datasets):
        episode, step = data.some(rollouts, count // len(datasets), rollouts.behaviour >= 0)
        place = torch.tensor([sentences.index(one) for one in rollouts.metadata.behaviours])
        features.append(data.read(data.encoder, rollouts, episode, step).float())
        episodes.append(episode + index * FAR)
        labels.append(place[rollouts.behaviour[episode, step]])
    return torch.cat(features), torch.cat(episodes).to(data.device), torch.cat(labels).to(data.device)


def sentence_vectors(sentences: tuple[str, ...]) -> Tensor | None:
    """Vectors of sentences (L, E), or None if the optional package that computes them is not installed."""
    try:
        return SentenceEncoder()(sentences)
    except ValueError as error:
        print(f"No text to clip: {error}")
        return None
