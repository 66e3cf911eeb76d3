"""Cheetah: run."""

import math

import torch

from envs.tasks.base import Task, uniform, write
from envs.tasks.tolerance import tolerance
from envs.warp_sim import WarpSim

_RUN_SPEED = 10.0  # metres a second
_SETTLE_STEPS = 200  # physics steps for which a new episode's cheetah falls and comes to rest


class Cheetah(Task):
    """Reward that rises linearly with forward speed."""

    xml = "cheetah.xml"
    time_limit = 10.0

    def __init__(self) -> None:
        super().__init__()
        limited = self.model.jnt_limited == 1
        self._limited = torch.as_tensor(limited)
        self._low, self._high = torch.as_tensor(self.model.jnt_range[limited], dtype=torch.float32).unbind(-1)
        self._speed = self.model.sensor("torso_subtreelinvel").adr[0]

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: torch.Generator) -> None:
        qpos = torch.as_tensor(self.model.qpos0, dtype=torch.float32).repeat(sim.num_worlds, 1)
        qpos[:, self._limited] = uniform(self._low, self._high, sim.num_worlds, generator)
        sim.forward()  # as in dm_control, the first of the steps below starts from the default pose's forces
        write(sim.qpos, mask, qpos)
        sim.settle(mask, _SETTLE_STEPS // sim.substeps)
        sim.data("time").masked_fill_(mask, 0.0)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos[:, 1:], "velocity": sim.qvel}  # not where along the track it is

    def reward(self, sim: WarpSim) -> torch.Tensor:
        speed = sim.data("sensordata")[:, self._speed]
        return tolerance(speed, (_RUN_SPEED, math.inf), _RUN_SPEED, sigmoid="linear", value_at_margin=0)
