"""Finger: turn a free spinner with a finger, fast or to a target."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import (
    Task,
    first_that_holds,
    in_contact,
    place_geom,
    random_joints,
    sensor_columns,
    show_site,
    until_free,
    write,
)
from mindreel.envs.warp.simulation import WarpSim

_SPIN_SPEED = 15.0  # radians a second
_SPIN_DAMPING = 0.03  # of the spinner's hinge, N m s; 0.5 where it is to be turned to a target
_FAST = 5.0  # radians a second from which it is called spinning fast
_ROUNDS = 8  # draws of an initial pose, of which one in twelve is in contact
_MOVING = 0.3  # radians a second of joints that move


class FingerSpin(Task):
    """Reward while the spinner turns fast, in one direction."""

    xml = "finger.xml"
    time_limit = 20.0
    control_timestep = 0.02
    behaviours = (
        "the spinner's tip is in the target",
        "the spinner is spinning fast",
        "the finger is pushing the spinner round",
        "the finger is resting against the spinner",
        "the spinner is coasting slowly",
        "the finger is moving clear of the spinner",
        "the finger is resting clear of the spinner",
    )

    def __init__(self) -> None:
        super().__init__()
        self._joints, self._speeds, self._touch = (
            sensor_columns(self.model, kind) for kind in ("jointpos", "jointvel", "touch")
        )
        first = {name: self.model.sensor(name).adr[0] for name in ("tip", "target", "spinner")}
        self._places = {name: slice(place, place + 3, 2) for name, place in first.items()}  # x and z
        self._hinge_speed = self.model.sensor("hinge_velocity").adr[0]

    def edit(self, spec: mujoco.MjSpec) -> None:
        spec.joint("hinge").damping[0] = _SPIN_DAMPING

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        def draw(mask: torch.Tensor) -> None:
            write(sim.qpos, mask, random_joints(self.model, generator))

        until_free(sim, mask, draw, _ROUNDS)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        sensors = sim.data("sensordata")
        return {
            "position": torch.cat([sensors[:, self._joints], self._from_hinge(sim, "tip")], dim=-1),
            "velocity": sensors[:, self._speeds],
            "touch": sensors[:, self._touch].log1p(),
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return (sim.data("sensordata")[:, self._hinge_speed] <= -_SPIN_SPEED).float()

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        speed = sim.data("sensordata")[:, self._speeds].abs()  # (B, 3)
        turning, touching = speed[:, 2] > _MOVING, in_contact(sim)
        return first_that_holds(
            self._at_target(sim),
            speed[:, 2] > _FAST,
            touching & turning,
            touching,
            turning,
            speed[:, :2].amax(-1) > _MOVING,
        )

    def _at_target(self, sim: WarpSim) -> torch.Tensor:
        return torch.zeros(sim.num_worlds, dtype=torch.bool, device=sim.device)

    def _from_hinge(self, sim: WarpSim, place: str) -> torch.Tensor:
        """Where a place lies in the plane, seen from the spinner's hinge, (B, 2): x and z."""
        sensors = sim.data("sensordata")
        return sensors[:, self._places[place]] - sensors[:, self._places["spinner"]]


class FingerTurn(FingerSpin):
    """Reward while the spinner's tip lies in a target, which is elsewhere in every episode.

    Args:
        target_size: radius of the target, in metres.
    """

    per_world = ("site_pos",)

    def __init__(self, target_size: float):
        self._target_size = target_size
        super().__init__()
        self._target, self._target_geom = self.model.site("target").id, self.model.geom("target").id
        self._hinge = [float(x) for x in self.model.body("spinner").pos[::2]]
        self._radius = float(self.model.geom("cap1").size.sum())  # of the circle that targets lie on

    def edit(self, spec: mujoco.MjSpec) -> None:
        spec.site("target").size[0] = self._target_size
        show_site(spec, "target")
        show_site(spec, "tip")

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        angle = math.pi * (2 * generator.uniform() - 1)
        target = torch.tensor(self._hinge) + self._radius * torch.stack([angle.sin(), angle.cos()], dim=-1)  # (B, 2)
        write(sim.model("site_pos")[:, self._target, ::2], mask, target)
        place_geom(sim, mask, self._target_geom, target, slice(None, None, 2))
        super().reset(sim, mask, generator)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        target = {"target_position": self._from_hinge(sim, "target"), "dist_to_target": self._distance(sim)[:, None]}
        return super().observation(sim) | target

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return self._at_target(sim).float()

    def _at_target(self, sim: WarpSim) -> torch.Tensor:
        return self._distance(sim) <= 0

    def _distance(self, sim: WarpSim) -> torch.Tensor:
        """From the spinner's tip to the target's surface, negative inside, (B,)."""
        return (self._from_hinge(sim, "target") - self._from_hinge(sim, "tip")).norm(dim=-1) - self._target_size
