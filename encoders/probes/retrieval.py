"""Retrieval of clips, by another clip of the same behaviour or by the sentence that describes them.

Recall at k is the fraction of queries with at least one matching clip among the k nearest by cosine. Where many clips
match, chance alone finds some, so every recall comes with that of a random order.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.probes.regression import ProbeConfig, linear_predictions, standardise

RANKS = (1, 5, 10)
"""Numbers k of nearest clips."""


def clip_to_clip(features: Tensor, test_features: Tensor, label: Tensor, episode: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each clip retrieves one with its label from other episodes.

    Args:
        features: features of training clips, (N, D), which set each feature's mean and spread.
        test_features: features of the clips that are both queries and gallery, (M, D).
        label: labels of these, int64 (M,).
        episode: their episodes, (M,); a query's own episode is excluded from its gallery.

    Returns:
        hits at `RANKS`, and the probability of a hit in a random order, (M, 3) each; NaN for a query without a match.
    """
    x = F.normalize(standardise(features, test_features)[1], dim=-1)
    shown = episode[:, None] != episode[None]  # (M, M): queries, gallery
    return recall(x @ x.T, (label[:, None] == label[None]) & shown, shown)


def recall(similarity: Tensor, right: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Hits at `RANKS` and their probability in a random order: (queries, gallery) each -> (queries, 3), (queries, 3).

    Args:
        similarity: similarity of queries and gallery.
        right: bool, which clips match.
        shown: bool, which clips of the gallery a query searches.
    """
    order = similarity.masked_fill(~shown, -torch.inf).argsort(1, descending=True)
    found = (right & shown).gather(1, order)  # (queries, gallery), nearest first
    size, wanted = shown.sum(1).double(), (right & shown).sum(1).double()
    hits, chances = [], []
    for k in RANKS:
        hits.append(found[:, :k].any(1).float())
        # Hypergeometric: none of k draws without replacement matches.
        drawn = torch.arange(k, device=size.device)
        missed = ((size - wanted)[:, None] - drawn).clamp(min=0) / (size[:, None] - drawn).clamp(min=1)
        chances.append(1 - missed.prod(1).float())
    none = torch.where(wanted > 0, 0.0, torch.nan).float()[:, None]
    return torch.stack(hits, 1) + none, torch.stack(chances, 1) + none


def sentence_similarity(
    config: ProbeConfig, features: Tensor, sentence: Tensor, test_features: Tensor, sentences: Tensor
) -> Tensor:
    """Cosines of sentences with clips, through a linear map fitted from features to sentence vectors: (L, M).

    Args:
        config: of the linear map.
        features: features of training clips, (N, D).
        sentence: index of the sentence that describes each, int64 (N,).
        test_features: features of the clips to be retrieved, (M, D).
        sentences: sentence vectors, (L, E).
    """
    predicted = linear_predictions(config, features, sentences[sentence], test_features)  # (M, E)
    centre = sentences[sentence].mean(0)  # removes what all sentences have in common
    return F.normalize(sentences - centre, dim=-1) @ F.normalize(predicted - centre, dim=-1).T


def text_to_clip(similarity: Tensor, label: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Recall by sentences, and that of a random order: means over sentences, (3,) each.

    Args:
        similarity: similarity of sentences and clips, (L, M).
        label: index of the sentence that describes each clip, (M,).
        weight: weights of the clips, (M,); those with weight 0 are not in the gallery.
    """
    right = torch.arange(len(similarity), device=label.device)[:, None] == label[None]
    hits, chances = recall(similarity, right, (weight > 0).expand(len(similarity), -1))
    return hits.nanmean(0), chances.nanmean(0)
