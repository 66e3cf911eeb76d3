"""Cheetah: run."""

import math

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, uniform, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_RUN_SPEED = 10.0  # metres a second
_RUNNING = 3.0  # metres a second from which it is called running
_MOVING = 0.5  # metres a second from which it is called moving
_STEEP = math.sin(math.radians(50))  # height of the torso's front over its middle, torso half lengths
_OVERTURNED = -0.5  # height that the torso's upper side points to; 1 is upright, -1 upside down
_SETTLE_STEPS = 200  # physics steps for which a new episode's cheetah falls and comes to rest


class Cheetah(Task):
    """Reward that rises linearly with forward speed."""

    xml = "cheetah.xml"
    time_limit = 10.0
    behaviours = (
        "a cheetah lying on its back",
        "a cheetah rearing up on its hind legs",
        "a cheetah tipping over onto its nose",
        "a cheetah running forward fast",
        "a cheetah walking forward slowly",
        "a cheetah moving backward",
        "a cheetah staying in its place",
    )

    def __init__(self) -> None:
        super().__init__()
        limited = self.model.jnt_limited == 1
        self._limited = torch.as_tensor(limited)
        self._low, self._high = torch.as_tensor(self.model.jnt_range[limited], dtype=torch.float32).unbind(-1)
        self._torso = self.model.body("torso").id
        self._speed = self.model.sensor("torso_subtreelinvel").adr[0]

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        qpos = torch.as_tensor(self.model.qpos0, dtype=torch.float32).repeat(sim.num_worlds, 1)
        qpos[:, self._limited] = uniform(self._low, self._high, generator)
        sim.forward()  # as in dm_control, the first of the steps below starts from the default pose's forces
        write(sim.qpos, mask, qpos)
        sim.step_only(mask, _SETTLE_STEPS // sim.substeps)
        sim.data("time").masked_fill_(mask, 0.0)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos[:, 1:], "velocity": sim.qvel}  # not where along the track it is

    def reward(self, sim: WarpSim) -> torch.Tensor:
        speed = sim.data("sensordata")[:, self._speed]
        return tolerance(speed, (_RUN_SPEED, math.inf), _RUN_SPEED, sigmoid="linear", value_at_margin=0)

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        speed, up = sim.data("sensordata")[:, self._speed], sim.data("xmat")[:, self._torso, 2]  # (B,), (B, 3)
        front, top = up[:, 0], up[:, 2]
        return first_that_holds(
            top < _OVERTURNED, front > _STEEP, front < -_STEEP, speed > _RUNNING, speed > _MOVING, speed < -_MOVING
        )
