"""Pendulum: swing up with a motor too weak to lift the mass at once."""

import math

import torch

from envs.tasks.base import Task, random_joints, write
from envs.tasks.tolerance import tolerance
from envs.warp_sim import WarpSim


class Pendulum(Task):
    """Reward while the pole stands within 8 degrees of upright."""

    xml = "pendulum.xml"
    time_limit = 20.0

    def __init__(self) -> None:
        super().__init__()
        self._pole = self.model.body("pole").id

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: torch.Generator) -> None:
        write(sim.qpos, mask, random_joints(self.model, sim.num_worlds, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        xmat = sim.data("xmat")[:, self._pole]  # (B, 3, 3)
        return {"orientation": torch.stack([xmat[:, 2, 2], xmat[:, 0, 2]], dim=-1), "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return tolerance(sim.data("xmat")[:, self._pole, 2, 2], (math.cos(math.radians(8)), 1.0))
