"""Tokens for language models: their export with positions, and a small captioner that shows they can be read."""

import json
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.probes.attentive import AttentivePool
from mindreel.encoders.probes.regression import ProbeConfig, evenly_spaced, train_probe


def token_positions(grid: tuple[int, int, int]) -> Tensor:
    """Centres of the tokens of a (time, height, width) grid, each coordinate from 0 to 1: (N, 3)."""
    axes = [(torch.arange(size) + 0.5) / size for size in grid]
    return rearrange(list(torch.meshgrid(*axes, indexing="ij")), "three t h w -> (t h w) three")


def export_tokens(path: Path, tokens: Tensor, grid: tuple[int, int, int], about: dict) -> None:
    """Writes `path`.safetensors for a language model, and its description as `path`.json.

    The first file holds `tokens` (B, N, D) in their own type, and `positions` (N, 3) float32: each token's centre in
    time (0 oldest, 1 newest), height (0 top) and width (0 left). The second holds the sizes and the entries of `about`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"tokens": tokens.cpu().contiguous(), "positions": token_positions(grid).contiguous()}
    save_file(tensors, path.with_suffix(".safetensors"))
    clips, number, dim = tokens.shape
    sizes = {"clips": clips, "tokens": number, "dim": dim, "grid": list(grid), "axes": ["time", "height", "width"]}
    path.with_suffix(".json").write_text(json.dumps(sizes | about, indent=1), encoding="utf-8")


class Captioner(nn.Module):
    """Tokens of a clip to a sentence, word by word: a GRU that starts from the attentively pooled tokens.

    Args:
        sentences: the sentences to learn; their words are the vocabulary.
        tokens: examples of the tokens, (M, N, D).
        hidden: width of the GRU.
    """

    targets: Tensor

    def __init__(self, sentences: tuple[str, ...], tokens: Tensor, hidden: int):
        super().__init__()
        self.words = ["", *sorted({word for sentence in sentences for word in sentence.split()})]  # "" ends a sentence
        self.start = nn.Sequential(AttentivePool(tokens, hidden), nn.Linear(hidden, hidden), nn.Tanh())
        self.embed = nn.Embedding(len(self.words), hidden)
        self.gru = nn.GRUCell(hidden, hidden)
        self.out = nn.Linear(hidden, len(self.words))
        length = 1 + max(len(sentence.split()) for sentence in sentences)
        targets = torch.zeros(len(sentences), length, dtype=torch.long)
        for row, sentence in zip(targets, sentences, strict=True):
            row[: len(sentence.split())] = torch.tensor([self.words.index(word) for word in sentence.split()])
        self.register_buffer("targets", targets)  # indices of words (L, length), padded by ""

    def loss(self, tokens: Tensor, sentence: Tensor) -> Tensor:
        """Cross-entropy of each next word given the words before it: (B, N, D), int64 (B,) -> ()."""
        h, target = self.start(tokens), self.targets[sentence]  # (B, hidden), (B, length)
        losses, word = [], torch.zeros_like(target[:, 0])
        for t in range(target.shape[1]):
            h = self.gru(self.embed(word), h)
            losses.append(F.cross_entropy(self.out(h), target[:, t], reduction="none"))
            word = target[:, t]
        # Of the padding only the first "" counts, which ends the sentence.
        counts = torch.cat([torch.ones_like(target[:, :1]), target[:, :-1]], 1) > 0
        return (torch.stack(losses, 1) * counts).sum() / counts.sum()

    @torch.no_grad()
    def generate(self, tokens: Tensor) -> list[str]:
        """Tokens (B, N, D) to B sentences, by the most likely next word until the end."""
        h = self.start(tokens)
        word, words = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device), []
        for _ in range(self.targets.shape[1]):
            h = self.gru(self.embed(word), h)
            word = self.out(h).argmax(-1)
            words.append(word)
        rows = torch.stack(words, 1).tolist()
        return [" ".join(self.words[word] for word in row[: (row + [0]).index(0)]) for row in rows]


def fit_captioner(config: ProbeConfig, tokens: Tensor, sentence: Tensor, sentences: tuple[str, ...]) -> Captioner:
    """Trains a captioner on clips' tokens (B, N, D) and the index of each clip's sentence, int64 (B,)."""
    captioner = Captioner(sentences, evenly_spaced(tokens, 1000), config.hidden).to(tokens.device)
    train_probe(config, captioner, len(tokens), lambda rows: captioner.loss(tokens[rows], sentence[rows]))
    return captioner.eval()
