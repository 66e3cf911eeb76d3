"""Reacher: bring the finger of a two-link arm to a target that lies elsewhere in every episode."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import (
    Task,
    first_that_holds,
    place_geom,
    random_joints,
    to_target_conditions,
    uniform,
    write,
)
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_MOVING = 0.05  # metres a second of a finger that moves, or comes nearer


class Reacher(Task):
    """Reward while the finger touches the target.

    Args:
        target_size: radius of the target, in metres.
    """

    xml = "reacher.xml"
    time_limit = 20.0
    behaviours = (
        "a reacher arm touching the target",
        "a reacher arm moving towards the target",
        "a reacher arm moving away from the target",
        "a reacher arm sweeping past the target",
        "a reacher arm resting away from the target",
    )

    def __init__(self, target_size: float):
        self._target_size = target_size
        super().__init__()
        self._target, self._finger = self.model.geom("target").id, self.model.geom("finger").id
        self._hinges = [self.model.body(name).id for name in ("arm", "hand")]  # each body turns about its origin
        self._reach = float(self.model.geom_size[[self._target, self._finger], 0].sum())

    def edit(self, spec: mujoco.MjSpec) -> None:
        spec.geom("target").size[0] = self._target_size

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))
        low, high = torch.tensor([0.0, 0.05]), torch.tensor([2 * math.pi, 0.20])
        angle, radius = uniform(low, high, generator).unbind(-1)
        target = torch.stack([radius * angle.sin(), radius * angle.cos()], dim=-1)  # (B, 2)
        place_geom(sim, mask, self._target, target, slice(2))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos, "to_target": self._to_target(sim), "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return tolerance(self._to_target(sim).norm(dim=-1), (0.0, self._reach))

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        to_target = self._to_target(sim)
        velocity = torch.zeros_like(to_target)  # of the finger, (B, 2)
        for hinge, body in enumerate(self._hinges):
            lever = sim.data("geom_xpos")[:, self._finger, :2] - sim.data("xpos")[:, body, :2]
            velocity += sim.qvel[:, hinge, None] * torch.stack([-lever[:, 1], lever[:, 0]], dim=-1)
        return first_that_holds(*to_target_conditions(to_target, velocity, self._reach, _MOVING))

    def _to_target(self, sim: WarpSim) -> torch.Tensor:
        geoms = sim.data("geom_xpos")[..., :2]
        return geoms[:, self._target] - geoms[:, self._finger]  # (B, 2)
