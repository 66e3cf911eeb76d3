"""N worlds of one MuJoCo model on one device, stepped and ray traced by mujoco_warp.

Kernel launches cost far more than the physics of a small model, so every operation is recorded once
as a Warp graph and replayed, on the CPU as well as on CUDA. Tensors returned here share Warp's memory:
they show the present state without a copy and change with the next call.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp

from envs.warp_start import start_warp

start_warp()

# Overflows after which a world's forces are wrong. Solver iteration limits are not among them: MuJoCo
# itself stops there and goes on with the best forces found.
_HARMFUL_OVERFLOW = int(
    mjw.OverflowType.NEFC
    | mjw.OverflowType.NJMAX_NNZ
    | mjw.OverflowType.BROADPHASE
    | mjw.OverflowType.NARROWPHASE
    | mjw.OverflowType.CCD
    | mjw.OverflowType.HFIELD
)

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
)


@dataclass(frozen=True)
class RenderConfig:
    """What the camera sees and how it is drawn."""

    height: int = 64
    """Rows of the picture, in pixels."""
    width: int = 64
    """Columns of the picture, in pixels."""
    camera: int | str = 0
    """Camera of the model, by index or name."""
    shadows: bool = False
    """Cast shadow rays (about twice the cost)."""
    skybox: bool = False
    """Draw the model's sky where a ray hits nothing; black otherwise."""
    samples: int = 1
    """Rays per pixel and axis, averaged: 2 means four rays."""


