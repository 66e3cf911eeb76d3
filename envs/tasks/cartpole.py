"""Cartpole: keep a pole, or several hinged end to end, upright on a cart, or swing it up first."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_UPRIGHT = math.cos(math.radians(25))  # height of a pole's end over its start, pole lengths
_STILL = 1.0  # radians a second of a pole that is held or at rest


class Cartpole(Task):
    """Reward for upright, still poles over the middle of the rail, with little force.

    Args:
        swing_up: start with the poles hanging, nearly in line, instead of nearly upright.
        sparse: reward only while the poles stand upright near the middle.
        num_poles: poles, each hinged to the end of the one before.
    """

    xml = "cartpole.xml"
    time_limit = 10.0
    behaviours = (
        "a cart balancing its pole upright",
        "a cart with its pole hanging down at rest",
        "a cart swinging its pole up",
        "a cart with its pole tipping over and falling",
        "a cart with its pole swinging down",
    )

    def __init__(self, swing_up: bool, sparse: bool, num_poles: int = 1):
        self.swing_up = swing_up
        self.sparse = sparse
        self.num_poles = num_poles
        super().__init__()
        first = self.model.body("pole_1").id
        self._poles = slice(first, first + num_poles)

    def edit(self, spec: mujoco.MjSpec) -> None:
        if self.num_poles == 1:
            return
        body, pole = spec.body("pole_1"), spec.find_default("pole")
        for i in range(2, self.num_poles + 1):
            body = body.add_body(name=f"pole_{i}", pos=[0, 0, 1])
            body.add_joint(pole, name=f"hinge_{i}")
            body.add_geom(pole, name=f"pole_{i}")
        spec.geom("floor").pos = [0, 0, 0.95 - self.num_poles]
        spec.camera("fixed").pos = [0, -1 - 2 * self.num_poles, 1]
        spec.camera("lookatcart").pos = [0, -2 * self.num_poles, 2]

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        joints = 1 + self.num_poles
        noise = generator.normal(joints)
        spread = 2 * generator.uniform(joints) - 1
        others = self.num_poles - 1
        if self.swing_up:
            qpos = torch.tensor([0.0, math.pi] + others * [0.0]) + torch.tensor([0.01, 0.01] + others * [0.1]) * noise
        else:
            qpos = torch.tensor([0.1] + self.num_poles * [0.034]) * spread
        write(sim.qpos, mask, qpos)
        write(sim.qvel, mask, 0.01 * generator.normal(joints))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        axes = sim.data("xmat")[:, self._poles, :, 2]  # (B, poles, 3): along each pole
        angles = torch.stack([axes[..., 2], axes[..., 0]], dim=-1).flatten(1)  # (B, 2 * poles)
        position = torch.cat([sim.qpos[:, :1], angles], dim=-1)
        return {"position": position, "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        cart, cosine = sim.qpos[:, 0], sim.data("xmat")[:, self._poles, 2, 2]  # (B,), (B, poles)
        if self.sparse:
            return tolerance(cart, (-0.25, 0.25)) * tolerance(cosine, (0.995, 1.0)).prod(-1)
        upright = (cosine.mean(-1) + 1) / 2
        centered = (1 + tolerance(cart, margin=2)) / 2
        small_control = tolerance(sim.ctrl[:, 0], margin=1, value_at_margin=0, sigmoid="quadratic")
        small_velocity = (1 + tolerance(sim.qvel[:, 1:], margin=5).amin(-1)) / 2
        return upright * (4 + small_control) / 5 * small_velocity * centered

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        axes, speed = sim.data("xmat")[:, self._poles, :, 2], sim.qvel[:, 1:].cumsum(-1)  # each pole's own turning
        cosine, rising = axes[..., 2], -(axes[..., 0] * speed).sum(-1)  # of each pole, and how fast the tip rises
        still = speed.abs() < _STILL
        return first_that_holds(
            (still & (cosine > _UPRIGHT)).all(-1),
            (still & (cosine < -_UPRIGHT)).all(-1),
            rising > 0,
            cosine.sum(-1) > 0,
        )
