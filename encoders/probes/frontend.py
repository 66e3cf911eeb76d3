"""A front end for language: tokens with their positions, and a small captioner as proof that they can be read."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.probes.attentive import AttentivePool
from mindreel.encoders.probes.regression import ProbeConfig, descend, evenly_spaced


def token_positions(grid: tuple[int, int, int]) -> Tensor:
    """Middles of a (time, height, width) grid's cells as shares of the clip, in the order of tokens: (N, 3)."""
    axes = [(torch.arange(size) + 0.5) / size for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)


def export_tokens(path: Path, tokens: Tensor, grid: tuple[int, int, int], about: dict) -> None:
    """Writes what a language model needs: `path`.safetensors and, to read it by, `path`.json.

    The first holds `tokens` (B, N, D) as they come, and `positions` (N, 3) float32, each token's middle in time
    (0 oldest, 1 newest), height (0 top) and width (0 left); the second the sizes, and `about`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"tokens": tokens.cpu().contiguous(), "positions": token_positions(grid)}
    save_file(tensors, path.with_suffix(".safetensors"))
    clips, number, dim = tokens.shape
    sizes = {"clips": clips, "tokens": number, "dim": dim, "grid": list(grid), "axes": ["time", "height", "width"]}
    path.with_suffix(".json").write_text(json.dumps(sizes | about, indent=1), encoding="utf-8")


class Captioner(nn.Module):
    """Tokens of a clip to a sentence, word by word: a GRU that sees what a learned query attended to.

    Args:
        sentences: what it may learn to say; their words are its vocabulary.
        tokens: some tokens to be read, (M, N, D).
        hidden: width of the GRU.
    """

    said: Tensor

    def __init__(self, sentences: tuple[str, ...], tokens: Tensor, hidden: int):
        super().__init__()
        self.words = ["", *sorted({word for sentence in sentences for word in sentence.split()})]  # "" ends
        self.start = nn.Sequential(AttentivePool(tokens, hidden), nn.Linear(hidden, hidden), nn.Tanh())
        self.embed = nn.Embedding(len(self.words), hidden)
        self.cell = nn.GRUCell(hidden, hidden)
        self.out = nn.Linear(hidden, len(self.words))
        length = 1 + max(len(sentence.split()) for sentence in sentences)
        said = torch.zeros(len(sentences), length, dtype=torch.long)
        for row, sentence in zip(said, sentences, strict=True):
            row[: len(sentence.split())] = torch.tensor([self.words.index(word) for word in sentence.split()])
        self.register_buffer("said", said)  # (L, length), ended and filled up by ""

    def loss(self, tokens: Tensor, sentence: Tensor) -> Tensor:
        """Cross-entropy of each next word given the words before it: (B, N, D), int64 (B,) -> ()."""
        h, target = self.start(tokens), self.said[sentence]  # (B, hidden), (B, length)
        losses, word = [], torch.zeros_like(target[:, 0])
        for t in range(target.shape[1]):
            h = self.cell(self.embed(word), h)
            losses.append(F.cross_entropy(self.out(h), target[:, t], reduction="none"))
            word = target[:, t]
        # Words after a sentence's end say nothing: only the first "" counts.
        counts = torch.cat([torch.ones_like(target[:, :1]), target[:, :-1]], 1) > 0
        return (torch.stack(losses, 1) * counts).sum() / counts.sum()

    @torch.no_grad()
    def say(self, tokens: Tensor) -> list[str]:
        """The likeliest word after each word, until the end: tokens (B, N, D) to B sentences."""
        h = self.start(tokens)
        word, spoken = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device), []
        for _ in range(self.said.shape[1]):
            h = self.cell(self.embed(word), h)
            word = self.out(h).argmax(-1)
            spoken.append(word)
        rows = torch.stack(spoken, 1).tolist()
        return [" ".join(self.words[word] for word in row[: (row + [0]).index(0)]) for row in rows]


def fit_captioner(config: ProbeConfig, tokens: Tensor, sentence: Tensor, sentences: tuple[str, ...]) -> Captioner:
    """A captioner trained on clips' tokens (B, N, D) and the index of the sentence for each, int64 (B,)."""
    captioner = Captioner(sentences, evenly_spaced(tokens, 1000), config.hidden).to(tokens.device)
    descend(config, captioner, len(tokens), lambda rows: captioner.loss(tokens[rows], sentence[rows]))
    return captioner.eval()
