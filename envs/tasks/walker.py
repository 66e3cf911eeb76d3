"""Walker: a planar biped that stands, walks or runs."""

import math

import torch

from envs.tasks.base import Task, random_joints, write
from envs.tasks.tolerance import tolerance
from envs.warp_sim import WarpSim

_STAND_HEIGHT = 1.2  # metres


class Walker(Task):
    """Reward for a high, upright torso, times one for speed where there is a speed to reach.

    Args:
        move_speed: horizontal speed to reach, in metres a second; 0 rewards standing alone.
    """

    xml = "walker.xml"
    time_limit = 25.0
    control_timestep = 0.025

    def __init__(self, move_speed: float):
        super().__init__()
        self._move_speed = move_speed
        self._torso = self.model.body("torso").id
        self._speed = self.model.sensor("torso_subtreelinvel").adr[0]

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: torch.Generator) -> None:
        write(sim.qpos, mask, random_joints(self.model, sim.num_worlds, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        xmat = sim.data("xmat")[:, 1:]  # (B, bodies, 3, 3)
        orientations = xmat[..., 0, ::2].flatten(1)  # (B, 2 * bodies): the entries xx and xz of each
        return {"orientations": orientations, "height": self._height(sim)[:, None], "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        standing = tolerance(self._height(sim), (_STAND_HEIGHT, math.inf), margin=_STAND_HEIGHT / 2)
        upright = (1 + sim.data("xmat")[:, self._torso, 2, 2]) / 2
        stand = (3 * standing + upright) / 4
        if self._move_speed == 0:
            return stand
        speed, goal = sim.data("sensordata")[:, self._speed], self._move_speed
        move = tolerance(speed, (goal, math.inf), margin=goal / 2, value_at_margin=0.5, sigmoid="linear")
        return stand * (5 * move + 1) / 6

    def _height(self, sim: WarpSim) -> torch.Tensor:
        return sim.data("xpos")[:, self._torso, 2]  # (B,)
