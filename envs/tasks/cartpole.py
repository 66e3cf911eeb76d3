"""Cartpole: keep a pole upright on a cart, or swing it up first."""

import math

import torch

from envs.tasks.base import Task, write
from envs.tasks.tolerance import tolerance
from envs.warp_sim import WarpSim


class Cartpole(Task):
    """Reward for an upright, still pole over the middle of the rail, with little force.

    Args:
        swing_up: start with the pole hanging instead of nearly upright.
        sparse: reward only while the pole stands upright near the middle.
    """

    xml = "cartpole.xml"
    time_limit = 10.0

    def __init__(self, swing_up: bool, sparse: bool):
        super().__init__()
        self.swing_up = swing_up
        self.sparse = sparse
        self._pole = self.model.body("pole_1").id

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: torch.Generator) -> None:
        noise = torch.randn(sim.num_worlds, 2, generator=generator)
        spread = 2 * torch.rand(sim.num_worlds, 2, generator=generator) - 1
        if self.swing_up:
            qpos = torch.tensor([0.0, math.pi]) + 0.01 * noise
        else:
            qpos = torch.tensor([0.1, 0.034]) * spread
        write(sim.qpos, mask, qpos)
        write(sim.qvel, mask, 0.01 * torch.randn(sim.num_worlds, 2, generator=generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        xmat = sim.data("xmat")[:, self._pole]  # (B, 3, 3)
        position = torch.stack([sim.qpos[:, 0], xmat[:, 2, 2], xmat[:, 0, 2]], dim=-1)
        return {"position": position, "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        cart, cosine = sim.qpos[:, 0], sim.data("xmat")[:, self._pole, 2, 2]
        if self.sparse:
            return tolerance(cart, (-0.25, 0.25)) * tolerance(cosine, (0.995, 1.0))
        upright = (cosine + 1) / 2
        centered = (1 + tolerance(cart, margin=2)) / 2
        small_control = tolerance(sim.ctrl[:, 0], margin=1, value_at_margin=0, sigmoid="quadratic")
        small_velocity = (1 + tolerance(sim.qvel[:, 1], margin=5)) / 2
        return upright * (4 + small_control) / 5 * small_velocity * centered
