"""Manipulator: a planar arm with a hand that brings a ball or a peg to a target, or puts it into a receptacle."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math
from typing import ClassVar

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, pick, sensor_columns, uniform, until_free, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_CLOSE = 0.01  # metres below which two things are called together
_P_IN_HAND = 0.1  # of episodes that start with the object in the hand
_P_IN_TARGET = 0.1  # of episodes that start with the object at the target
_AT_TARGET = 0.03  # metres between object and target
_HELD = 0.04  # metres between the middle of the hand and what it holds
_NEAR = 0.12  # metres between the middle of the hand and what is within its reach
_MOVING = 0.2  # metres a second of an object that flies, falls or rolls
_ARM = ("arm_root", "arm_shoulder", "arm_elbow", "arm_wrist", "finger", "fingertip", "thumb", "thumbtip")


class PlanarArm(Task):
    """What manipulator and stacker share: the arm, where it starts, and what is observed of it.

    Everything lies in one plane. Of a peg that just touches the slot's boxes mujoco_warp may find the contact a step
    later than MuJoCo.
    """

    time_limit = 10.0
    control_timestep = 0.01
    reset_rounds: ClassVar[int] = 80
    """Rounds in which a start without contact is looked for; at worst one in six succeeds."""

    def __init__(self) -> None:
        super().__init__()
        model = self.model
        self._arm, self._arm_dofs = joint_addresses(model, _ARM)
        joints = [model.joint(name) for name in _ARM]
        ranges = [joint.range if joint.limited[0] else (-math.pi, math.pi) for joint in joints]
        self._arm_low, self._arm_high = torch.tensor([tuple(map(float, r)) for r in ranges]).unbind(-1)
        self._hand = model.body("hand").id
        self._grasp = model.site("grasp").id
        self._touch = sensor_columns(model, "touch")

    def random_arm(self, generator: WorldGenerator) -> torch.Tensor:
        """Random arms, (B, 8), in the order of `_ARM`: within its limits, finger and thumb alike."""
        angles = uniform(self._arm_low, self._arm_high, generator)
        angles[:, _ARM.index("finger")] = angles[:, _ARM.index("thumb")]
        return angles

    def arm_observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        """What the arm itself can feel, and where its hand is."""
        angles = pick(sim.qpos, self._arm)  # (B, 8)
        return {
            "arm_pos": torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1),
            "arm_vel": pick(sim.qvel, self._arm_dofs),
            "touch": sim.data("sensordata")[:, self._touch].log1p(),
            "hand_pos": self.pose(sim, [self._hand]),
        }

    def pose(self, sim: WarpSim, bodies: list[int]) -> torch.Tensor:
        """Place and turn in the plane of `bodies`, (B, 4 * bodies): x, z and two components of the quaternion."""
        place, turn = pick(sim.data("xpos"), bodies), pick(sim.data("xquat"), bodies)  # (B, bodies, 3), (B, bodies, 4)
        return torch.cat([place[..., ::2], turn[..., ::2]], dim=-1).flatten(1)

    def distance(self, sim: WarpSim, site: int, other: int) -> torch.Tensor:
        """Metres between two sites, (B,)."""
        sites = sim.data("site_xpos")
        return (sites[:, site] - sites[:, other]).norm(dim=-1)


class Manipulator(PlanarArm):
    """Reward while the object is within a centimetre of the target; for the peg its tip too, and less for a good grip.

    The target and the receptacle are mocap bodies here, which each world holds in its own place.

    Args:
        peg: bring a peg, not a ball.
        insert: put it into a receptacle, in which the target then is.
    """

    xml = "manipulator.xml"
    behaviours = (
        "a manipulator arm with the object at the target",
        "a manipulator arm holding the object in its hand",
        "a manipulator arm while the object flies or falls near its hand",
        "a manipulator arm while the object flies or falls away from it",
        "a manipulator arm with its hand next to the object",
        "a manipulator arm with its hand away from the object",
    )

    def __init__(self, peg: bool, insert: bool):
        self._peg = peg
        self._insert = insert
        super().__init__()
        model, name = self.model, self._name
        self._object, self._target = model.body(name).id, model.body(f"target_{name}").id
        self._moved = [int(model.body(body).mocapid[0]) for body in self._placed]
        self._joints, self._dofs = joint_addresses(model, tuple(f"{name}_{axis}" for axis in "xzy"))
        pairs = [("peg", "target_peg"), ("peg_tip", "target_peg_tip"), ("peg_grasp", "grasp"), ("peg_pinch", "pinch")]
        names = pairs if peg else [("ball", "target_ball")]
        self._pairs = [(model.site(one).id, model.site(other).id) for one, other in names]  # that shall come together
        self._handle = model.site("peg_grasp" if peg else "ball").id
        # Of the arm's four links, the shoulder's height and their lengths up to the middle of the hand.
        lengths = [model.body(body).pos[2] for body in ("upper_arm", "middle_arm", "lower_arm", "hand")]
        self._shoulder, *self._lengths = [float(x) for x in (*lengths, model.site("grasp").pos[2])]

    @property
    def _name(self) -> str:
        return "peg" if self._peg else "ball"

    @property
    def _placed(self) -> list[str]:
        """Bodies that an episode places where the target is."""
        receptacle = "slot" if self._peg else "cup"
        return [f"target_{self._name}", *([receptacle] if self._insert else [])]

    def edit(self, spec: mujoco.MjSpec) -> None:
        for name in {"ball", "target_ball", "cup", "peg", "target_peg", "slot"} - {self._name, *self._placed}:
            spec.delete(spec.body(name))
        for name in self._placed:
            spec.body(name).mocap = True

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        until_free(sim, mask, lambda worlds: self._place(sim, worlds, generator), self.reset_rounds)

    def _place(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        arm = self.random_arm(generator)
        turn = math.pi / 3 if self._insert else math.pi
        low, high = torch.tensor([-0.4, 0.1, -turn]), torch.tensor([0.4, 0.4, turn])
        target = uniform(low, high, generator)  # (B, 3): x, z, angle
        low, high = torch.tensor([-0.5, 0.0, 0.0, -5.0]), torch.tensor([0.5, 0.7, 2 * math.pi, 5.0])
        free = uniform(low, high, generator)  # (B, 4): x, z, angle, speed along x
        kind = generator.uniform(1)
        place = torch.where(kind < _P_IN_HAND + _P_IN_TARGET, target, free[:, :3])
        place = torch.where(kind < _P_IN_HAND, self.in_hand(arm), place)

        qpos = torch.empty(sim.num_worlds, self.model.nq)
        qpos[:, self._arm + self._joints] = torch.cat([arm, place], dim=-1)  # all joints there are
        write(sim.qpos, mask, qpos)
        flying = (kind[:, 0] >= _P_IN_HAND + _P_IN_TARGET).to(sim.device)
        write(sim.qvel[:, self._dofs[0]], mask & flying, free[:, 3])  # others keep an earlier draw's, as in dm_control
        x, z, angle = target.unbind(-1)
        zero = torch.zeros_like(angle)
        for body in self._moved:
            write(sim.data("mocap_pos")[:, body, ::2], mask, torch.stack([x, z], dim=-1))
            quaternion = torch.stack([(angle / 2).cos(), zero, (angle / 2).sin(), zero], dim=-1)
            write(sim.data("mocap_quat")[:, body], mask, quaternion)

    def in_hand(self, arm: torch.Tensor) -> torch.Tensor:
        """Where the object is, (B, 3): x, z, angle, when the hand of `arm` (B, 8) holds it."""
        angles = arm[:, :4].cumsum(-1)  # of the links, from upright
        lengths = torch.tensor(self._lengths)
        x, z = -(lengths * angles.sin()).sum(-1), self._shoulder + (lengths * angles.cos()).sum(-1)
        hand = angles[:, 3]
        return torch.stack([x, z, math.pi - torch.atan2(hand.sin(), hand.cos())], dim=-1)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return self.arm_observation(sim) | {
            "object_pos": self.pose(sim, [self._object]),
            "object_vel": pick(sim.qvel, self._dofs),
            "target_pos": self.pose(sim, [self._target]),
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        close = [tolerance(self.distance(sim, *pair), (0, _CLOSE), margin=2 * _CLOSE) for pair in self._pairs]
        if not self._peg:
            return close[0]
        bring, bring_tip, grasp, pinch = close
        return torch.maximum((bring + bring_tip) / 2, (grasp + pinch) / 6)

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        hand = self.distance(sim, self._grasp, self._handle)
        moving = sim.qvel[:, self._dofs[0]].hypot(sim.qvel[:, self._dofs[1]]) > _MOVING
        return first_that_holds(
            self.distance(sim, *self._pairs[0]) < _AT_TARGET,
            hand < _HELD,
            moving & (hand < 2 * _NEAR),
            moving,
            hand < _NEAR,
        )


def joint_addresses(model: mujoco.MjModel, names: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Columns of `qpos` and of `qvel` that the hinges and slides called `names` have."""
    joints = [model.joint(name) for name in names]
    return [int(joint.qposadr[0]) for joint in joints], [int(joint.dofadr[0]) for joint in joints]
