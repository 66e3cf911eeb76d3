"""Walker: a planar biped that stands, walks or runs."""

import math

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, random_joints, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_STAND_HEIGHT = 1.2  # metres
_ON_FEET_HEIGHT = 1.0  # metres; 1.3 with straight legs, below this with knees well bent
_LYING_HEIGHT = 0.5  # metres
_RUNNING = 3.0  # metres a second from which it is called running
_MOVING = 0.4  # metres a second from which it is called walking
_SINKING = -0.5  # metres a second, upwards
_TOPPLING = 0.5  # radians a second, away from upright
_LEANING = math.sin(math.radians(30))  # sine of the torso's angle from upright


class Walker(Task):
    """Reward for a high, upright torso, times one for speed where there is a speed to reach.

    Args:
        move_speed: horizontal speed to reach, in metres a second; 0 rewards standing alone.
    """

    xml = "walker.xml"
    time_limit = 25.0
    control_timestep = 0.025
    behaviours = (
        "a walker running forward",
        "a walker walking forward",
        "a walker stepping backward",
        "a walker standing upright",
        "a walker lying on the ground",
        "a walker falling forward",
        "a walker falling backward",
        "a walker crouching low",
    )

    def __init__(self, move_speed: float):
        super().__init__()
        self._move_speed = move_speed
        self._torso = self.model.body("torso").id
        self._speed = self.model.sensor("torso_subtreelinvel").adr[0]

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))

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

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        xmat, speed = sim.data("xmat")[:, self._torso], sim.data("sensordata")[:, self._speed]
        height, rising = self._height(sim), sim.qvel[:, 0]
        lean, up, turning = xmat[:, 0, 2], xmat[:, 2, 2], sim.qvel[:, 2]  # positive: forward
        on_feet = (height > _ON_FEET_HEIGHT) & (up > 0) & (lean.abs() < _LEANING)
        sinking, forward, backward = rising < _SINKING, lean > _LEANING, lean < -_LEANING
        return first_that_holds(
            on_feet & (speed > _RUNNING),
            on_feet & (speed > _MOVING),
            on_feet & (speed < -_MOVING),
            on_feet,
            (height < _LYING_HEIGHT) & ~sinking,
            forward & (sinking | (turning > _TOPPLING)),
            backward & (sinking | (turning < -_TOPPLING)),
        )

    def _height(self, sim: WarpSim) -> torch.Tensor:
        return sim.data("xpos")[:, self._torso, 2]  # (B,)
