"""Acrobot: swing a two-link arm up with a motor in its elbow alone."""

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task, first_that_holds, pick, random_joints, write
from mindreel.envs.tasks.tolerance import tolerance
from mindreel.envs.warp.simulation import WarpSim

_HANGING = -0.9  # height of each link's end over its start, link lengths, from which it is called hanging
_STILL = 0.5  # radians a second of a link at rest


class Acrobot(Task):
    """Reward for a tip near the target, which lies straight above the shoulder.

    Args:
        sparse: reward only inside the target.
    """

    xml = "acrobot.xml"
    time_limit = 10.0
    behaviours = (
        "an acrobot holding its tip in the target",
        "an acrobot hanging down at rest",
        "an acrobot swinging its tip up",
        "an acrobot with its tip falling over",
        "an acrobot with its tip swinging down",
    )

    def __init__(self, sparse: bool):
        super().__init__()
        self._sparse = sparse
        self._links = [self.model.body(name).id for name in ("upper_arm", "lower_arm")]
        self._tip, self._target = self.model.site("tip").id, self.model.site("target").id
        self._target_size = float(self.model.site_size[self._target, 0])

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        write(sim.qpos, mask, random_joints(self.model, generator))

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        axes = self._axes(sim)
        return {"orientations": torch.cat([axes[..., 0], axes[..., 2]], dim=-1), "velocity": sim.qvel}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return tolerance(self._distance(sim), (0.0, self._target_size), margin=0 if self._sparse else 1)

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        axes, speed = self._axes(sim), sim.qvel.cumsum(-1)  # each link's own turning
        sideways, height = axes[..., 0], axes[..., 2]  # (B, links)
        hanging = (height < _HANGING) & (speed.abs() < _STILL)
        rising = -(sideways * speed).sum(-1)  # of the tip
        return first_that_holds(
            self._distance(sim) < self._target_size, hanging.all(-1), rising > 0, height.sum(-1) > 0
        )

    def _axes(self, sim: WarpSim) -> torch.Tensor:
        return pick(sim.data("xmat"), self._links)[..., 2]  # (B, links, 3): along each link

    def _distance(self, sim: WarpSim) -> torch.Tensor:
        sites = sim.data("site_xpos")
        return (sites[:, self._target] - sites[:, self._tip]).norm(dim=-1)  # (B,)
