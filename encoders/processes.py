"""Training in several processes (torch.distributed), each with clips of its own; all of it does nothing in one."""

from collections.abc import Sequence

import torch
from torch import distributed
from torch.nn import Parameter


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def average_gradients(parameters: Sequence[Parameter]) -> None:
    """Averages gradients over all processes."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message instead of many
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(averaged.view_as(gradient))


def broadcast(encoder: torch.nn.Module) -> None:
    """Gives all processes the parameters and buffers of the first."""
    if distributed.is_initialized():
        for value in encoder.state_dict().values():
            distributed.broadcast(value, 0)


def broadcast_number(number: float, device: torch.device) -> float:
    """The first process's number, for all of them."""
    if not distributed.is_initialized():
        return number
    tensor = torch.tensor(number, device=device)
    distributed.broadcast(tensor, 0)
    return float(tensor)
