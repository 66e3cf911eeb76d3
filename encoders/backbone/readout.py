"""Readouts: the tokens of a clip to the one vector that the agent receives."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

_FIT_NUMBERS = 2**28  # floats that tokens may fill while a readout is fitted to them: a gigabyte


class Readout(nn.Module):
    """Tokens (B, N, D) to features (B, feature_dim).

    Subclasses take the same arguments as `make_readout`, in its order.

    Attributes:
        feature_dim: number of features.
        least_clips: clips that `fit` needs at least.
    """

    feature_dim: int
    least_clips: int

    def fit(self, tokens: Tensor) -> None:
        """Fits statistics that are not trained to the tokens of many clips, (rows, N, D)."""
        raise NotImplementedError

    def monitored_features(self, tokens: Tensor) -> Tensor:
        """Features that show a collapse while the tokens are trained, (B, width).

        By default the features themselves; readouts that `fit` scales return them before scaling, since scales
        fitted to earlier tokens would say nothing of the present ones.
        """
        return self(tokens)


class ScaledReadout(Readout):
    """Features taken from the tokens, centred and divided by one spread; unchanged until `fit` was called.

    Most of a token is common to all clips: an agent learned nothing from tokens that were not centred and scaled.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, feature_dim: int):
        super().__init__()
        self.feature_dim, self.least_clips = feature_dim, 64
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.monitored_features(tokens) - self.mean) / self.spread

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Sets the means, and one spread for all features, so that those that hardly vary stay small."""
        values = self.monitored_features(tokens)
        self.mean.copy_(values.mean(0))
        # Clips that are all alike tell nothing of the spread; features of others must not explode.
        least = 1e-3 * float(values.pow(2).mean().sqrt()) + 1e-6
        self.spread.copy_(values.var(0, correction=0).mean().sqrt().clamp(min=least))


class TokensReadout(ScaledReadout):
    """All tokens, one after another: (B, N, D) -> (B, N * D)."""

    def __init__(self, num_tokens: int, dim: int, width: int, channels: int):
        super().__init__(num_tokens * dim)

    def monitored_features(self, tokens: Tensor) -> Tensor:
        return rearrange(tokens, "b n d -> b (n d)")


class PooledReadout(ScaledReadout):
    """The mean over all tokens: (B, N, D) -> (B, D)."""

    def __init__(self, num_tokens: int, dim: int, width: int, channels: int):
        super().__init__(dim)

    def monitored_features(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)


class CompressedReadout(Readout):
    """Principal components of all tokens, centred and of unit variance: (B, N, D) -> (B, width).

    All are zero until `fit` was called, which has to happen whenever training has changed the tokens. Components along
    which the fitted clips hardly differ stay zero.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, num_tokens: int, dim: int, width: int, channels: int):
        super().__init__()
        self.feature_dim = min(width, num_tokens * dim)
        self.least_clips = 2 * self.feature_dim
        self.register_buffer("mean", torch.zeros(num_tokens * dim))
        self.register_buffer("axes", torch.zeros(num_tokens * dim, self.feature_dim))

    def monitored_features(self, tokens: Tensor) -> Tensor:
        return rearrange(tokens, "b n d -> b (n d)")

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.monitored_features(tokens) - self.mean) @ self.axes

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Sets the components from the tokens of many clips, (rows, N, D).

        A later fit rotates the components so that the features stay as near as possible to the former ones
        (orthogonal Procrustes), which an agent has learned to read. White features stay white.
        """
        before = self(tokens) if self.axes.any() else None  # (rows, width)
        flat = self.monitored_features(tokens)
        self.mean.copy_(flat.mean(0))
        self.axes.copy_(whitening(flat, self.feature_dim))
        if before is not None:
            left, _, right = torch.linalg.svd(self(tokens).T @ before)
            self.axes.copy_(self.axes @ (left @ right))


class EmbeddingReadout(Readout):
    """A trained head: each token reduced to a few channels, and an MLP on all of them: (B, N, D) -> (B, width).

    Losses act on `embedding`. The agent receives it half whitened by `fit`, because it would learn late from features
    that vary little. An agent learned faster from these than from the plain embedding.
    """

    mean: Tensor
    balance: Tensor

    def __init__(self, num_tokens: int, dim: int, width: int, channels: int):
        super().__init__()
        self.feature_dim, self.least_clips = width, 2 * width
        self.squeeze = nn.Linear(dim, channels)
        flat = num_tokens * channels
        self.mlp = nn.Sequential(nn.LayerNorm(flat), nn.Linear(flat, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("balance", torch.eye(width))

    def embedding(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) to the embedding that losses act on, (B, width)."""
        return self.mlp(rearrange(self.squeeze(tokens), "b n channels -> b (n channels)"))

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.embedding(tokens) - self.mean) @ self.balance

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Subtracts the mean of tokens (rows, N, D), and divides each principal axis by the root of its spread.

        The axes are rotated back afterwards, so that features change little from one fit to the next.
        """
        embedding = torch.cat([self.embedding(part) for part in tokens.split(512)])
        self.mean.copy_(embedding.mean(0))
        variance, axes = torch.linalg.eigh(torch.cov(embedding.T))
        variance = variance.clamp(min=1e-6 * float(variance[-1]) + 1e-12)  # axes that hardly vary stay small
        balance = (axes * variance**-0.25) @ axes.T
        self.balance.copy_(balance / ((embedding - self.mean) @ balance).std(0).mean().clamp(min=1e-6))


READOUTS: dict[str, type[Readout]] = {
    "embedding": EmbeddingReadout,
    "compressed": CompressedReadout,
    "pooled": PooledReadout,
    "tokens": TokensReadout,
}


def make_readout(name: str, num_tokens: int, dim: int, width: int, channels: int) -> Readout:
    """The readout with this name.

    Args:
        name: one of `READOUTS`.
        num_tokens: tokens N of a clip.
        dim: width D of a token.
        width: width of an embedding, or number of components of compressed tokens.
        channels: channels that each token is reduced to for an embedding.

    Raises:
        ValueError: no readout has that name.
    """
    if name not in READOUTS:
        raise ValueError(f"encoder.readout={name}: expected one of {', '.join(READOUTS)}.")
    return READOUTS[name](num_tokens, dim, width, channels)


@torch.no_grad()
def fit_readout(readout: Readout, tokens_of: Callable[[Tensor], Tensor], clips: Tensor) -> None:
    """Fits a readout to the tokens of clips.

    Args:
        readout: the readout.
        tokens_of: maps clips to tokens (B, N, D).
        clips: uint8 (rows, F, 3, H, W). Fewer of them are used where their tokens would fill more than a gigabyte.
    """
    count = max(readout.least_clips, _FIT_NUMBERS // tokens_of(clips[:1]).numel())
    readout.fit(torch.cat([tokens_of(part).float() for part in clips[:count].split(256)]))


def whitening(values: Tensor, count: int) -> Tensor:
    """Axes (P, count) that whiten rows (N, P): the first principal axes, each divided by the spread along it.

    Axes along which the rows hardly vary are zero, as they are where there are fewer rows than axes. The caller
    subtracts the mean of the rows.
    """
    axes = torch.zeros(values.shape[1], count, device=values.device)
    rank = min(count, *values.shape)
    if rank:
        _, scale, found = torch.pca_lowrank(values, q=rank, center=True, niter=4)
        spread = scale / len(values) ** 0.5
        # Other rows may vary arbitrarily along an axis on which these hardly do.
        least = 1e-3 * float(spread[0]) + 1e-6
        axes[:, :rank] = torch.where(spread > least, found / spread.clamp(min=least), 0.0)
    return axes
