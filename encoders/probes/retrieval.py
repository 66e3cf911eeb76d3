"""Retrieval: clips by a clip that shows the same behaviour, and clips by the sentence that describes them.

Recall at k is the share of queries with at least one right clip among the k nearest by cosine. A right one of
many is likely there by luck, so the recall of a random order stands beside it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.probes.regression import ProbeConfig, linear_predictions, standardise

RANKS = (1, 5, 10)
"""Nearest clips k that are looked at."""


def clip_to_clip(features: Tensor, test_features: Tensor, label: Tensor, episode: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each clip finds one with its label in other episodes.

    Args:
        features: of training clips (N, D), which set each feature's mean and spread.
        test_features: of the clips that are both queries and gallery (M, D).
        label: int64 (M,).
        episode: (M,); a query's own episode is left out of its gallery.

    Returns:
        hits at `RANKS`, and the chance of a hit in a random order, (M, 3) each; NaN for a query without a
        right clip.
    """
    x = F.normalize(standardise(features, test_features)[1], dim=-1)
    shown = episode[:, None] != episode[None]  # (M, M): queries, gallery
    return recall(x @ x.T, (label[:, None] == label[None]) & shown, shown)


def recall(similarity: Tensor, right: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Hits at `RANKS` and their chance in a random order: (Q, G) each -> (Q, 3), (Q, 3).

    Args:
        similarity: of queries and gallery.
        right: bool, what each query should find.
        shown: bool, which part of the gallery each query sees.
    """
    order = similarity.masked_fill(~shown, -torch.inf).argsort(1, descending=True)
    found = (right & shown).gather(1, order)  # (Q, G), nearest first
    size, wanted = shown.sum(1).double(), (right & shown).sum(1).double()
    hits, chances = [], []
    for k in RANKS:
        hits.append(found[:, :k].any(1).float())
        # Hypergeometric: none of k draws without replacement is a right one.
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
        features: of training clips, (N, D).
        sentence: index of the sentence that describes each, int64 (N,).
        test_features: (M, D).
        sentences: sentence vectors, (L, E).
    """
    said = linear_predictions(config, features, sentences[sentence], test_features)  # (M, E)
    centre = sentences[sentence].mean(0)  # what all sentences share says nothing of a clip
    return F.normalize(sentences - centre, dim=-1) @ F.normalize(said - centre, dim=-1).T


def text_to_clip(similarity: Tensor, label: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Recall of each sentence's clips among those that count, and its chance: (3,) each, means over sentences.

    Args:
        similarity: of sentences and clips, (L, M).
        label: index of the sentence that describes each clip, (M,).
        weight: (M,); a clip with weight 0 is not in the gallery.
    """
    right = torch.arange(len(similarity), device=label.device)[:, None] == label[None]
    hits, chances = recall(similarity, right, (weight > 0).expand(len(similarity), -1))
    return hits.nanmean(0), chances.nanmean(0)
