"""Reacher: bring the finger of a two-link arm to a target that lies elsewhere in every episode."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from envs.tasks.base import Task, random_joints, uniform, write
from envs.tasks.tolerance import tolerance
from envs.warp_sim import WarpSim


class Reacher(Task):
    """Reward while the finger touches the target.

    Args:
        target_size: radius of the target, in metres.
    """

    xml = "reacher.xml"
    time_limit = 20.0

    def __init__(self, target_size: float):
        self._target_size = target_size
        super().__init__()
        self._target, self._finger = self.model.geom("target").id, self.model.geom("finger").id
        self._reach = float(self.model.geom_size[[self._target, self._finger], 0].sum())

    def edit(self, spec: mujoco.MjSpec) -> None:
        spec.geom("target").size[0] = self._target_size

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: torch.Generator) -> None:
        write(sim.qpos, mask, random_joints(self.model, sim.num_worlds, generator))
        low, high = torch.tensor([0.0, 0.05]), torch.tensor([2 * math.pi, 0.20])
        angle, radius = uniform(low, high, sim.num_worlds, generator).unbind(-1)
        target = torch.stack([radius * angle.sin(), radius * angle.cos()], dim=-1)  # (B, 2)
        # The target is fixed to the world, so its place in the data is read but never computed again.
        write(sim.data("geom_xpos")[:, self._target, :2], mask, target)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos, "to_target": self._to_target(sim), "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return tolerance(self._to_target(sim).norm(dim=-1), (0.0, self._reach))

    def _to_target(self, sim: WarpSim) -> torch.Tensor:
        geoms = sim.data("geom_xpos")[..., :2]
        return geoms[:, self._target] - geoms[:, self._finger]  # (B, 2)
