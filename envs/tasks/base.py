"""What every task is made of: a model, how an episode starts, what is seen, and what earns reward."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import importlib.util
import math
import warnings
from pathlib import Path
from typing import ClassVar

import mujoco
import torch

from envs.warp_sim import WarpSim


class Task:
    """A task of the DeepMind Control Suite on a batch of worlds.

    A subclass names its model and writes `reset`, `observation` and `reward`; each must give what the
    dm_control task of the same name gives, which `tests/envs/test_parity.py` checks for all of `TASKS`.
    """

    xml: ClassVar[str]
    """File of the model, in dm_control's `suite` folder."""
    time_limit: ClassVar[float]
    """Length of an episode, in simulated seconds."""
    control_timestep: ClassVar[float | None] = None
    """Seconds between two actions; None for one physics step."""
    per_world: ClassVar[tuple[str, ...]] = ()
    """Fields of the model that each world holds its own copy of."""

    def __init__(self) -> None:
        spec = mujoco.MjSpec.from_file(str(suite_folder() / self.xml))
        self.edit(spec)
        with warnings.catch_warnings():  # the XMLs are dm_control's; what is deprecated in them stays
            warnings.filterwarnings("ignore", message=".*is deprecated", category=UserWarning)
            self.model: mujoco.MjModel = spec.compile()

    def edit(self, spec: mujoco.MjSpec) -> None:
        """Changes the model before it is compiled; most tasks change nothing."""

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return round((self.control_timestep or self.model.opt.timestep) / self.model.opt.timestep)

    @property
    def control_steps(self) -> int:
        """Control steps in one episode."""
        return math.ceil(self.time_limit / (self.model.opt.timestep * self.substeps) - 1e-6)

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: torch.Generator) -> None:
        """Writes the first state of an episode into the worlds of `mask`, (B,) bool, and only into those.

        The worlds of `mask` come in the model's default state. Draw from `generator` (on the CPU) for all
        worlds whatever the mask holds, so that a seed gives one rollout. The caller brings derived
        quantities up to date afterwards.
        """
        raise NotImplementedError

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        """dm_control's observation, in its order: each entry (B, n) float32."""
        raise NotImplementedError

    def reward(self, sim: WarpSim) -> torch.Tensor:
        """Reward of the present state and controls, (B,) float32."""
        raise NotImplementedError

    def terminated(self, sim: WarpSim) -> torch.Tensor:
        """Worlds whose episode ends here with no future to bootstrap from, (B,) bool; none, usually."""
        return torch.zeros(sim.num_worlds, dtype=torch.bool, device=sim.device)


def suite_folder() -> Path:
    """dm_control's folder of models, found without importing dm_control (seconds, and a GL library).

    Raises:
        ValueError: when dm_control is not installed.
    """
    spec = importlib.util.find_spec("dm_control")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("The models come with dm_control, which is not installed: pip install dm-control.")
    return Path(spec.submodule_search_locations[0]) / "suite"


def write(target: torch.Tensor, mask: torch.Tensor, value: torch.Tensor) -> None:
    """Copies `value` into the worlds of `target` (B, ...) where `mask` (B,) holds, with no host sync."""
    mask = mask.view(-1, *[1] * (target.ndim - 1))
    target.copy_(torch.where(mask, value.to(target), target))


def uniform(low: torch.Tensor, high: torch.Tensor, num: int, generator: torch.Generator) -> torch.Tensor:
    """`num` draws from [low, high) (n,), as (num, n) on the CPU."""
    return low + (high - low) * torch.rand(num, len(low), generator=generator)


def random_joints(model: mujoco.MjModel, num: int, generator: torch.Generator) -> torch.Tensor:
    """`num` random poses (num, nq): limited joints within their limits, other hinges all the way round.

    Unlimited slides keep their default. As dm_control's `randomize_limited_and_rotational_joints`.

    Raises:
        NotImplementedError: for a model with ball or free joints.
    """
    low = torch.as_tensor(model.qpos0, dtype=torch.float32).clone()
    high = low.clone()
    for joint in map(model.joint, range(model.njnt)):
        kind = mujoco.mjtJoint(joint.type[0])
        if kind not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            raise NotImplementedError(f"Joint {joint.name!r}: ball and free joints are not drawn yet.")
        address = joint.qposadr[0]
        if joint.limited[0]:
            low[address], high[address] = map(float, joint.range)
        elif kind == mujoco.mjtJoint.mjJNT_HINGE:
            low[address], high[address] = -math.pi, math.pi
    return uniform(low, high, num, generator)
