"""N worlds of one MuJoCo model on one device, stepped and ray traced by mujoco_warp.

Kernel launches cost far more than the physics of a small model, so every operation is recorded once
as a Warp graph and replayed, on the CPU as well as on CUDA. Tensors returned here share Warp's memory:
they show the present state without a copy and change with the next call.
"""

# pyright: reportAttributeAccessIssue=false, reportInvalidTypeForm=false
# (mujoco is compiled and brings no types; a Warp kernel's annotations are no types)

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp

from mindreel.devices import check_device
from mindreel.envs.warp import engine
from mindreel.envs.warp.cameras import Cameras, RenderConfig
from mindreel.envs.warp.graphs import Graphs
from mindreel.envs.warp.lighting import mark_textured
from mindreel.envs.warp.startup import announced, start_warp

start_warp()

# Overflows after which a world's forces are wrong, by the argument that makes room; none does for height fields.
# Solver iteration limits are not among them: MuJoCo itself stops there and goes on with the best forces found.
OVERFLOWS = {
    "max_constraints": int(mjw.OverflowType.NEFC | mjw.OverflowType.NJMAX_NNZ),
    "max_contacts": int(mjw.OverflowType.BROADPHASE | mjw.OverflowType.NARROWPHASE | mjw.OverflowType.CCD),
    "": int(mjw.OverflowType.HFIELD),
}

_CONSTRAINTS_PER_LIMIT = 4  # rows for each limited joint, its contacts' included

# What the next step depends on and cannot be derived anew from the rest. `geom_xpos` is among them since
# mujoco_warp never recomputes it for geoms fixed to the world, which tasks move to place their targets.
_STATE = (
    "time",
    "qpos",
    "qvel",
    "act",
    "history",
    "qacc_warmstart",
    "ctrl",
    "qfrc_applied",
    "xfrc_applied",
    "eq_active",
    "mocap_pos",
    "mocap_quat",
    "userdata",
    "geom_xpos",
    "overflow",
    "sensordata",
)


@wp.kernel
def _copy_columns(columns: wp.array(dtype=int), source: wp.array2d(dtype=float), target: wp.array2d(dtype=float)):
    world, i = wp.tid()  # pyright: ignore[reportAssignmentType, reportGeneralTypeIssues]
    target[world, columns[i]] = source[world, columns[i]]


