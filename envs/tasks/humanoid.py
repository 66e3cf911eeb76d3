"""Humanoid: a body of 21 joints that stands, walks or runs."""

import math
from typing import ClassVar

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import (
    Task,
    first_that_holds,
    pick,
    random_joints,
    seen_from,
    sensor_columns,
    until_free,
    write,
)
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_STAND_HEIGHT = 1.4  # metres, of the head
_ON_FEET_HEIGHT = 1.2  # metres, of the head; below this with knees well bent
_LYING_HEIGHT = 0.5  # metres, of the head
_RUNNING = 2.5  # metres a second from which it is called running
_MOVING = 0.4  # metres a second from which it is called walking
_SINKING = -0.5  # metres a second, upwards


class Humanoid(Task):
    """Reward for a high head and an upright trunk, with little force, times one for speed (or, standing, for none).

    Args:
        move_speed: horizontal speed to reach, in metres a second; 0 rewards standing alone.
        pure_state: observe positions and velocities of all joints instead of what the body itself can feel.
    """

    xml = "humanoid.xml"
    time_limit = 25.0
    control_timestep = 0.025
    behaviours = (
        "a humanoid running",
        "a humanoid walking",
        "a humanoid standing upright",
        "a humanoid falling down",
        "a humanoid lying on the ground",
        "a humanoid crouching or sitting low",
    )
    trunk: ClassVar[str] = "torso"
    """Body that should be upright."""
    upright_axis: ClassVar[int] = 2
    """Axis of the trunk that points to the head."""
    limbs: ClassVar[tuple[str, ...]] = ("left_hand", "left_foot", "right_hand", "right_foot")
    """Bodies whose places are observed from the trunk."""
    reset_rounds: ClassVar[int] = 16
    """Rounds in which a pose without contact is looked for; one round in four fails."""

    def __init__(self, move_speed: float, pure_state: bool = False):
        super().__init__()
        self._move_speed = move_speed
        self._pure_state = pure_state
        self._trunk, self._head = self.model.body(self.trunk).id, self.model.body("head").id
        self._limbs = [self.model.body(name).id for name in self.limbs]
        self._velocity = sensor_columns(self.model, "subtreelinvel")

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        draw = lambda worlds: write(sim.qpos, worlds, random_joints(self.model, generator))
        until_free(sim, mask, draw, self.reset_rounds)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        if self._pure_state:
            return {"position": sim.qpos, "velocity": sim.qvel}
        xpos, xmat = sim.data("xpos"), sim.data("xmat")[:, self._trunk]  # (B, bodies, 3), (B, 3, 3)
        limbs = pick(xpos, self._limbs) - xpos[:, self._trunk, None]
        return {
            "joint_angles": sim.qpos[:, 7:],  # after the place and turn of the whole body
            "head_height": xpos[:, self._head, 2:],
            "extremities": seen_from(xmat, limbs).flatten(1),
            "torso_vertical": xmat[:, 2],
            "com_velocity": sim.data("sensordata")[:, self._velocity],
            "velocity": sim.qvel,
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        standing = tolerance(sim.data("xpos")[:, self._head, 2], (_STAND_HEIGHT, math.inf), margin=_STAND_HEIGHT / 4)
        upright = tolerance(self._upright(sim), (0.9, math.inf), margin=1.9, value_at_margin=0, sigmoid="linear")
        control = tolerance(sim.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean(-1)
        stand = (4 + control) / 5 * standing * upright
        velocity, goal = sim.data("sensordata")[:, self._velocity][:, :2], self._move_speed  # (B, 2): horizontal
        if goal == 0:
            return stand * tolerance(velocity, margin=2).mean(-1)
        move = tolerance(velocity.norm(dim=-1), (goal, math.inf), margin=goal, value_at_margin=0, sigmoid="linear")
        return stand * (5 * move + 1) / 6

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        height, velocity = sim.data("xpos")[:, self._head, 2], sim.data("sensordata")[:, self._velocity]
        speed, rising = velocity[:, :2].norm(dim=-1), velocity[:, 2]
        on_feet = (height > _ON_FEET_HEIGHT) & (self._upright(sim) > 0.7)
        return first_that_holds(
            on_feet & (speed > _RUNNING),
            on_feet & (speed > _MOVING),
            on_feet & (rising > _SINKING),
            rising < _SINKING,
            height < _LYING_HEIGHT,
        )

    def _upright(self, sim: WarpSim) -> torch.Tensor:
        return sim.data("xmat")[:, self._trunk, 2, self.upright_axis]  # (B,): 1 upright, -1 upside down
