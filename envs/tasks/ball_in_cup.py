"""Ball in cup: swing a ball on a string into the cup it hangs from."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, uniform, write
from mindreel.envs.warp.simulation import WarpSim

_TAUT = 0.29  # metres between ball and cup from which the string, 0.3 m long, is called taut
_STILL = 0.2  # metres a second of a ball at rest


class BallInCup(Task):
    """Reward while the ball lies in the cup."""

    xml = "ball_in_cup.xml"
    time_limit = 20.0
    control_timestep = 0.02
    behaviours = (
        "the ball is in the cup",
        "the ball is flying above the cup",
        "the ball is hanging still below the cup",
        "the ball is swinging below the cup on its string",
        "the ball is flying up outside the cup",
        "the ball is falling outside the cup",
    )

    def __init__(self) -> None:
        super().__init__()
        model = self.model
        self._ball, self._target = model.body("ball").id, model.site("target").id
        ball_size = model.geom("ball").size[0]
        self._room = [float(x) for x in model.site_size[self._target, [0, 2]] - ball_size]
        self._target_size = [float(x) for x in model.site_size[self._target, [0, 2]]]
        self._ball_address = [model.joint(name).qposadr[0] for name in ("ball_x", "ball_z")]

        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        parts = [i for i in range(model.ngeom) if model.geom(i).name.startswith("cup_part")]
        as_tensor = lambda x: torch.as_tensor(x, dtype=torch.float64)
        self._ball_home = as_tensor(data.xpos[self._ball, [0, 2]])
        self._part_centre = as_tensor(data.geom_xpos[parts][:, [0, 2]])  # (parts, 2)
        axis = data.geom_xmat[parts].reshape(-1, 3, 3)[:, [0, 2], 2]
        self._part_half = as_tensor(axis * model.geom_size[parts, 1:2])  # (parts, 2)
        self._touch = as_tensor(model.geom_size[parts, 0] + ball_size)  # (parts,)

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        low, high = torch.tensor([-0.2, 0.2]), torch.tensor([0.2, 0.5])
        ball = uniform(low, high, generator)  # (B, 2): x, z
        while (touching := self.touches_cup(ball)).any():  # on the CPU, so no device is waited for
            ball = torch.where(touching[:, None], uniform(low, high, generator), ball)
        qpos = torch.as_tensor(self.model.qpos0, dtype=torch.float32).repeat(sim.num_worlds, 1)
        qpos[:, self._ball_address] = ball
        write(sim.qpos, mask, qpos)

    def touches_cup(self, ball: torch.Tensor) -> torch.Tensor:
        """Whether a ball with joint positions `ball` (B, 2) collides with the cup at rest, (B,) bool."""
        offset = (ball + self._ball_home)[:, None] - self._part_centre  # (B, parts, 2)
        along = (offset * self._part_half).sum(-1) / (self._part_half**2).sum(-1)
        nearest = along.clamp(-1, 1)[..., None] * self._part_half
        return ((offset - nearest).norm(dim=-1) < self._touch).any(-1)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        return {"position": sim.qpos, "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        offset = sim.data("site_xpos")[:, self._target] - sim.data("xpos")[:, self._ball]  # (B, 3)
        width, depth = self._room
        return ((offset[:, 0].abs() < width) & (offset[:, 2].abs() < depth)).float()

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        offset = sim.data("xpos")[:, self._ball] - sim.data("site_xpos")[:, self._target]  # (B, 3)
        width, depth = self._target_size  # of the room inside the cup, from its middle to its sides
        inside = (offset[:, 0].abs() < width) & (offset[:, 2].abs() < depth)
        sideways, rising = (sim.qvel[:, i] for i in self._ball_address)  # all joints are slides: addresses agree
        below = (offset[:, 2] < -depth) & (sim.data("ten_length")[:, 0] > _TAUT)
        still = sideways.hypot(rising) < _STILL
        return first_that_holds(inside, offset[:, 2] > depth, below & still, below, rising > 0)
