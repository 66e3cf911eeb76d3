"""Point mass: bring a sliding ball to the middle of a plane."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, random_joints, to_target_conditions, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_MOVING = 0.02  # metres a second of a ball that moves, or comes nearer
_PARALLEL = 0.9  # cosine of the least angle between the two actuators' directions


class PointMass(Task):
    """Reward for a ball near the target, with little force."""

    xml = "point_mass.xml"
    time_limit = 20.0
    behaviours = (
        "a point mass lying on the target",
        "a point mass moving towards the target",
        "a point mass moving away from the target",
        "a point mass passing by the target",
        "a point mass resting away from the target",
    )

    def __init__(self) -> None:
        super().__init__()
        self._mass, self._target = self.model.geom("pointmass").id, self.model.geom("target").id
        self._target_size = float(self.model.geom_size[self._target, 0])

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos, "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        near = tolerance(self._to_target(sim).norm(dim=-1), (0.0, self._target_size), margin=self._target_size)
        small_control = tolerance(sim.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean(-1)
        return near * (4 + small_control) / 5

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        to_target = self._to_target(sim)[:, :2]
        return first_that_holds(*to_target_conditions(to_target, sim.qvel, self._target_size, _MOVING))

    def _to_target(self, sim: WarpSim) -> torch.Tensor:
        geoms = sim.data("geom_xpos")
        return geoms[:, self._target] - geoms[:, self._mass]  # (B, 3)


class PointMassRandomGains(PointMass):
    """The same where each actuator pushes in a direction of its own, drawn anew for every episode.

    dm_control redraws the coefficients of two tendons, which mujoco_warp shares among all worlds. Here the
    actuators act on the ball itself and their gears, which a world can have of its own, are drawn: the same forces.
    """

    per_world = ("actuator_gear",)

    def edit(self, spec: mujoco.MjSpec) -> None:
        spec.body("pointmass").add_site(name="pointmass", rgba=[0, 0, 0, 0])
        for actuator in spec.actuators:
            actuator.trntype, actuator.target = mujoco.mjtTrn.mjTRN_SITE, "pointmass"

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        super().reset(sim, mask, generator)
        first, between, opposite = generator.uniform(3).unbind(-1)
        least = math.acos(_PARALLEL)
        angle = 2 * math.pi * first
        turned = angle + least + (math.pi - 2 * least) * between + math.pi * (opposite < 0.5)
        angles = torch.stack([angle, turned], dim=-1)  # (B, actuators)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)  # (B, actuators, 2)
        gear = float(self.model.actuator_gear[0, 0])
        write(sim.model("actuator_gear")[..., :2], mask, gear * directions)
