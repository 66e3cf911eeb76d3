"""Dog: a body of 38 muscle-driven actuators that stands, walks, trots, runs or fetches a ball."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, pick, seen_from, sensor_columns, uniform, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_UPRIGHT = math.cos(math.radians(30))  # height of a body's upper side that is upright enough; 1 is upright
_STANDING = 0.9  # of the default pose's height, which is high enough
_RUNNING = 3.0  # metres a second from which it is called running
_MOVING = 0.4  # metres a second from which it is called walking
_SINKING = -0.5  # metres a second, upwards
_OVERTURNED = -0.3  # height that the torso's upper side points to
_ON_FEET = 0.7  # of the default pose's height


class Dog(Task):
    """Reward for high, upright head, torso and pelvis with all weight on the paws, times one for speed.

    mujoco_warp draws no skins, so the shapes that collide are drawn in its place.

    Args:
        speed: forward speed to reach, in metres a second; 0 rewards standing alone.
    """

    xml = "dog.xml"
    time_limit = 15.0
    control_timestep = 0.015
    max_constraints = 640  # of random torques and worse it needs 327, most of them contacts of the body with itself
    behaviours = (
        "a dog lying on its back",
        "a dog falling",
        "a dog running forward",
        "a dog walking forward",
        "a dog stepping sideways or backward",
        "a dog standing",
        "a dog lying on its side",
        "a dog crouching low",
    )

    def __init__(self, speed: float):
        self._speed = speed
        super().__init__()
        model = self.model
        self._torso = model.body("torso").id
        self._upright_bodies = [model.body(name).id for name in ("skull", "torso", "pelvis")]
        self._high_bodies = [model.body(name).id for name in ("torso", "pelvis")]
        self._hinges = slice(7, 7 + int((model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE).sum()))  # of qpos
        self._hinge_dofs = slice(self._hinges.start - 1, self._hinges.stop - 1)
        self._velocity = sensor_columns(model, "subtreelinvel")
        self._inertial = sensor_columns(model, "accelerometer", "velocimeter", "gyro")
        self._forces, self._touch = sensor_columns(model, "force"), sensor_columns(model, "touch")
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        self._heights = [_STANDING * float(z) for z in data.xpos[self._high_bodies, 2]]
        self._weight = float(-model.opt.gravity[2] * model.body_subtreemass[self._torso])
        self._act_low, self._act_high = torch.as_tensor(model.actuator_ctrlrange, dtype=torch.float32).unbind(-1)

    def edit(self, spec: mujoco.MjSpec) -> None:
        size = self.time_limit * max(1.0, self._speed)
        spec.geom("floor").size = [size, size, 0.1]
        self.remove_ball(spec)
        for geom in spec.geoms:
            if geom.group == 3:  # what collides, and is not drawn
                geom.group = 0

    def remove_ball(self, spec: mujoco.MjSpec) -> None:
        """Removes what only `DogFetch` needs."""
        walls = [spec.geom(f"wall_{side}") for side in ("px", "nx", "py", "ny")]
        cameras = [camera for camera in spec.cameras if camera.name in ("ball", "head")]
        for element in (*walls, *cameras, spec.geom("target"), spec.body("ball")):
            spec.delete(element)

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        self._place(sim, mask, generator)
        sim.sense(mask)

    def _place(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        azimuth = 2 * math.pi * generator.uniform()
        zero = torch.zeros_like(azimuth)
        turn = torch.stack([(azimuth / 2).cos(), zero, zero, (azimuth / 2).sin()], dim=-1)
        write(sim.qpos[:, 3:7], mask, turn)
        for column, speed in zip((0, 1, 5), (2 * generator.normal(3)).unbind(-1), strict=True):
            write(sim.qvel[:, column], mask, speed)  # along the floor, and turning on it
        write(sim.data("act"), mask, uniform(self._act_low, self._act_high, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        sensors = sim.data("sensordata")
        return {
            "joint_angles": sim.qpos[:, self._hinges],
            "joint_velocites": sim.qvel[:, self._hinge_dofs],  # so spelt in dm_control
            "torso_pelvis_height": pick(sim.data("xpos"), self._high_bodies)[..., 2],
            "z_projection": pick(sim.data("xmat"), self._upright_bodies)[:, :, 2].flatten(1),
            "torso_com_velocity": self._torso_velocity(sim),
            "inertial_sensors": sensors[:, self._inertial],
            "foot_forces": sensors[:, self._forces],
            "touch_sensors": sensors[:, self._touch],
            "actuator_state": sim.data("act"),
        }

    def reward(self, sim: WarpSim) -> torch.Tensor:
        stand = self.standing(sim)
        if self._speed == 0:
            return stand
        forward, goal = self._torso_velocity(sim)[:, 0], self._speed
        margin = max(1.0, goal)
        move = tolerance(forward, (goal, 2 * goal), margin=margin, value_at_margin=0, sigmoid="linear")
        return stand * (4 * move + 1) / 5

    def standing(self, sim: WarpSim) -> torch.Tensor:
        """Reward for standing alone, (B,)."""
        heights, weight = pick(sim.data("xpos"), self._high_bodies)[..., 2], self._weight  # (B, 2)
        up = pick(sim.data("xmat"), self._upright_bodies)[:, :, 2, 2]  # (B, 3)
        touch = sim.data("sensordata")[:, self._touch].sum(-1)
        high = [tolerance(heights[:, i], (goal, math.inf), margin=goal) for i, goal in enumerate(self._heights)]
        upright = tolerance(up, (_UPRIGHT, math.inf), margin=1 + _UPRIGHT, value_at_margin=0, sigmoid="linear").prod(-1)
        loaded = tolerance(touch, (weight, math.inf), margin=weight, value_at_margin=0.9, sigmoid="linear")
        return high[0] * high[1] * upright * loaded

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        height, up = sim.data("xpos")[:, self._torso, 2], sim.data("xmat")[:, self._torso, 2, 2]
        velocity, rising = self._torso_velocity(sim), sim.data("sensordata")[:, self._velocity][:, 2]
        forward, speed = velocity[:, 0], velocity[:, :2].norm(dim=-1)
        on_feet = (height > _ON_FEET * self._heights[0]) & (up > 0.7)
        return first_that_holds(
            up < _OVERTURNED,
            rising < _SINKING,
            on_feet & (forward > _RUNNING),
            on_feet & (forward > _MOVING) & (forward > 0.7 * speed),
            on_feet & (speed > _MOVING),
            on_feet,
            up < 0.5,
        )

    def _torso_velocity(self, sim: WarpSim) -> torch.Tensor:
        velocity = sim.data("sensordata")[:, None, self._velocity]
        return seen_from(sim.data("xmat")[:, self._torso], velocity)[:, 0]  # (B, 3), of the centre of mass


class DogFetch(Dog):
    """Reward for standing, with the mouth near a thrown ball, and for bringing the ball to the target."""

    def __init__(self) -> None:
        super().__init__(speed=0.0)
        model = self.model
        self._head, *self._bites = [model.site(name).id for name in ("head", "upper_bite", "lower_bite")]
        self._ball, self._target = model.geom("ball").id, model.geom("target").id
        ball = model.joint("ball_root")
        self._ball_place, self._ball_turn = int(ball.qposadr[0]), int(ball.dofadr[0])
        self._head_velocity = sensor_columns(model, "velocimeter")  # in the head's own axes
        self._bite_size = float(model.site("upper_bite").size[0])
        self._target_size, self._floor = (float(model.geom(name).size[0]) for name in ("target", "floor"))

    def edit(self, spec: mujoco.MjSpec) -> None:
        super().edit(spec)
        spec.geom("floor").size = [10.0, 10.0, 0.1]

    def remove_ball(self, spec: mujoco.MjSpec) -> None:
        pass

    def _place(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        super()._place(sim, mask, generator)
        azimuth, height, speed = (generator.uniform(3) * torch.tensor([2 * math.pi, 3.0, 5.0])).unbind(-1)
        out = torch.stack([azimuth.sin(), azimuth.cos()], dim=-1)  # (B, 2)
        place = torch.cat([0.75 * self._floor * out, torch.full_like(out[:, :1], 0.05)], dim=-1)
        write(sim.qpos[:, self._ball_place : self._ball_place + 3], mask, place)
        towards = speed[:, None] * (0.05 * generator.normal(2) - out)
        upwards = (-2 * self.model.opt.gravity[2] * height).sqrt()  # enough to rise that high
        velocity = torch.cat([towards, upwards[:, None]], dim=-1)
        write(sim.qvel[:, self._ball_turn : self._ball_turn + 3], mask, velocity)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        geoms, head = sim.data("geom_xpos"), sim.data("site_xpos")[:, self._head]
        ball_velocity = sim.qvel[:, self._ball_turn : self._ball_turn + 3]
        vectors = torch.stack([geoms[:, self._ball] - head, ball_velocity, geoms[:, self._target] - head], dim=1)
        ball, velocity, target = seen_from(sim.data("site_xmat")[:, self._head], vectors).unbind(1)
        velocity = velocity - sim.data("sensordata")[:, self._head_velocity]
        return super().observation(sim) | {"ball_state": torch.cat([ball, velocity], -1), "target_position": target}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        ball, sites = sim.data("geom_xpos")[:, self._ball], sim.data("site_xpos")
        to_mouth = (pick(sites, self._bites) - ball[:, None]).norm(dim=-1).mean(-1)
        to_target = (ball - sim.data("geom_xpos")[:, self._target]).norm(dim=-1)
        reach = (6 * tolerance(to_mouth, (0, self._bite_size), margin=2.0, sigmoid="reciprocal") + 1) / 7
        fetch = (tolerance(to_target, (0, self._target_size), margin=self._floor, sigmoid="reciprocal") + 1) / 2
        fetched = to_target < 2 * self._target_size  # then it may let go of the ball
        return self.standing(sim) * torch.where(fetched, 1.0, reach) * fetch
