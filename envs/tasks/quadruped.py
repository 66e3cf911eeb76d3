"""Quadruped: a four-legged robot that walks, runs, climbs out of a bowl or fetches a ball."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math
from typing import ClassVar

import mujoco
import numpy as np
import torch
from scipy import ndimage

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import (
    Task,
    first_that_holds,
    in_contact,
    seen_from,
    sensor_columns,
    show_site,
    uniform,
    until_free,
    write,
)
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_TOES = ("toe_front_left", "toe_back_left", "toe_back_right", "toe_front_right")
_WALLS = ("wall_px", "wall_py", "wall_nx", "wall_ny")
_RISE = 0.01  # metres by which a pose in contact is lifted until it is free
_ROUNDING = 1e-5  # metres by which a computed height may be off: upright it is a whole number of centimetres
_TERRAINS = 16  # height fields among which the worlds choose
_BUMP_SCALE = 2.0  # metres between the bumps of a terrain
_SMOOTHNESS = 0.15  # of a terrain: 0 is bumpy, 1 smooth
_RUNNING = 2.0  # metres a second from which it is called running
_MOVING = 0.3  # metres a second from which it is called walking
_SINKING = -0.8  # metres a second, upwards
_OVERTURNED = -0.3  # height that the torso's upper side points to; 1 is upright, -1 upside down
_TILTED = 0.7


class Quadruped(Task):
    """What the domain's tasks share."""

    xml = "quadruped.xml"
    time_limit = 20.0
    control_timestep = 0.02
    behaviours = (
        "a quadruped lying on its back",
        "a quadruped falling",
        "a quadruped tipped onto its side",
        "a quadruped running forward",
        "a quadruped walking forward",
        "a quadruped stepping sideways or backward",
        "a quadruped standing in its place",
    )
    floor_size: ClassVar[float | None] = None
    """Half the floor's edge, in metres; None for that of the XML. Only what is drawn depends on it."""
    upright_angle: ClassVar[float] = 0.0
    """Degrees from upright within which the torso is upright enough."""
    extra: ClassVar[frozenset[str]] = frozenset()
    """Which of the XML's extras stay: terrain and rangefinders, or walls, ball and target."""

    def __init__(self) -> None:
        super().__init__()
        model = self.model
        self._torso, self._workspace = model.body("torso").id, model.site("workspace").id
        self._hinges = slice(7, 7 + int((model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE).sum()))  # of qpos
        self._hinge_dofs = slice(self._hinges.start - 1, self._hinges.stop - 1)
        self._velocity = sensor_columns(model, "velocimeter")
        self._imu = sensor_columns(model, "gyro", "accelerometer")
        self._forces = sensor_columns(model, "force", "torque")
        own = model.body_rootid[model.geom_bodyid] == self._torso
        self._solid = np.flatnonzero(own & (model.geom_contype > 0)).tolist()

    def edit(self, spec: mujoco.MjSpec) -> None:
        if self.floor_size is not None:
            spec.geom("floor").size = [self.floor_size, self.floor_size, 0.5]
        if "ball" not in self.extra:
            for element in (*map(spec.geom, _WALLS), spec.body("ball"), spec.site("target")):
                spec.delete(element)
        if "terrain" not in self.extra:
            spec.delete(spec.geom("terrain"))
            for sensor in [s for s in spec.sensors if s.type == mujoco.mjtSensor.mjSENS_RANGEFINDER]:
                spec.delete(sensor)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        sensors = sim.data("sensordata")
        hinges, velocities = sim.qpos[:, self._hinges], sim.qvel[:, self._hinge_dofs]
        return {
            "egocentric_state": torch.cat([hinges, velocities, sim.data("act")], dim=-1),
            "torso_velocity": sensors[:, self._velocity],
            "torso_upright": self._up(sim)[:, None],
            "imu": sensors[:, self._imu],
            "force_torque": sensors[:, self._forces].asinh(),
        }

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        up, velocity = self._up(sim), sim.data("sensordata")[:, self._velocity]  # (B,), (B, 3) in the torso's axes
        forward, speed = velocity[:, 0], velocity[:, :2].norm(dim=-1)
        return first_that_holds(
            up < _OVERTURNED,
            sim.qvel[:, 2] < _SINKING,
            up < _TILTED,
            forward > _RUNNING,
            (forward > _MOVING) & (forward > 0.7 * speed),
            speed > _MOVING,
        )

    def upright_reward(self, sim: WarpSim) -> torch.Tensor:
        """1 with an upright torso, falling linearly to 0 upside down, (B,)."""
        enough = math.cos(math.radians(self.upright_angle))
        return tolerance(self._up(sim), (enough, math.inf), margin=1 + enough, value_at_margin=0, sigmoid="linear")

    def put_down(self, sim: WarpSim, mask: torch.Tensor, x_y: torch.Tensor, quaternion: torch.Tensor) -> None:
        """Places the worlds of `mask` at `x_y` (B, 2), turned by `quaternion` (B, 4), right above the floor.

        Right above in whole centimetres: dm_control lifts the robot by one at a time until it touches nothing.
        """
        high_up = torch.full((sim.num_worlds, 1), 2.0)  # metres; from there its lowest point is read off
        write(sim.qpos[:, :7], mask, torch.cat([x_y, high_up, quaternion], dim=-1))
        sim.forward()
        below = high_up[0, 0].item() - self._lowest(sim)
        write(sim.qpos[:, 2], mask, ((below - _ROUNDING) / _RISE).ceil() * _RISE + _ROUNDING)
        sim.forward()

    def _lowest(self, sim: WarpSim) -> torch.Tensor:
        """Height of the robot's lowest point, (B,)."""
        heights = []
        for geom in self._solid:
            size: list[float] = self.model.geom_size[geom].tolist()
            axes = sim.data("geom_xmat")[:, geom, 2]  # (B, 3): how far up each of its axes points
            match mujoco.mjtGeom(self.model.geom_type[geom]):
                case mujoco.mjtGeom.mjGEOM_SPHERE:
                    below = torch.full_like(axes[:, 2], size[0])
                case mujoco.mjtGeom.mjGEOM_CAPSULE:
                    below = size[0] + size[1] * axes[:, 2].abs()
                case mujoco.mjtGeom.mjGEOM_CYLINDER:
                    below = size[0] * axes[:, :2].norm(dim=-1) + size[1] * axes[:, 2].abs()
                case _:  # an ellipsoid
                    below = torch.stack([size[i] * axes[:, i] for i in range(3)]).norm(dim=0)
            heights.append(sim.data("geom_xpos")[:, geom, 2] - below)
        return torch.stack(heights).amin(0)

    def _up(self, sim: WarpSim) -> torch.Tensor:
        return sim.data("xmat")[:, self._torso, 2, 2]  # (B,)

    def _from_torso(self, sim: WarpSim, *vectors: torch.Tensor) -> torch.Tensor:
        """World vectors (B, 3) in the torso's axes, one after the other: (B, 3 * vectors)."""
        return seen_from(sim.data("xmat")[:, self._torso], torch.stack(vectors, dim=1)).flatten(1)


