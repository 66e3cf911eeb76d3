"""Readable names of the entries of a task's state: "cart x" and "cos of the pole" for position[0] and position[1].

A task returns its observation as tensors, which do not say where a number comes from. Here the task is played at
random, and each entry is compared with the quantities that MuJoCo names: joints, bodies, geoms, sites, sensors. An
entry that equals one of them in every frame is named after it.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import mujoco
import torch
from torch import Tensor

from mindreel.envs import WarpEnv, make_env
from mindreel.run_config import RunConfig

_ENVS, _STEPS = 8, 6
_SAYS_LITTLE = re.compile(r"(hinge|slider?|joint|root[xyz]?|free)?_?\d*")  # as a joint's name: its body's says more
_POINTS = 100  # of more, no differences are looked at

Named = Iterator[tuple[str, Tensor]]
"""Names, each with its value in every frame, (R,)."""


def target_names(config: RunConfig, state_names: tuple[str, ...]) -> tuple[str, ...]:
    """A readable name for each entry of the state; `position[0]` stays where MuJoCo has no name for it."""
    if config.env.backend == "gym":
        return state_names
    found = _found_names(config.task)
    return tuple(found.get(name, name) for name in state_names)


@cache
def _found_names(task: str) -> dict[str, str]:
    """Entry of the state -> readable name, for those that have one."""
    with torch.random.fork_rng(devices=[]):
        env = make_env(task, _ENVS, observations=("state",), action_repeat=1)
        assert isinstance(env, WarpEnv)
        model, values = env.task.model, _play(env)
    named = [*_joints(model, values), *_places(model, values), *_sensors(model, values)]
    found = {}
    for index, entry in enumerate(env.state_names):
        column = values["state"][:, index]
        if column.std() > 1e-6:
            name = next((name for name, other in named if _equal(column, other).all()), None)
            name = name or _difference(model, values, column)
            found |= {entry: name} if name else {}
    count = Counter(found.values())
    return {entry: name for entry, name in found.items() if count[name] == 1}


def _play(env: WarpEnv) -> dict[str, Tensor]:
    """The state, and what MuJoCo computes, in R random frames: each (R, ...)."""
    kinds = ("xpos", "xmat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat", "sensordata")
    generator = torch.Generator().manual_seed(0)
    low, high = env.action_spec.low, env.action_spec.high
    root, frames = env.reset(), []
    for _ in range(_STEPS):
        found = {"state": root["state"], "qpos": env.sim.qpos, "qvel": env.sim.qvel}
        found |= {kind: env.sim.data(kind) for kind in kinds}
        frames.append({key: value.clone() for key, value in found.items()})
        action = low + (high - low) * torch.rand(low.shape, generator=generator)
        root = env.step(root.set("action", action))["next"]
    return {key: torch.cat([frame[key] for frame in frames]) for key in frames[0]}


def _equal(column: Tensor, other: Tensor) -> Tensor:
    return (column - other).abs() <= 1e-6 * (1 + column.abs())


def _words(name: str, element: Callable) -> str:
    """The name as words, without a number 1 that no number 2 follows; `element` finds what has such a name."""
    if name.endswith("_1"):
        try:
            element(name[:-1] + "2")
        except KeyError:
            name = name[:-2]
    return name.replace("_", " ")


def _joints(model: mujoco.MjModel, values: dict[str, Tensor]) -> Named:
    """Positions and velocities of joints."""
    qpos, qvel = values["qpos"], values["qvel"]
    for joint in map(model.joint, range(model.njnt)):
        body = _words(model.body(joint.bodyid[0]).name, model.body)
        own = body if _SAYS_LITTLE.fullmatch(joint.name) else joint.name.replace("_", " ")
        kind, q, v = mujoco.mjtJoint(joint.type[0]), joint.qposadr[0], joint.dofadr[0]
        if kind == mujoco.mjtJoint.mjJNT_HINGE:
            yield f"{own} angle", qpos[:, q]
            yield f"{own} velocity", qvel[:, v]
        elif kind == mujoco.mjtJoint.mjJNT_SLIDE:
            along = [axis for axis, part in zip("xyz", joint.axis, strict=True) if abs(part) > 0.999]
            own = f"{body} {along[0]}" if along else own
            yield own, qpos[:, q]
            yield f"{own} velocity", qvel[:, v]
        elif kind == mujoco.mjtJoint.mjJNT_FREE:
            for index, axis in enumerate("xyz"):
                yield f"{body} {axis}", qpos[:, q + index]
                yield f"{body} {axis} velocity", qvel[:, v + index]
                yield f"{body} angular velocity {axis}", qvel[:, v + 3 + index]
            yield from ((f"{body} quaternion {part}", qpos[:, q + 3 + index]) for index, part in enumerate("wxyz"))


def _places(model: mujoco.MjModel, values: dict[str, Tensor]) -> Named:
    """Places and orientations of bodies, geoms and sites in the world's frame."""
    kinds = (("", model.nbody, model.body), ("geom_", model.ngeom, model.geom), ("site_", model.nsite, model.site))
    for prefix, count, element in kinds:
        for index in range(count):
            name = _words(element(index).name, element)
            if not name:
                continue
            place, turn = values[f"{prefix}xpos"][:, index], values[f"{prefix}xmat"][:, index]  # (R, 3), (R, 3, 3)
            yield from ((f"{name} {axis}", place[:, i]) for i, axis in enumerate("xyz"))
            planar = any((turn[:, i, i] - 1).abs().max() < 1e-5 for i in range(3))  # turns about one axis alone
            for i, j in product(range(3), range(3)):
                angle = f"{'cos' if i == j else 'sin'} of {'' if name[-1].isdigit() else 'the '}{name}"
                yield angle if planar else f"{name} rotation {'xyz'[i]}{'xyz'[j]}", turn[:, i, j]


def _sensors(model: mujoco.MjModel, values: dict[str, Tensor]) -> Named:
    for sensor in map(model.sensor, range(model.nsensor)):
        size, first = int(sensor.dim[0]), int(sensor.adr[0])
        parts = [""] if size == 1 else [" x", " y", " z"] if size == 3 else [f" {index}" for index in range(size)]
        for index, part in enumerate(parts):
            yield sensor.name.replace("_", " ") + part, values["sensordata"][:, first + index]


def _difference(model: mujoco.MjModel, values: dict[str, Tensor], column: Tensor) -> str | None:
    """A name such as "finger to target x", where the entry is the difference of two places along an axis."""
    names = [model.geom(index).name for index in range(model.ngeom)]
    names += [model.site(index).name for index in range(model.nsite)]
    kept = [index for index, name in enumerate(names) if name and "decoration" not in name]
    if len(kept) > _POINTS:
        return None
    places = torch.cat([values["geom_xpos"], values["site_xpos"]], 1)[:, kept]  # (R, P, 3)
    apart = places[:, None] - places[:, :, None]  # (R, from, to, 3)
    for start, end, axis in _equal(column[:, None, None, None], apart).all(0).nonzero().tolist():
        start, end = names[kept[start]].replace("_", " "), names[kept[end]].replace("_", " ")
        return f"{start} to {end} {'xyz'[axis]}"
    return None
