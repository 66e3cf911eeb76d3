"""The attentive probe: one learned query attends to all tokens of a clip (V-JEPA, Bardes et al. 2024)."""

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.probes.regression import ProbeConfig, evenly_spaced, shrunk, train_probe

_HEADS = 4


class AttentivePool(nn.Module):
    """Tokens (B, N, D) pooled to (B, width) by the attention of a learned query.

    Every place has a learned position, so that the pool also knows the places of tokens that do not encode them.

    Args:
        tokens: examples of the tokens, (M, N, D), by whose mean and spread channels are standardised.
        width: width of keys, values and the result; a multiple of the four heads.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tokens: Tensor, width: int):
        super().__init__()
        number, dim = tokens.shape[1:]
        flat = rearrange(tokens.float(), "m n d -> (m n) d")
        std = flat.std(0)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("std", torch.where(std > 1e-6, std, torch.ones_like(std)))
        self.squeeze = nn.Linear(dim, width)
        self.positions = nn.Parameter(0.5 * torch.randn(number, width))
        self.query = nn.Parameter(0.02 * torch.randn(_HEADS, 1, width // _HEADS))
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))

    def forward(self, tokens: Tensor) -> Tensor:
        x = (tokens.float() - self.mean) / self.std
        to_key, to_value = rearrange(
            self.key_value.weight, "(two heads d) width -> two heads d width", two=2, heads=_HEADS
        )
        # Ordinary attention, computed in another order that takes a tenth of its time: all clips have the same query,
        # so the linear maps are applied to the query and to the attended sum, and not to every token. The key's bias
        # adds the same to every score, which softmax cancels.
        query = (self.query @ to_key).squeeze(1) / self.query.shape[-1] ** 0.5  # (heads, width)
        score = x @ (query @ self.squeeze.weight).T + self.positions @ query.T  # (B, N, heads)
        weight = rearrange(score.softmax(1), "b n heads -> b heads n")
        attended = self.squeeze(weight @ x) + weight @ self.positions  # (B, heads, width)
        value = einsum(attended, to_value, "b heads width, heads d width -> b heads d")
        return self.out(rearrange(value, "b heads d -> b (heads d)") + self.key_value.bias.chunk(2)[1])


def attentive_predictions(
    config: ProbeConfig, tokens: Tensor, target: Tensor, test_tokens: Tensor, classes: int = 0
) -> Tensor:
    """Predictions of an attentive probe that is trained on tokens and their targets.

    Args:
        config: width, steps and batch size.
        tokens: tokens of the training clips, (clips, N, D).
        target: numbers (clips, K), or with `classes` classes int64 (clips,).
        test_tokens: tokens of the test clips, (test clips, N, D).
        classes: number of classes; 0 for regression.

    Returns:
        predictions (test clips, K), or logits (test clips, classes).
    """
    mean, scale = torch.zeros(()), torch.ones(())
    if not classes:
        mean, scale = target.mean(0), target.std(0).clamp(min=1e-6)
        target = (target - mean) / scale
    head = nn.Sequential(nn.Linear(config.hidden, config.hidden), nn.SiLU())
    head.append(nn.Linear(config.hidden, classes or target.shape[1]))
    probe = nn.Sequential(AttentivePool(evenly_spaced(tokens, 1000), config.hidden), head).to(tokens.device)
    error = F.cross_entropy if classes else F.mse_loss
    validation = train_probe(config, probe, len(tokens), lambda rows: error(probe(tokens[rows]), target[rows]))
    with torch.no_grad():
        predicted = torch.cat([probe(part) for part in test_tokens.split(512)])
        if not classes:
            guess = torch.cat([probe(tokens[part]) for part in validation.split(512)])
            predicted = shrunk(guess, target[validation], predicted)
    return predicted * scale.to(predicted) + mean.to(predicted)