class WarpSim:
    """N worlds of one MuJoCo model.

    Args:
        model: the compiled MuJoCo model that all worlds share.
        num_worlds: number of worlds, B.
        device: torch device that holds the state, such as "cpu" or "cuda".
        substeps: physics steps taken by one call of `step`.
        render: cameras and picture size; None for worlds that are never drawn.
        draw: which of "pixels", "depth" and "segmentation" are drawn.
        per_world: names of `mujoco.MjModel` fields that each world holds a copy of, for tasks that move
            targets or randomise the model.
        textures: more textures than the model's, uint8 (M, 3, S, S), that worlds may choose.
        max_contacts: contacts that one world may have on average (the buffer is shared by all worlds).
        max_constraints: scalar constraints that one world may have.

    Raises:
        ValueError: for a device that is not there or a camera that the model lacks.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        device: torch.device | str = "cpu",
        *,
        substeps: int = 1,
        render: RenderConfig | None = None,
        draw: tuple[str, ...] = ("pixels",),
        per_world: tuple[str, ...] = (),
        textures: torch.Tensor | None = None,
        max_contacts: int | None = None,
        max_constraints: int | None = None,
    ):
        self.mj_model = model
        self.num_worlds = num_worlds
        self.device = check_device(device)
        self.substeps = substeps
        self.per_world = per_world
        self._graphs = Graphs(self.device)
        self._tensors: dict[str, torch.Tensor] = {}
        self._threads: ThreadPoolExecutor | None = None
        with announced(), wp.ScopedDevice(self._graphs.warp_device):
            with warnings.catch_warnings():  # of geoms without friction, which are dm_control's own
                warnings.filterwarnings("ignore", message="geom .* friction", category=UserWarning)
                self._model = engine.put_model(
                    mark_textured(model), batch_sizes={name: num_worlds for name in per_world}
                )
            self._model.opt.warn_overflow = 0  # reported through `broken`, not printed from a kernel
            max_constraints = max_constraints or _guess_constraints(model)
            self._data = engine.make_data(model, num_worlds, nconmax=max_contacts, njmax=max_constraints)
            self._reset_mask = wp.zeros(num_worlds, dtype=bool)
            self._force_sensors = wp.array(_force_sensors(model), dtype=int)  # columns of sensordata
            self._kept_sensors = wp.zeros_like(self._data.sensordata)
            self._cameras = None
            if render is not None:
                parts = torch.get_num_threads() if self.device.type == "cpu" else 1
                self._cameras = Cameras(model, num_worlds, render, draw, textures, parts)
        self._reset_mask_tensor = wp.to_torch(self._reset_mask)
        self.ctrl_low, self.ctrl_high = self._ctrl_range()
        wp.synchronize_device(self._graphs.warp_device)  # all of this was made on Warp's stream, not on torch's
        self.forward()

    def _ctrl_range(self) -> tuple[torch.Tensor, torch.Tensor]:
        limited = self.mj_model.actuator_ctrllimited.astype(bool)
        low = np.where(limited, self.mj_model.actuator_ctrlrange[:, 0], -mujoco.mjMAXVAL)
        high = np.where(limited, self.mj_model.actuator_ctrlrange[:, 1], mujoco.mjMAXVAL)
        low, high = (torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in (low, high))
        return low, high

    # ---- state ----

    def data(self, name: str) -> torch.Tensor:
        """The field `name` of MuJoCo's data for all worlds, sharing Warp's memory: (B, ...)."""
        if name not in self._tensors:
            self._tensors[name] = wp.to_torch(getattr(self._data, name))
        return self._tensors[name]

    def model(self, name: str) -> torch.Tensor:
        """A model field that was named in `per_world`, sharing Warp's memory: (B, ...)."""
        key = f"model.{name}"
        if key not in self._tensors:
            self._tensors[key] = wp.to_torch(getattr(self._model, name))
        return self._tensors[key]

    @property
    def qpos(self) -> torch.Tensor:
        """Generalised positions, (B, nq)."""
        return self.data("qpos")

    @property
    def qvel(self) -> torch.Tensor:
        """Generalised velocities, (B, nv)."""
        return self.data("qvel")

    @property
    def ctrl(self) -> torch.Tensor:
        """Controls, (B, nu)."""
        return self.data("ctrl")

    # ---- what the worlds do ----

    def step(self) -> None:
        """Advances all worlds by `substeps` physics steps, derived quantities included."""
        self._graphs.replay("step", self._record_step)

    def _record_step(self) -> None:
        # As in dm_control: positions and velocities derived from the new state are brought up to date at
        # the end of a step, and the next step starts from them instead of computing them again.
        remaining = self.substeps
        if self.mj_model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4:
            self._data.sensordata.zero_()  # some sensors add to what is there; the others are all computed anew below
            engine.step2(self._model, self._data)
            remaining -= 1
        for _ in range(remaining):
            engine.step(self._model, self._data)
        self._record_step1()

    def _record_step1(self) -> None:
        # mujoco_warp clears all sensors here; as in MuJoCo, those of forces and accelerations stay as they
        # were at the last step, since only the second half of a step computes them.
        wp.copy(self._kept_sensors, self._data.sensordata)
        engine.step1(self._model, self._data)
        if len(self._force_sensors):
            wp.launch(
                _copy_columns,
                dim=(self.num_worlds, len(self._force_sensors)),
                inputs=[self._force_sensors, self._kept_sensors],
                outputs=[self._data.sensordata],
            )

    def reset(self, mask: torch.Tensor) -> None:
        """Puts the worlds where `mask` (B,) holds back to the model's default state, velocities zero.

        Write their initial state afterwards and call `forward` before reading anything derived.
        """
        self._reset_mask_tensor.copy_(mask)
        self._graphs.replay("reset", lambda: engine.reset_data(self._model, self._data, self._reset_mask))

    def forward(self) -> None:
        """Brings everything derived from positions and velocities up to date in all worlds."""
        self._graphs.replay("forward", self._record_step1)

    def sense(self, mask: torch.Tensor) -> None:
        """Brings all sensors of the worlds of `mask` (B,) up to date, as if no actuator pulled.

        `forward` leaves the sensors of forces and accelerations as the last step measured them. An episode
        that starts in contact, or moving, calls this at the end of its reset, as dm_control does.
        """
        kept = self.data("sensordata").clone()
        self._graphs.replay("sense", self._record_sense)
        sensors = self.data("sensordata")
        sensors.copy_(torch.where(mask[:, None], sensors, kept))

    def _record_sense(self) -> None:
        flags = self._model.opt.disableflags
        self._model.opt.disableflags = flags | mjw.DisableBit.ACTUATION
        engine.forward_dynamics(self._model, self._data)
        self._model.opt.disableflags = flags

    def render(self) -> torch.Tensor:
        """Draws all worlds: uint8 (B, 3, K * H, W), a fresh tensor; the K cameras one below another.

        Raises:
            ValueError: when the worlds were built without a camera.
        """
        return self.pictures()["pixels"]

    def pictures(self) -> dict[str, torch.Tensor]:
        """Draws all worlds: the pictures named in `draw`, as `Cameras.pictures` describes them.

        Raises:
            ValueError: when the worlds were built without a camera.
        """
        if self._cameras is None:
            raise ValueError("These worlds were built without a camera: pass render=RenderConfig().")
        works = {
            f"render {i}": partial(part.record, self._model, self._data, self.per_world)
            for i, part in enumerate(self._cameras.parts)
        }
        if len(works) > 1 and self._graphs.has(set(works)):
            if self._threads is None:
                self._threads = ThreadPoolExecutor(len(works))
            list(self._threads.map(self._graphs.replay, works, works.values()))  # Warp frees Python's lock
        else:
            for name, record in works.items():
                self._graphs.replay(name, record)
        return self._cameras.pictures()

    def broken(self) -> torch.Tensor:
        """Worlds that must be reset, (B,) bool: not finite, or out of room for contacts or constraints."""
        finite = self.qpos.isfinite().all(-1) & self.qvel.isfinite().all(-1)
        return ~finite | self.overflowed().any(-1)

    @property
    def room(self) -> dict[str, int]:
        """Contacts (on average) and scalar constraints that a world may have."""
        return {"max_contacts": self._data.naconmax // self.num_worlds, "max_constraints": self._data.njmax}

    def overflowed(self) -> torch.Tensor:
        """Worlds out of room since their reset, for each of `OVERFLOWS`: (B, 3) bool.

        All worlds share one buffer for contacts: when it is full, contacts are lost in any of them, so all are named.
        """
        bits = self.data("overflow")
        return torch.stack([(bits & kind).bool() for kind in OVERFLOWS.values()], dim=-1)

    def step_only(self, mask: torch.Tensor, steps: int) -> None:
        """Steps the worlds of `mask` (B,) `steps` times (of `substeps` each); the others do not move.

        All worlds are computed and the others put back, so one call costs `steps` full steps. What the
        others derive from their state is stale until the next `forward`.
        """
        kept = {name: tensor.clone() for name, tensor in self._state_tensors().items()}
        for _ in range(steps):
            self.step()
        for name, tensor in self._state_tensors().items():
            here = mask.view(-1, *[1] * (tensor.ndim - 1))
            tensor.copy_(torch.where(here, tensor, kept[name]))

    # ---- saving ----

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of everything that future steps depend on."""
        return {name: tensor.clone() for name, tensor in self._state_tensors().items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continues from what `state` returned.

        Raises:
            ValueError: for the state of another model or another number of worlds.
        """
        own = self._state_tensors()
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise ValueError(f"Saved worlds do not fit: {name!r} should be {tuple(tensor.shape)}, got {found}.")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.forward()

    def _state_tensors(self) -> dict[str, torch.Tensor]:
        data = {name: self.data(name) for name in _STATE if getattr(self._data, name).size}
        return data | {f"model.{name}": self.model(name) for name in self.per_world}


def _guess_constraints(model: mujoco.MjModel) -> int | None:
    """Scalar constraints to make room for; None where mujoco_warp's guess will do.

    That is 64 without height fields, whatever the model, and a humanoid_CMU driven from bound to bound needs 87. More
    room than is needed costs time on the CPU: a humanoid's steps take a tenth longer with two and a half times as much.
    """
    guess = _CONSTRAINTS_PER_LIMIT * int(model.jnt_limited.sum())
    return guess if guess > 64 and not model.nhfield else None


def _force_sensors(model: mujoco.MjModel) -> list[int]:
    """Columns of `sensordata` that only the second half of a step computes: touch, force, acceleration."""
    return [
        sensor.adr[0] + i
        for sensor in map(model.sensor, range(model.nsensor))
        if model.sensor_needstage[sensor.id] == mujoco.mjtStage.mjSTAGE_ACC
        for i in range(sensor.dim[0])
    ]
