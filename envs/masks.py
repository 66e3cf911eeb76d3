"""Masks over worlds, (B,) bool."""

import torch


def flags(terminated: torch.Tensor, truncated: torch.Tensor) -> dict[str, torch.Tensor]:
    """How an episode ended, as torchrl wants it: (B,) each becomes (B, 1)."""
    done = terminated | truncated
    return {"terminated": terminated[:, None], "truncated": truncated[:, None], "done": done[:, None]}


def select(mask: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    """`yes` (B, ...) in the worlds of `mask` (B,), `no` elsewhere."""
    return torch.where(mask.view(-1, *[1] * (yes.ndim - 1)), yes, no)
