"""Swimmer: a planar snake in a viscous fluid that brings its nose to a target."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import (
    Task,
    first_that_holds,
    place_geom,
    random_joints,
    seen_from,
    to_target_conditions,
    write,
)
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_NEAR, _FAR, _NEAR_SHARE = 0.3, 2.0, 0.2  # half widths of the squares that targets lie in, metres, and how often
_MOVING = 0.05  # metres a second of a nose that moves, or comes nearer
_BENDING = 0.5  # radians a second of joints that move


class Swimmer(Task):
    """Reward for a nose near the target, which lies elsewhere in every episode.

    A long chain of light links asks much of mujoco_warp's float32: after one control step of 15 links the velocities
    differ from dm_control's by 2e-4 of the fastest joint's in the median state and by 9e-4 in the worst of 128. With
    6 links it is 3e-6 and 2e-4.

    Args:
        links: number of the swimmer's links, each but the first with a motor.
    """

    xml = "swimmer.xml"
    time_limit = 30.0
    control_timestep = 0.03
    per_world = ("light_pos",)
    behaviours = (
        "a swimmer with its nose in the target",
        "a swimmer moving towards the target",
        "a swimmer moving away from the target",
        "a swimmer moving past the target",
        "a swimmer bending in its place",
        "a swimmer lying still",
    )

    def __init__(self, links: int):
        self._links = links
        super().__init__()
        model = self.model
        self._head, self._light = model.body("head").id, model.light("target_light").id
        self._nose, self._target = model.geom("nose").id, model.geom("target").id
        self._target_size = float(model.geom_size[self._target, 0])
        self._velocities = model.sensor("head_vel").adr[0]  # from here on, 6 a link

    def edit(self, spec: mujoco.MjSpec) -> None:
        body, limit = spec.body("head"), 360 / self._links
        classes = {name: spec.find_default(name) for name in ("swimmer", "visual", "inertial")}
        sensors = {"velocimeter": mujoco.mjtSensor.mjSENS_VELOCIMETER, "gyro": mujoco.mjtSensor.mjSENS_GYRO}
        for i in range(self._links - 1):
            body = body.add_body(name=f"segment_{i}", pos=[0, 0.1, 0])
            body.add_geom(classes["visual"], name=f"visual_{i}")
            body.add_geom(classes["inertial"], name=f"inertial_{i}")
            body.add_site(classes["swimmer"], name=f"site_{i}")
            body.add_joint(classes["swimmer"], name=f"joint_{i}", range=[-limit, limit])
            spec.add_actuator(name=f"motor_{i}", trntype=mujoco.mjtTrn.mjTRN_JOINT, target=f"joint_{i}")
            for name, kind in sensors.items():
                spec.add_sensor(name=f"{name}_{i}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=f"site_{i}")
        for camera in spec.cameras:
            if camera.mode == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM:
                camera.pos *= self._links / 6  # further away from a longer swimmer

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))
        near = generator.uniform(1) < _NEAR_SHARE
        spread = 2 * generator.uniform(2) - 1
        target = torch.where(near, _NEAR, _FAR) * spread  # (B, 2)
        place_geom(sim, mask, self._target, target, slice(2))
        write(sim.model("light_pos")[:, self._light, :2], mask, target)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        velocities = sim.data("sensordata")[:, self._velocities :].unflatten(-1, (self._links, 6))
        # Of each link's six velocities, those within the plane: along x and y, about z.
        return {
            "joints": sim.qpos[:, 3:],
            "to_target": self._to_target(sim),
            "body_velocities": torch.cat([velocities[..., :2], velocities[..., 5:]], dim=-1).flatten(1),
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        bounds, margin = (0.0, self._target_size), 5 * self._target_size
        return tolerance(self._to_target(sim).norm(dim=-1), bounds, margin, sigmoid="long_tail")

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        geoms = sim.data("geom_xpos")[..., :2]
        to_target, velocity = geoms[:, self._target] - geoms[:, self._nose], sim.qvel[:, :2]
        return first_that_holds(
            *to_target_conditions(to_target, velocity, self._target_size, _MOVING),
            sim.qvel[:, 2:].abs().amax(-1) > _BENDING,
        )

    def _to_target(self, sim: WarpSim) -> torch.Tensor:
        """From the nose to the target in the head's own axes x and y, (B, 2)."""
        geoms = sim.data("geom_xpos")
        offset = geoms[:, self._target] - geoms[:, self._nose]
        return seen_from(sim.data("xmat")[:, self._head], offset[:, None])[:, 0, :2]
