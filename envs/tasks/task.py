"""What every task is made of: a model, how an episode starts, what is seen, and what earns reward."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import importlib.util
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import mujoco
import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.warp.simulation import WarpSim

_STEP_TOLERANCE = 1e-6  # of a physics step, for control timesteps written with a few digits


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
    max_constraints: int | None = None
    """Scalar constraints that a world needs room for, where the guess from its model is too small."""
    behaviours: ClassVar[tuple[str, ...]] = ()
    """Sentences of which one says what a world is doing; `behaviour` tells which. The same for a whole domain."""

    def __init__(self) -> None:
        spec = mujoco.MjSpec.from_file(str(suite_folder() / self.xml))
        self.edit(spec)
        with warnings.catch_warnings():  # the XMLs are dm_control's; what is deprecated in them stays
            warnings.filterwarnings("ignore", message=".*is deprecated", category=UserWarning)
            self.model: mujoco.MjModel = spec.compile()
        self._check_control_timestep()

    def _check_control_timestep(self) -> None:
        timestep = float(self.model.opt.timestep)
        steps = (self.control_timestep or timestep) / timestep
        if round(steps) < 1 or abs(steps - round(steps)) > _STEP_TOLERANCE:
            raise ValueError(
                f"The control timestep should be a multiple of {self.xml}'s physics timestep, {timestep:g} s, got "
                f"{self.control_timestep:g} s: {steps:g} times as long. Change one of them."
            )

    def edit(self, spec: mujoco.MjSpec) -> None:
        """Changes the model before it is compiled; most tasks change nothing."""

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return round((self.control_timestep or self.model.opt.timestep) / self.model.opt.timestep)

    @property
    def control_steps(self) -> float:
        """Control steps in one episode, a whole number; infinitely many for a task without end."""
        if math.isinf(self.time_limit):
            return math.inf
        return math.ceil(self.time_limit / (self.model.opt.timestep * self.substeps) - 1e-6)

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        """Writes the first state of an episode into the worlds of `mask`, (B,) bool, and only into those.

        The worlds of `mask` come in the model's default state. `generator` draws for all worlds, on the CPU,
        whatever the mask holds. The caller brings derived quantities up to date afterwards.
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

    def behaviour(self, sim: WarpSim) -> torch.Tensor:
        """Index into `behaviours` of what each world is doing now, (B,) int64; -1 where nothing is known."""
        return torch.full((sim.num_worlds,), -1, device=sim.device)


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
    """Copies `value` into the worlds of `target` (B, ...) where `mask` (B,) holds.

    The mask is never read here, so nothing waits for what computes it. Of a `value` that comes from the CPU the CUDA
    driver takes a copy of its own before this returns, for which it may wait for the device.
    """
    mask = mask.view(-1, *[1] * (target.ndim - 1))
    target.copy_(torch.where(mask, value.to(target, non_blocking=True), target))


def place_geom(sim: WarpSim, mask: torch.Tensor, geom: int, place: torch.Tensor, axes: slice = slice(None)) -> None:
    """Puts a geom that is fixed to the world at `place` (B, n), along `axes`, in the worlds of `mask` (B,).

    mujoco_warp reads the place of such a geom in the data and never computes it again, so each world has its own.
    """
    write(sim.data("geom_xpos")[:, geom, axes], mask, place)


def first_that_holds(*conditions: torch.Tensor) -> torch.Tensor:
    """Index of the first of K conditions (B,) that holds, K where none does: (B,) int64."""
    otherwise = torch.ones_like(conditions[0])
    return torch.stack([*conditions, otherwise]).int().argmax(0)  # of equals argmax takes the first


