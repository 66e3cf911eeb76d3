"""Stacker: a planar arm with a hand that builds a tower of boxes."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.manipulator import PlanarArm, joint_addresses
from mindreel.envs.tasks.task import first_that_holds, pick, uniform, until_free, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_CLOSE = 0.01  # metres
_FAR = 0.1  # metres between the hand and a target that it has let go
_AT_TARGET = 0.02  # metres between a box and the target
_HELD = 0.04  # metres between the middle of the hand and a box that it holds
_MOVING = 0.2  # metres a second of a box that falls or slides


class Stacker(PlanarArm):
    """Reward while any box is at the target and the hand is not.

    The target is a mocap body here, which each world holds in its own place.

    Args:
        num_boxes: boxes, and places one above the other of which the target may be any; 1 to 4.
    """

    xml = "stacker.xml"
    behaviours = (
        "a stacker arm with a box at the target, its hand withdrawn",
        "a stacker arm with a box at the target, its hand still there",
        "a stacker arm holding a box in its hand",
        "a stacker arm while boxes fall or slide",
        "a stacker arm with its boxes lying still",
    )

    def __init__(self, num_boxes: int):
        self._num_boxes = num_boxes
        self.max_constraints = 40 * num_boxes  # four boxes in the hand, hostile torques: 85
        super().__init__()
        model = self.model
        names = [f"box{i}" for i in range(num_boxes)]
        self._boxes = [model.body(name).id for name in names]
        self._box_sites = [model.site(name).id for name in names]
        self._joints, self._dofs = joint_addresses(model, tuple(f"{name}_{axis}" for name in names for axis in "xyz"))
        self._target, self._target_site = model.body("target").id, model.site("target").id
        self._moved = int(model.body("target").mocapid[0])
        self._half = float(model.geom("target").size[0])  # of a box's edge

    def edit(self, spec: mujoco.MjSpec) -> None:
        for unused in range(self._num_boxes, 4):
            spec.delete(spec.body(f"box{unused}"))
        spec.body("target").mocap = True
        # mujoco_warp then finds contacts of boxes as MuJoCo does; its own way misses some of boxes that are level.
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        until_free(sim, mask, lambda worlds: self._place(sim, worlds, generator), self.reset_rounds)

    def _place(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        arm = self.random_arm(generator)
        low = torch.tensor([0.1, 0.0, 0.0]).repeat(self._num_boxes)  # x, angle, z of each
        high = torch.tensor([0.3, 2 * math.pi, 0.7]).repeat(self._num_boxes)
        boxes = uniform(low, high, generator)
        qpos = torch.empty(sim.num_worlds, self.model.nq)
        qpos[:, self._arm + self._joints] = torch.cat([arm, boxes], dim=-1)  # all joints there are
        write(sim.qpos, mask, qpos)

        below = generator.integers(self._num_boxes)  # boxes under the target
        x = uniform(torch.tensor([-0.37]), torch.tensor([0.37]), generator)[:, 0]
        place = torch.stack([x, self._half * (2 * below + 1)], dim=-1)
        write(sim.data("mocap_pos")[:, self._moved, ::2], mask, place)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return self.arm_observation(sim) | {
            "box_pos": self.pose(sim, self._boxes),
            "box_vel": pick(sim.qvel, self._dofs),
            "target_pos": sim.data("xpos")[:, self._target, ::2],
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        close = tolerance(self._nearest(sim, self._target_site), margin=2 * self._half)
        away = tolerance(self.distance(sim, self._grasp, self._target_site), (_FAR, math.inf), margin=_CLOSE)
        return close * away

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        at_target = self._nearest(sim, self._target_site) < _AT_TARGET
        withdrawn = self.distance(sim, self._grasp, self._target_site) > _FAR
        speed = pick(sim.qvel, self._dofs).unflatten(1, (-1, 3))[..., ::2].norm(dim=-1)  # (B, boxes)
        held = self._nearest(sim, self._grasp) < _HELD
        return first_that_holds(at_target & withdrawn, at_target, held, (speed > _MOVING).any(-1))

    def _nearest(self, sim: WarpSim, site: int) -> torch.Tensor:
        """Metres from `site` to the nearest box, (B,)."""
        return torch.stack([self.distance(sim, box, site) for box in self._box_sites]).amin(0)
