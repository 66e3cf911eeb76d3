"""Hopper: a planar one-legged robot that stands or hops."""

import math

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, random_joints, sensor_columns, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_STAND_HEIGHT = 0.6  # metres of the torso over the foot
_HOP_SPEED = 2.0  # metres a second
_MOVING = 0.5  # metres a second from which it is called hopping
_AIRBORNE = 0.12  # height of the foot, metres; 0.04 on the ground
_LYING_HEIGHT = 0.3  # height of the torso, metres; 0.94 with a straight leg
_SINKING = -0.5  # metres a second, upwards


class Hopper(Task):
    """Reward for a torso high above the foot, times one for speed or for little force.

    Args:
        hopping: reward speed instead of little force.
    """

    xml = "hopper.xml"
    time_limit = 20.0
    control_timestep = 0.02
    behaviours = (
        "a hopper leaping through the air",
        "a hopper hopping forward",
        "a hopper hopping backward",
        "a hopper standing upright",
        "a hopper lying on the ground",
        "a hopper falling",
        "a hopper crouching low",
    )

    def __init__(self, hopping: bool):
        super().__init__()
        self._hopping = hopping
        self._torso, self._foot = self.model.body("torso").id, self.model.body("foot").id
        self._speed = self.model.sensor("torso_subtreelinvel").adr[0]
        self._touch = sensor_columns(self.model, "touch")

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))
        sim.sense(mask)  # the foot may start in the ground

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        touch = sim.data("sensordata")[:, self._touch].log1p()
        return {"position": sim.qpos[:, 1:], "velocity": sim.qvel, "touch": touch}  # not where along the track

    def reward(self, sim: WarpSim) -> torch.Tensor:
        standing = tolerance(self._height(sim), (_STAND_HEIGHT, 2.0))
        if self._hopping:
            speed = sim.data("sensordata")[:, self._speed]
            bounds, margin = (_HOP_SPEED, math.inf), _HOP_SPEED / 2
            return standing * tolerance(speed, bounds, margin, sigmoid="linear", value_at_margin=0.5)
        small_control = tolerance(sim.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean(-1)
        return standing * (4 + small_control) / 5

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        speed, height = sim.data("sensordata")[:, self._speed], sim.data("xpos")[..., 2]  # (B,), (B, bodies)
        upright, sinking = self._height(sim) > _STAND_HEIGHT, sim.qvel[:, 1] < _SINKING
        return first_that_holds(
            upright & (height[:, self._foot] > _AIRBORNE),
            upright & (speed > _MOVING),
            upright & (speed < -_MOVING),
            upright & ~sinking,
            (height[:, self._torso] < _LYING_HEIGHT) & ~sinking,
            sinking,
        )

    def _height(self, sim: WarpSim) -> torch.Tensor:
        height = sim.data("xipos")[..., 2]
        return height[:, self._torso] - height[:, self._foot]  # (B,), over the foot