class WarpSim:
    """N worlds of one MuJoCo model.

    Args:
        model: the compiled MuJoCo model that all worlds share.
        num_worlds: number of worlds, B.
        device: torch device that holds the state, such as "cpu" or "cuda".
        substeps: physics steps taken by one call of `step`.
        render: camera and picture size; None for worlds that are never drawn.
        per_world: names of `mujoco.MjModel` fields that each world holds a copy of, for tasks that move
            targets or randomise the model.
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
        per_world: tuple[str, ...] = (),
        max_contacts: int | None = None,
        max_constraints: int | None = None,
    ):
        self.mj_model = model
        self.num_worlds = num_worlds
        self.device = resolve_device(device)
        self.substeps = substeps
        self.per_world = per_world
        self._wp_device = wp.device_from_torch(self.device)
        self._graphs: dict[str, wp.Graph] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        self._stream: wp.Stream | None = None
        with wp.ScopedDevice(self._wp_device):
            self._model = mjw.put_model(model, batch_sizes={name: num_worlds for name in per_world})
            self._model.opt.warn_overflow = 0  # reported through `broken`, not printed from a kernel
            self._data = mjw.make_data(model, num_worlds, nconmax=max_contacts, njmax=max_constraints)
            self._reset_mask = wp.zeros(num_worlds, dtype=bool)
        self._reset_mask_tensor = wp.to_torch(self._reset_mask)
        self._render_context: mjw.RenderContext | None = None
        if render is not None:
            self._init_render(render)
        self.ctrl_low, self.ctrl_high = self._ctrl_range()
        wp.synchronize_device(self._wp_device)  # all of this was made on Warp's stream, not on torch's
        self.forward()

    def _ctrl_range(self) -> tuple[torch.Tensor, torch.Tensor]:
        limited = self.mj_model.actuator_ctrllimited.astype(bool)
        low = np.where(limited, self.mj_model.actuator_ctrlrange[:, 0], -np.inf)
        high = np.where(limited, self.mj_model.actuator_ctrlrange[:, 1], np.inf)
        low, high = (torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in (low, high))
        return low, high

    def _init_render(self, render: RenderConfig) -> None:
        camera = render.camera
        if isinstance(camera, str):
            camera = mujoco.mj_name2id(self.mj_model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if not 0 <= camera < self.mj_model.ncam:
            names = [self.mj_model.camera(i).name for i in range(self.mj_model.ncam)]
            raise ValueError(f"The model has no camera {render.camera!r}. Its cameras: {', '.join(names)}.")
        with wp.ScopedDevice(self._wp_device):
            self._render_context = mjw.create_render_context(
                self.mj_model,
                nworld=self.num_worlds,
                cam_res=(render.width, render.height),
                render_rgb=True,
                render_depth=False,
                cam_active=[camera],
                use_shadows=render.shadows,
                render_skybox=render.skybox,
                samples_per_pixel=render.samples,
            )
        # Each pixel is one uint32, 0xAARRGGBB: on a little-endian machine the bytes lie as B, G, R, A.
        packed = wp.to_torch(self._render_context.rgb_data)  # (B, H * W)
        self._bgra = packed.view(torch.uint8).view(self.num_worlds, render.height, render.width, 4)

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
        self._replay("step", self._record_step)

    def _record_step(self) -> None:
        # As in dm_control: positions and velocities derived from the new state are brought up to date at
        # the end of a step, and the next step starts from them instead of computing them again.
        remaining = self.substeps
        if self.mj_model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4:
            mjw.step2(self._model, self._data)
            remaining -= 1
        for _ in range(remaining):
            mjw.step(self._model, self._data)
        mjw.step1(self._model, self._data)

    def reset(self, mask: torch.Tensor) -> None:
        """Puts the worlds where `mask` (B,) holds back to the model's default state, velocities zero.

        Write their initial state afterwards and call `forward` before reading anything derived.
        """
        self._reset_mask_tensor.copy_(mask)
        self._replay("reset", lambda: mjw.reset_data(self._model, self._data, self._reset_mask))

    def forward(self) -> None:
        """Brings everything derived from positions and velocities up to date in all worlds."""
        self._replay("forward", lambda: mjw.step1(self._model, self._data))

    def render(self) -> torch.Tensor:
        """Draws all worlds: uint8 (B, 3, H, W), a fresh tensor.

        Raises:
            ValueError: when the worlds were built without a camera.
        """
        if self._render_context is None:
            raise ValueError("These worlds were built without a camera: pass render=RenderConfig().")
        self._replay("render", self._record_render)
        return torch.stack([self._bgra[..., i] for i in (2, 1, 0)], dim=1)

    def _record_render(self) -> None:
        mjw.refit_bvh(self._model, self._data, self._render_context)
        mjw.render(self._model, self._data, self._render_context)

    def broken(self) -> torch.Tensor:
        """Worlds that must be reset, (B,) bool: not finite, or out of room for contacts or constraints."""
        finite = self.qpos.isfinite().all(-1) & self.qvel.isfinite().all(-1)
        return ~finite | (self.data("overflow") & _HARMFUL_OVERFLOW).bool()

    def settle(self, mask: torch.Tensor, steps: int) -> None:
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

    # ---- graphs ----

    def _replay(self, name: str, record: Callable[[], None]) -> None:
        stream = self._torch_stream()
        if name in self._graphs:
            wp.capture_launch(self._graphs[name], stream=stream)
            return
        with wp.ScopedDevice(self._wp_device):
            with wp.ScopedStream(stream):
                record()  # does this first call's work, and compiles: that cannot happen in a recording
            with wp.ScopedCapture(device=self._wp_device) as capture:  # on Warp's stream; runs nothing
                record()
        assert capture.graph is not None
        self._graphs[name] = capture.graph

    def _torch_stream(self) -> wp.Stream | None:
        """torch's current stream, so that Warp's work keeps its order with torch's and waits on no host.

        A CUDA graph may be launched on another stream than the one it was recorded on, which matters here:
        torch's default stream cannot be recorded at all.
        """
        if self.device.type != "cuda":
            return None
        stream = torch.cuda.current_stream(self.device)
        if self._stream is None or self._stream.cuda_stream != stream.cuda_stream:
            self._stream = wp.stream_from_torch(stream)
        return self._stream


def resolve_device(device: torch.device | str) -> torch.device:
    """The device named, with its index, after making sure that it is there.

    Raises:
        ValueError: for a device that torch does not know, is neither CPU nor CUDA, or is not there.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:1'.") from error
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type != "cuda":
        raise ValueError(f"Worlds run on 'cpu' or 'cuda', not on {str(device)!r}.")
    count = min(torch.cuda.device_count(), wp.get_cuda_device_count())
    index = found.index if found.index is not None else (torch.cuda.current_device() if count else 0)
    if index >= count:
        raise ValueError(f"Device {str(device)!r} is not there: this machine shows {count} CUDA devices. Use 'cpu'.")
    return torch.device("cuda", index)