class QuadrupedMove(Quadruped):
    """Reward for an upright torso that moves forward.

    Args:
        speed: speed to reach, in metres a second.
    """

    def __init__(self, speed: float):
        self._speed = speed
        self.floor_size = self.time_limit * speed
        super().__init__()

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        self.put_down(sim, mask, torch.zeros(sim.num_worlds, 2), any_turn(generator))

    def reward(self, sim: WarpSim) -> torch.Tensor:
        forward, goal = sim.data("sensordata")[:, self._velocity.start], self._speed
        move = tolerance(forward, (goal, math.inf), margin=goal, value_at_margin=0.5, sigmoid="linear")
        return self.upright_reward(sim) * move


class QuadrupedEscape(Quadruped):
    """Reward for getting away from the middle of a bowl full of bumps.

    dm_control draws the bumps anew for each episode. mujoco_warp shares height fields among all worlds, but
    lets each world choose one: sixteen are drawn here, the same ones always, and a world chooses anew at
    every reset.
    """

    floor_size = 40.0
    upright_angle = 20.0
    extra = frozenset({"terrain"})
    per_world = ("geom_dataid",)

    def __init__(self) -> None:
        super().__init__()
        self._terrain = self.model.geom("terrain").id
        self._size = float(self.model.hfield_size[0, 0])
        self._ranges = sensor_columns(self.model, "rangefinder")
        rng = np.random.default_rng(0)
        heights = [draw_terrain(self.model.hfield_nrow[0], 2 * self._size, rng) for _ in range(_TERRAINS)]
        self.model.hfield_data[:] = np.stack(heights).ravel()

    def edit(self, spec: mujoco.MjSpec) -> None:
        super().edit(spec)
        first = spec.hfields[0]
        # mujoco_warp draws only height fields that a geom has from the start: these others have one that none sees.
        unseen = spec.worldbody.add_body(name="terrains")
        for i in range(1, _TERRAINS):
            field = spec.add_hfield(name=f"terrain_{i}", nrow=first.nrow, ncol=first.ncol, size=first.size)
            field.userdata = np.zeros(first.nrow * first.ncol)
            geom = unseen.add_geom(type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname=f"terrain_{i}", rgba=[0, 0, 0, 0])
            geom.contype = geom.conaffinity = 0

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        terrain = generator.integers(_TERRAINS)
        write(sim.model("geom_dataid")[:, self._terrain], mask, terrain)
        quaternion = any_turn(generator)
        self.put_down(sim, mask, torch.zeros(sim.num_worlds, 2), quaternion)
        # The floor is flat; the terrain in the middle of the bowl rises less than 10 centimetres above it.
        lift = lambda worlds: write(sim.qpos[:, 2], worlds & in_contact(sim), sim.qpos[:, 2] + _RISE)
        until_free(sim, mask, lift, rounds=12)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        ranges = sim.data("sensordata")[:, self._ranges]
        return super().observation(sim) | {
            "origin": self._from_torso(sim, -sim.data("xpos")[:, self._torso]),
            "rangefinder": torch.where(ranges == -1.0, 1.0, ranges.tanh()),  # -1 is nothing hit
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        away = sim.data("site_xpos")[:, self._workspace].norm(dim=-1)
        escape = tolerance(away, (self._size, math.inf), margin=self._size, value_at_margin=0, sigmoid="linear")
        return self.upright_reward(sim) * escape


class QuadrupedFetch(Quadruped):
    """Reward for being near a ball, and more for bringing it to the middle."""

    extra = frozenset({"ball"})

    def __init__(self) -> None:
        super().__init__()
        model = self.model
        self._ball, self._target = model.body("ball").id, model.site("target").id
        ball = model.joint("ball_root")
        self._ball_place, self._ball_turn = int(ball.qposadr[0]), int(ball.dofadr[0])
        floor = float(model.geom("floor").size[0])
        self._arena, self._spawn = floor * math.sqrt(2), 0.9 * floor
        self._reach = float(model.site_size[self._workspace, 0] + model.geom("ball").size[0])
        self._target_size = float(model.site_size[self._target, 0])

    def edit(self, spec: mujoco.MjSpec) -> None:
        super().edit(spec)
        show_site(spec, "target")

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        spawn = torch.tensor([self._spawn] * 4)
        places, azimuth = uniform(-spawn, spawn, generator).unbind(-1), 2 * math.pi * generator.uniform()
        zero = torch.zeros_like(azimuth)
        quaternion = torch.stack([(azimuth / 2).cos(), zero, zero, (azimuth / 2).sin()], dim=-1)
        self.put_down(sim, mask, torch.stack(places[:2], dim=-1), quaternion)
        ball = torch.stack([*places[2:], torch.full_like(zero, 2.0)], dim=-1)
        write(sim.qpos[:, self._ball_place : self._ball_place + 3], mask, ball)
        speed = 5 * generator.normal(2)
        write(sim.qvel[:, self._ball_turn : self._ball_turn + 2], mask, speed)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        xpos, ball = sim.data("xpos"), self._ball_turn
        torso = xpos[:, self._torso]
        velocity, turning = sim.qvel[:, ball : ball + 3] - sim.qvel[:, :3], sim.qvel[:, ball + 3 : ball + 6]
        return super().observation(sim) | {
            "ball_state": self._from_torso(sim, xpos[:, self._ball] - torso, velocity, turning),
            "target_position": self._from_torso(sim, sim.data("site_xpos")[:, self._target] - torso),
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        sites, ball = sim.data("site_xpos")[..., :2], sim.data("xpos")[:, self._ball, :2]
        near = lambda site, size: tolerance(
            (sites[:, site] - ball).norm(dim=-1), (0, size), margin=self._arena, value_at_margin=0, sigmoid="linear"
        )
        fetch = near(self._target, self._target_size)
        return self.upright_reward(sim) * near(self._workspace, self._reach) * (1 + fetch) / 2


def any_turn(generator: WorldGenerator) -> torch.Tensor:
    """Rotations, each as likely as any other, as quaternions (B, 4)."""
    return torch.nn.functional.normalize(generator.normal(4), dim=-1)


def draw_terrain(resolution: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """A bowl with random smooth bumps, `size` metres wide: heights (resolution, resolution), mostly from 0 to 1."""
    side = np.linspace(-1, 1, resolution)
    radius = np.hypot(side[:, None], side).clip(0.04, 1)
    bumps = rng.uniform(_SMOOTHNESS, 1, (round(size / _BUMP_SCALE),) * 2)
    smooth = np.asarray(ndimage.zoom(bumps, resolution / len(bumps)))
    return (1 - np.cos(2 * np.pi * radius)) / 2 * smooth
