"""What cannot happen: changes to a model, and to worlds that are under way."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

from collections.abc import Callable

import mujoco
import torch

from mindreel.envs.warp.simulation import WarpSim
from mindreel.envs.warp.visibility import moving_geoms

_DRAG = 5.0  # rate at which added friction uses up a joint's speed, 1/s
_GREEN = (0.1, 0.8, 0.2, 1.0)


def largest_body(model: mujoco.MjModel) -> int:
    """The body of the largest geom that moves: the one that violations befall."""
    return int(model.geom_bodyid[max(moving_geoms(model), key=lambda geom: float(model.geom_rbound[geom]))])


def outer_joints(model: mujoco.MjModel) -> tuple[int, int]:
    """Where the later half of the joints begins, which are the limbs: place in qpos and in qvel."""
    joint = model.njnt // 2
    return int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])


def teleport(sim: WarpSim, generator: torch.Generator) -> None:
    """Moves the largest body's joints by 0.3 to 0.5 of their range, or of a turn, or of a metre."""
    model = sim.mj_model
    body = largest_body(model)
    for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
        place, limited = int(model.jnt_qposadr[joint]), bool(model.jnt_limited[joint])
        low, high = (float(x) for x in model.jnt_range[joint]) if limited else (-torch.inf, torch.inf)
        turns = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE
        width = high - low if limited else 2 * torch.pi if turns else 1.0
        draw = torch.rand(2, sim.num_worlds, generator=generator).to(sim.device)
        shift = (0.3 + 0.2 * draw[0]) * width * torch.where(draw[1] < 0.5, -1.0, 1.0)
        moved = sim.qpos[:, place] + shift
        outside = (moved < low) | (moved > high)  # then the other way
        sim.qpos[:, place] = torch.where(outside, moved - 2 * shift, moved).clamp(low, high)
    sim.forward()


def _turn_gravity(model: mujoco.MjModel) -> None:
    model.opt.gravity[2] *= -1


def _add_friction(model: mujoco.MjModel) -> None:
    model.dof_damping[:] += _DRAG * model.dof_M0
    model.geom_friction[:, 0] *= _DRAG


def _remove(model: mujoco.MjModel) -> None:
    for geom in _geoms_of(model, largest_body(model)):
        model.geom_size[geom] = 1e-6
        model.geom_rbound[geom] = 1e-6
        model.geom_aabb[geom, 3:] = 1e-6


def _exchange(model: mujoco.MjModel) -> None:
    for geom in _geoms_of(model, largest_body(model)):
        radius, half = model.geom_size[geom, :2]
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
            model.geom_type[geom] = mujoco.mjtGeom.mjGEOM_ELLIPSOID
        else:
            model.geom_size[geom] = radius, radius, half or radius
            model.geom_type[geom] = mujoco.mjtGeom.mjGEOM_BOX
        model.geom_matid[geom] = -1
        model.geom_rgba[geom] = _GREEN


def _geoms_of(model: mujoco.MjModel, body: int) -> range:
    return range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])


CHANGES: dict[str, Callable[[mujoco.MjModel], None]] = {
    "": lambda model: None,
    "gravity": _turn_gravity,
    "friction": _add_friction,
    "vanish": _remove,
    "swap": _exchange,
}
"""Name -> what is done to a model; nothing for the empty name."""


def carried_over(state: dict[str, torch.Tensor], model: mujoco.MjModel, changed: mujoco.MjModel) -> dict:
    """A `WarpSim.state` of worlds of `model` for worlds of `changed`: what was changed stays so.

    Worlds that hold fields of the model of their own carry these in their state, which would undo a change of them.
    """
    altered = {}
    for key, value in state.items():
        name = key.removeprefix("model.")
        if name == key:
            continue
        old, new = (torch.as_tensor(getattr(which, name)) for which in (model, changed))
        if not torch.equal(old, new):
            shape = value.shape[1:]
            mask, new = ((x.reshape(shape)).to(value.device) for x in (old != new, new))
            altered[key] = torch.where(mask, new.to(value.dtype), value)
    return state | altered
