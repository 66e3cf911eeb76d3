"""Pendulum: swing up with a motor too weak to lift the mass at once."""

import math

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, random_joints, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_UPRIGHT = math.cos(math.radians(25))  # height of the mass over the hinge, pole lengths
_STILL = 1.0  # radians a second of a pole that is held or at rest


class Pendulum(Task):
    """Reward while the pole stands within 8 degrees of upright."""

    xml = "pendulum.xml"
    time_limit = 20.0
    behaviours = (
        "a pendulum standing upright",
        "a pendulum hanging down at rest",
        "a pendulum swinging up",
        "a pendulum tipping over and falling",
        "a pendulum swinging down",
    )

    def __init__(self) -> None:
        super().__init__()
        self._pole = self.model.body("pole").id

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        xmat = sim.data("xmat")[:, self._pole]  # (B, 3, 3)
        return {"orientation": torch.stack([xmat[:, 2, 2], xmat[:, 0, 2]], dim=-1), "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return tolerance(sim.data("xmat")[:, self._pole, 2, 2], (math.cos(math.radians(8)), 1.0))

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        xmat, speed = sim.data("xmat")[:, self._pole], sim.qvel[:, 0]
        cosine, rising = xmat[:, 2, 2], -xmat[:, 0, 2] * speed  # of the mass, and how fast it rises
        still = speed.abs() < _STILL
        return first_that_holds(still & (cosine > _UPRIGHT), still & (cosine < -_UPRIGHT), rising > 0, cosine > 0)
