"""Environments under actions that no agent should choose."""

from collections.abc import Callable
from typing import Any

import torch

from mindreel.envs import WarpEnv

Make = Callable[[int, int | None], WarpEnv]
"""Number of environments, contacts that one may have on average -> environments of one task, seeded alike."""


def endure(make: Make, num_envs: int, steps: int, seed: int, max_contacts: int | None = None) -> dict[str, Any]:
    """Plays hostile actions in all environments but the first, which gets calm ones, as another that is alone does.

    The states of these two must be equal, whatever happens in the others.

    Args:
        make: builds the environments; they step once an action.
        num_envs: how many share a simulation.
        steps: how often they step.
        seed: seed of the actions.
        max_contacts: contacts that each may have on average; mujoco_warp's guess if None.

    Returns:
        `steps`, `repaired` and `overflowed` (resets for broken physics and for want of room), `not_finite`
        (observations or rewards that are not finite), `touched` (steps after which the first differed from the one
        that is alone).
    """
    together = make(num_envs, max_contacts)
    # Environments of a simulation have their room for contacts in common. The lone one gets all of it, so that a
    # pile-up does not end its episode only.
    alone = make(1, num_envs * together.sim.room["max_contacts"])
    generator = torch.Generator().manual_seed(seed)
    root, other = together.reset(), alone.reset()
    not_finite = touched = 0
    for _ in range(steps):
        action = _hostile(generator, num_envs, together.action_dim)
        action[0] = 0.5 * (2 * torch.rand(together.action_dim, generator=generator) - 1)
        action = action.to(together.device)
        step, root = together.step_and_maybe_reset(root.set("action", action))
        same, other = alone.step_and_maybe_reset(other.set("action", action[:1]))
        seen = torch.cat([step["next", "state"], step["next", "reward"], root["state"]], dim=-1)
        not_finite += int((~seen.isfinite().all(-1)).sum())
        touched += int((step["next", "state"][0] != same["next", "state"][0]).any())
    return {
        "steps": steps,
        "repaired": together.counters["repaired_worlds"],
        "overflowed": together.counters["overflowed_worlds"],
        "not_finite": not_finite,
        "touched": touched,
    }


def _hostile(generator: torch.Generator, num_envs: int, action_dim: int) -> torch.Tensor:
    """Actions (B, A): random, at their bounds, far out of them or infinite, one kind for each environment."""
    action = 2 * torch.rand(num_envs, action_dim, generator=generator) - 1
    kind = torch.randint(4, (num_envs, 1), generator=generator)
    beyond = torch.tensor([1.0, 1.0, 1e30, torch.inf])[kind] * torch.where(action < 0, -1.0, 1.0)
    return torch.where(kind == 0, action, beyond)
