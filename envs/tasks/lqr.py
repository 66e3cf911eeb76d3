"""LQR: bring a chain of balls on springs to rest, a linear system with a quadratic cost."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import numpy as np
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, write
from mindreel.envs.warp.simulation import WarpSim

_CONTROL_COST = 0.1
_AT_REST = 1e-6  # norm of positions and velocities under which an episode ends
_MIDDLE = 0.05  # metres from the middle line within which a ball is called in line
_STILL = 0.05  # metres a second of a ball at rest


class LQR(Task):
    """Reward of 1 less a quadratic cost of positions and forces.

    As in dm_control the springs' stiffness is drawn when the task is made and not for every episode, so that
    there is one optimal controller to find: all worlds share one system, the one that dm_control makes from
    the same seed. Episodes have no time limit and forces no bounds.

    Args:
        num_balls: balls in the chain.
        num_actuators: how many of them, from the first, are pushed.
        seed: seed of the stiffness.
    """

    xml = "lqr.xml"
    time_limit = math.inf
    behaviours = (
        "balls on springs at rest in a line",
        "balls on springs standing still away from their line",
        "balls on springs coming back to their line",
        "balls on springs swinging away from their line",
    )

    def __init__(self, num_balls: int, num_actuators: int, seed: int = 0):
        self._num_balls, self._num_actuators, self._seed = num_balls, num_actuators, seed
        super().__init__()

    def edit(self, spec: mujoco.MjSpec) -> None:
        draws = np.random.RandomState(self._seed).random_sample((self._num_balls, 2))  # dm_control's, in its order
        stiffness = 15 + 10 * draws[:, 0]  # N/m; the other draw is of a damping that is always 0
        body = spec.worldbody
        for i in range(self._num_balls):
            body = body.add_body(name=f"body_{i}", pos=[0.25, 0, 0 if i else 0.1])
            body.add_joint(name=f"joint_{i}", stiffness=[stiffness[i], 0, 0])
            body.add_geom(name=f"geom_{i}")
            body.add_site(name=f"site_{i}")
        for i in range(self._num_actuators):
            spec.add_actuator(name=f"motor_{i}", trntype=mujoco.mjtTrn.mjTRN_JOINT, target=f"joint_{i}")
        for i in range(self._num_balls - 1):  # these pull at nothing: dm_control draws them
            tendon = spec.add_tendon(name=f"tendon_{i}")
            tendon.wrap_site(f"site_{i}")
            tendon.wrap_site(f"site_{i + 1}")

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        direction = generator.normal(self._num_balls)
        write(sim.qpos, mask, math.sqrt(2) * direction / direction.norm(dim=-1, keepdim=True))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos, "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return 1 - (sim.qpos.square().sum(-1) + _CONTROL_COST * sim.ctrl.square().sum(-1)) / 2

    def terminated(self, sim: WarpSim) -> torch.Tensor:
        return sim.qpos.norm(dim=-1).hypot(sim.qvel.norm(dim=-1)) < _AT_REST

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        still = (sim.qvel.abs() < _STILL).all(-1)
        in_line = (sim.qpos.abs() < _MIDDLE).all(-1)
        return first_that_holds(still & in_line, still, (sim.qpos * sim.qvel).sum(-1) < 0)
