"""The attentive probe: one learned query looks over all tokens of a clip (V-JEPA, Bardes et al. 2024)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.probes.regression import ProbeConfig, descend, evenly_spaced, shrunk

_HEADS = 4


class AttentivePool(nn.Module):
    """Tokens (B, N, D) to one vector each, (B, width): what a learned query attends to.

    Each place has a learned position, so that maps whose tokens do not say where they are can be read too.

    Args:
        tokens: some tokens to be read, (M, N, D): channels are standardised by their mean and spread.
        width: of keys, values and the result; a multiple of the four heads.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tokens: Tensor, width: int):
        super().__init__()
        number, dim = tokens.shape[1:]
        flat = tokens.float().flatten(0, 1)
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
        to_key, to_value = self.key_value.weight.unflatten(0, (2, _HEADS, -1))  # (heads, d, width) each
        # Queries are the same for all, so they are carried through the linear maps to the tokens, and values are made
        # of what attention has summed: plain attention in other brackets, at a tenth of its time. The key's bias adds
        # as much to every token's score, which softmax does not see.
        query = (self.query @ to_key).squeeze(1) / self.query.shape[-1] ** 0.5  # (heads, width)
        score = x @ (query @ self.squeeze.weight).T + self.positions @ query.T  # (B, N, heads)
        share = score.softmax(1).transpose(1, 2)  # (B, heads, N)
        seen = self.squeeze(share @ x) + share @ self.positions  # (B, heads, width)
        value = torch.einsum("bhw,hdw->bhd", seen, to_value).flatten(1) + self.key_value.bias.chunk(2)[1]
        return self.out(value)


def attentive_predictions(
    config: ProbeConfig, tokens: Tensor, target: Tensor, test_tokens: Tensor, classes: int = 0
) -> Tensor:
    """What an attentive probe, fitted on tokens (N, tokens, D), says of test tokens (M, tokens, D).

    Args:
        config: width, steps and batch size.
        target: numbers (N, K), or classes int64 (N,) if `classes` says how many there are.

    Returns:
        predictions (M, K), or logits (M, classes).
    """
    mean, scale = torch.zeros(()), torch.ones(())
    if not classes:
        mean, scale = target.mean(0), target.std(0).clamp(min=1e-6)
        target = (target - mean) / scale
    head = nn.Sequential(nn.Linear(config.hidden, config.hidden), nn.SiLU())
    head.append(nn.Linear(config.hidden, classes or target.shape[1]))
    probe = nn.Sequential(AttentivePool(evenly_spaced(tokens, 1000), config.hidden), head).to(tokens.device)
    error = F.cross_entropy if classes else F.mse_loss
    kept = descend(config, probe, len(tokens), lambda rows: error(probe(tokens[rows]), target[rows]))
    with torch.no_grad():
        predicted = torch.cat([probe(part) for part in test_tokens.split(512)])
        if not classes:
            known = torch.cat([probe(tokens[part]) for part in kept.split(512)])
            predicted = shrunk(known, target[kept], predicted)
    return predicted * scale.to(predicted) + mean.to(predicted)
