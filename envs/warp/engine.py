"""mujoco_warp with our corrections, in copies of its modules: the installed package stays as it is.

Other code in the same process may use mujoco_warp too, so nothing of it is replaced. Five of its modules are loaded a
second time under names of ours, and `corrections` and `lighting` are bound in these copies alone. Warp compiles
kernels by the name of their module, so those of the copies and of the originals stay apart as well.
"""

# pyright: reportAttributeAccessIssue=false

import importlib.util
import sys
import threading
from types import ModuleType

import warp as wp
from mujoco_warp import Model, RenderContext, create_render_context, make_data, put_model, refit_bvh, reset_data
from mujoco_warp._src import collision_driver, collision_primitive, forward, render, solver

from mindreel.envs.warp import corrections
from mindreel.envs.warp.lighting import cut_off_at_white

__all__ = [
    "create_render_context",
    "forward_dynamics",
    "make_data",
    "put_model",
    "refit_bvh",
    "render_worlds",
    "reset_data",
    "step",
    "step1",
    "step2",
]


def _copy(module: ModuleType, **replaced: object) -> ModuleType:
    """The module loaded a second time, under a name of ours, with some of the names in it bound to something else."""
    assert module.__file__ is not None
    name = f"{__name__}.{module.__name__.rpartition('.')[2]}"
    spec = importlib.util.spec_from_file_location(name, module.__file__)
    assert spec is not None and spec.loader is not None, module
    copy = importlib.util.module_from_spec(spec)
    sys.modules[name] = copy  # where Warp looks a kernel's module up
    spec.loader.exec_module(copy)
    for key, value in replaced.items():
        assert hasattr(copy, key), f"{module.__name__} has no {key}"
        setattr(copy, key, value)  # kernels read these names when they are built, functions when they are called
    return copy


_primitive = _copy(
    collision_primitive,
    capsule_capsule=corrections.capsule_capsule,
    plane_capsule=corrections.plane_capsule,
)
_driver = _copy(collision_driver, primitive_narrowphase=_primitive.primitive_narrowphase)
_solver = _copy(solver, _jtdaj_groups_per_world=corrections.groups_per_world)
_forward = _copy(forward, collision_driver=_driver, solver=_solver)
_render = _copy(
    render,
    ray_sphere=corrections.ray_sphere,
    ray_ellipsoid=corrections.ray_ellipsoid,
    ray_capsule=corrections.ray_capsule,
    ray_cylinder=corrections.ray_cylinder,
)
_build_megakernel, _make_compute_lighting = _render._build_megakernel, _render._make_compute_lighting
_building = threading.Lock()


def _build_lit_megakernel(model: Model, context: RenderContext) -> wp.Kernel:
    """mujoco_warp's kernel that draws a context, with our lighting."""
    headroom = wp.vec3(1.0) - (context.headlight_ambient if context.headlight_active else wp.vec3(0.0))
    with _building:  # the copy holds one lighting at a time, and other threads may build too
        _render._make_compute_lighting = lambda cast_ray: cut_off_at_white(_make_compute_lighting(cast_ray), headroom)
        return _build_megakernel(model, context)


_render._build_megakernel = _build_lit_megakernel

step, step1, step2, forward_dynamics = _forward.step, _forward.step1, _forward.step2, _forward.forward
"""`mujoco_warp.step`, its two halves, and `mujoco_warp.forward`."""
render_worlds = _render.render
"""`mujoco_warp.render`."""