def to_target_conditions(
    to_target: torch.Tensor, velocity: torch.Tensor, reach: float, moving: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether a point is within `reach` of its target, comes nearer, goes away, or moves past it, (B,) bool each.

    Args:
        to_target: from the point to the target, (B, n), metres.
        velocity: of the point, (B, n), along the same axes, metres a second.
        reach: metres.
        moving: metres a second from which it is called moving.
    """
    distance = to_target.norm(dim=-1)
    closing = (velocity * to_target).sum(-1) / distance.clamp(min=1e-6)
    return distance < reach, closing > moving, closing < -moving, velocity.norm(dim=-1) > moving


def uniform(low: torch.Tensor, high: torch.Tensor, generator: WorldGenerator) -> torch.Tensor:
    """Draws from [low, high) (n,), as (B, n) on the CPU."""
    return low + (high - low) * generator.uniform(len(low))


def show_site(spec: mujoco.MjSpec, name: str) -> None:
    """Gives the site `name` a geom of its name and looks, without mass or contact: mujoco_warp draws no sites."""
    site = spec.site(name)
    site.parent.add_geom(
        name=name,
        type=site.type,
        size=site.size,
        pos=site.pos,
        quat=site.quat,
        material=site.material,
        rgba=site.rgba,
        mass=0,
        contype=0,
        conaffinity=0,
    )


def random_joints(model: mujoco.MjModel, generator: WorldGenerator) -> torch.Tensor:
    """Random poses (B, nq): limited joints within their limits, other hinges all the way round.

    Unlimited slides and the places of free joints keep their default; a free joint's quaternion has four
    components from [0, 1), which favours some turns over others, but is what published returns start from.
    As dm_control's `randomize_limited_and_rotational_joints`.

    Raises:
        NotImplementedError: for a model with ball joints.
    """
    low = torch.as_tensor(model.qpos0, dtype=torch.float32).clone()
    high = low.clone()
    turns: list[slice] = []  # of free joints
    for joint in map(model.joint, range(model.njnt)):
        kind = mujoco.mjtJoint(joint.type[0])
        if kind == mujoco.mjtJoint.mjJNT_BALL:
            raise NotImplementedError(f"Joint {joint.name!r}: ball joints are not drawn yet.")
        address = joint.qposadr[0]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            turns.append(slice(address + 3, address + 7))
            low[turns[-1]], high[turns[-1]] = 0.0, 1.0
        elif joint.limited[0]:
            low[address], high[address] = map(float, joint.range)
        elif kind == mujoco.mjtJoint.mjJNT_HINGE:
            low[address], high[address] = -math.pi, math.pi
    qpos = uniform(low, high, generator)
    for turn in turns:
        qpos[:, turn] = torch.nn.functional.normalize(qpos[:, turn], dim=-1)
    return qpos


def in_contact(sim: WarpSim) -> torch.Tensor:
    """Worlds in which anything touches, (B,) bool; current after `forward`."""
    others = sim.data("ne") + sim.data("nf") + sim.data("nl")  # constraints other than contacts, (B,)
    return sim.data("nefc") > others


def until_free(sim: WarpSim, mask: torch.Tensor, draw: Callable[[torch.Tensor], None], rounds: int) -> None:
    """Calls `draw` with the worlds (B,) bool that it shall place, until no world of `mask` is in contact.

    After `rounds` of them the rest start in contact as they are: choose it so that next to none do. All rounds
    run on CUDA, where asking whether one more is needed would wait for the device.
    """
    for _ in range(rounds):
        draw(mask)
        sim.forward()
        mask = mask & in_contact(sim)
        if sim.device.type == "cpu" and not mask.any():
            return


def pick(x: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """The entries `indices` of the second axis of `x` (B, n, ...), in that order and with no copy to the device."""
    return torch.stack([x[:, i] for i in indices], dim=1)


def seen_from(frame: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """World vectors (B, n, 3) along the axes of `frame` (B, 3, 3), a rotation matrix as MuJoCo keeps it."""
    return (vectors[..., None] * frame[:, None]).sum(-2)  # no matmul: that may run in TF32, which is too coarse


def sensor_columns(model: mujoco.MjModel, *kinds: str) -> slice:
    """Columns of `sensordata` with all sensors of these kinds ("touch", "force", ...), which lie side by side."""
    wanted = [int(getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}")) for kind in kinds]
    found = [sensor for sensor in map(model.sensor, range(model.nsensor)) if sensor.type[0] in wanted]
    return slice(found[0].adr[0], found[-1].adr[0] + found[-1].dim[0])
