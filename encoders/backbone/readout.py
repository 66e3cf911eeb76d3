"""Readouts: from the tokens of a clip to the one vector that the agent receives."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_FIT_NUMBERS = 2**28  # numbers that tokens may fill while a readout is fitted to them: a gigabyte


class Readout(nn.Module):
    """Tokens (B, N, D) to features (B, feature_dim); N, D, a width and a number of channels make it."""

    feature_dim: int
    least_clips: int
    """Clips that `fit` has to see at least."""

    def fit(self, tokens: Tensor) -> None:
        """Sets what follows from the tokens of many clips, (rows, N, D), and is not trained."""
        raise NotImplementedError

    def monitored_features(self, tokens: Tensor) -> Tensor:
        """What shows a collapse while tokens are trained, (B, n): the features, or what `fit` has yet to see."""
        return self(tokens)


class ScaledReadout(Readout):
    """Numbers out of the tokens, centred and divided by their mean spread; as they are until `fit` has seen rollouts.

    Most of a token is what all clips share: through tokens as they are an agent learned nothing
    (results/encoders.md).
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
        """Sets the means, and one spread for all features: those that hardly vary stay small."""
        values = self.monitored_features(tokens)
        self.mean.copy_(values.mean(0))
        # Of clips that are all alike nothing is known of the spread: others must not be blown up.
        least = 1e-3 * float(values.pow(2).mean().sqrt()) + 1e-6
        self.spread.copy_(values.var(0, correction=0).mean().sqrt().clamp(min=least))


class TokensReadout(ScaledReadout):
    """All tokens, one after another: (B, N, D) -> (B, N D)."""

    def __init__(self, num_tokens: int, dim: int, width: int, channels: int):
        super().__init__(num_tokens * dim)

    def monitored_features(self, tokens: Tensor) -> Tensor:
        return tokens.flatten(1)


class PooledReadout(ScaledReadout):
    """The mean over all tokens: (B, N, D) -> (B, D)."""

    def __init__(self, num_tokens: int, dim: int, width: int, channels: int):
        super().__init__(dim)

    def monitored_features(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)


class CompressedReadout(Readout):
    """Principal components of all tokens, centred and of unit variance: (B, N, D) -> (B, width).

    Components on which the fitted clips hardly differ stay zero.

    They are zero until `fit` has seen tokens of rollouts, and want to be fitted anew whenever training has
    changed the tokens.
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
        return tokens.flatten(1)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.monitored_features(tokens) - self.mean) @ self.axes

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Sets the components from the tokens of many clips.

        A later fit turns the components so that the features stay as near as they can to what the former ones
        give (orthogonal Procrustes): an agent has learned to read those. White features stay white.

        Args:
            tokens: of as many clips as rows, (rows, N, D).
        """
        before = self(tokens) if self.axes.any() else None  # (rows, width)
        flat = self.monitored_features(tokens)
        self.mean.copy_(flat.mean(0))
        self.axes.copy_(whitening(flat, self.feature_dim))
        if before is not None:
            left, _, right = torch.linalg.svd(self(tokens).T @ before)
            self.axes.copy_(self.axes @ (left @ right))


class EmbeddingReadout(Readout):
    """A trained head: each token squeezed to a few channels, and all of them read: (B, N, D) -> (B, width).

    Losses act on `embedding`. What the agent receives is the same, half whitened by `fit`: what varies little in
    it would be learned late otherwise. An agent learned faster from it than from the embedding as it is trained
    (results/first_light.md).
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
        """Tokens (B, N, D) to the embedding as it is trained, (B, width)."""
        return self.mlp(self.squeeze(tokens).flatten(1))

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.embedding(tokens) - self.mean) @ self.balance

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Takes the mean off and divides each principal axis by the root of its spread: (rows, N, D).

        The axes are turned back afterwards, so that features stay near what they were when training goes on.
        """
        embedding = torch.cat([self.embedding(part) for part in tokens.split(512)])
        self.mean.copy_(embedding.mean(0))
        variance, axes = torch.linalg.eigh(torch.cov(embedding.T))
        variance = variance.clamp(min=1e-6 * float(variance[-1]) + 1e-12)  # what hardly varies is left small
        balance = (axes * variance**-0.25) @ axes.T
        self.balance.copy_(balance / ((embedding - self.mean) @ balance).std(0).mean().clamp(min=1e-6))


READOUTS: dict[str, type[Readout]] = {
    "embedding": EmbeddingReadout,
    "compressed": CompressedReadout,
    "pooled": PooledReadout,
    "tokens": TokensReadout,
}


def make_readout(name: str, num_tokens: int, dim: int, width: int, channels: int) -> Readout:
    """The readout of a name.

    Args:
        name: one of `READOUTS`.
        num_tokens: tokens N of a clip.
        dim: their width D.
        width: features of an embedding, or components of the compressed tokens.
        channels: channels that each token is squeezed to before an embedding reads all of them.

    Raises:
        ValueError: there is no readout of that name.
    """
    if name not in READOUTS:
        raise ValueError(f"encoder.readout={name}: expected one of {', '.join(READOUTS)}.")
    return READOUTS[name](num_tokens, dim, width, channels)


@torch.no_grad()
def fit_readout(readout: Readout, tokens_of: Callable[[Tensor], Tensor], clips: Tensor) -> None:
    """Fits a readout to the tokens of clips, uint8 (rows, F, 3, H, W)."""
    # Of long sequences of wide tokens fewer clips have to do.
    count = max(readout.least_clips, _FIT_NUMBERS // tokens_of(clips[:1]).numel())
    readout.fit(torch.cat([tokens_of(part).float() for part in clips[:count].split(256)]))


def whitening(values: Tensor, count: int) -> Tensor:
    """Axes (P, count) on which rows (N, P) have unit variance: the first principal axes over their spread.

    Those on which the rows hardly vary, as where there are fewer of them than axes, are zero.

    The mean of the rows is not taken off; that is left to whoever uses the axes.
    """
    axes = torch.zeros(values.shape[1], count, device=values.device)
    rank = min(count, *values.shape)
    if rank:
        _, scale, found = torch.pca_lowrank(values, q=rank, center=True, niter=4)
        spread = scale / len(values) ** 0.5
        # An axis on which next to nothing varies in these rows is left out: anything may vary on it in others.
        least = 1e-3 * float(spread[0]) + 1e-6
        axes[:, :rank] = torch.where(spread > least, found / spread.clamp(min=least), 0.0)
    return axes
