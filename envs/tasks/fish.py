"""Fish: turn upright, or swim to a target."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import mujoco
import torch
from torch.nn.functional import normalize

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, place_geom, seen_from, uniform, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_BENT = 0.2  # radians by which tail and fins may be bent at first
_UPRIGHT = 0.5  # height that the fish's upper side points to; 1 is upright, -1 belly up
_MOVING = 0.03  # metres a second from which it is called swimming
_TURNING = 0.5  # radians a second from which it is called turning


class FishUpright(Task):
    """Reward for an upright fish."""

    xml = "fish.xml"
    time_limit = 40.0
    control_timestep = 0.04
    behaviours = (
        "a fish with its mouth at the target",
        "a fish floating belly up",
        "a fish lying on its side",
        "a fish swimming forward",
        "a fish drifting backward",
        "a fish turning in its place",
        "a fish resting upright",
    )

    def __init__(self) -> None:
        super().__init__()
        self._torso = self.model.body("torso").id
        self._velocity, self._turning = (self.model.sensor(name).adr[0] for name in ("velocimeter", "gyro"))

    def edit(self, spec: mujoco.MjSpec) -> None:
        spec.geom("target").rgba[3] = 0  # this task has none

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        qpos = torch.as_tensor(self.model.qpos0, dtype=torch.float32).repeat(sim.num_worlds, 1)
        qpos[:, 3:7] = normalize(generator.normal(4), dim=-1)
        qpos[:, 7:] = _BENT * (2 * generator.uniform(self.model.nq - 7) - 1)
        write(sim.qpos, mask, qpos)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"joint_angles": sim.qpos[:, 7:], "upright": self._upright(sim)[:, None], "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return tolerance(self._upright(sim), (1.0, 1.0), margin=1)

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        upright, sensors = self._upright(sim), sim.data("sensordata")
        forward, turning = sensors[:, self._velocity + 1], sensors[:, self._turning : self._turning + 3]
        return first_that_holds(
            self._at_target(sim),
            upright < -_UPRIGHT,
            upright < _UPRIGHT,
            forward > _MOVING,
            forward < -_MOVING,
            turning.norm(dim=-1) > _TURNING,
        )

    def _upright(self, sim: WarpSim) -> torch.Tensor:
        return sim.data("xmat")[:, self._torso, 2, 2]  # (B,)

    def _at_target(self, sim: WarpSim) -> torch.Tensor:
        return torch.zeros(sim.num_worlds, dtype=torch.bool, device=sim.device)


class FishSwim(FishUpright):
    """Reward for a mouth near the target, which lies elsewhere in every episode, and for an upright fish."""

    def __init__(self) -> None:
        super().__init__()
        self._mouth, self._target = self.model.geom("mouth").id, self.model.geom("target").id
        self._reach = float(self.model.geom_size[[self._mouth, self._target], 0].sum())

    def edit(self, spec: mujoco.MjSpec) -> None:
        pass

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        super().reset(sim, mask, generator)
        low, high = torch.tensor([-0.4, -0.4, 0.1]), torch.tensor([0.4, 0.4, 0.3])
        place_geom(sim, mask, self._target, uniform(low, high, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        to_target = seen_from(sim.data("geom_xmat")[:, self._mouth], self._to_target(sim)[:, None])[:, 0]
        seen = super().observation(sim)
        velocity = seen.pop("velocity")
        return seen | {"target": to_target, "velocity": velocity}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        near = tolerance(self._to_target(sim).norm(dim=-1), (0.0, self._reach), margin=2 * self._reach)
        return (7 * near + (self._upright(sim) + 1) / 2) / 8

    def _at_target(self, sim: WarpSim) -> torch.Tensor:
        return self._to_target(sim).norm(dim=-1) < self._reach

    def _to_target(self, sim: WarpSim) -> torch.Tensor:
        geoms = sim.data("geom_xpos")
        return geoms[:, self._target] - geoms[:, self._mouth]  # (B, 3)
