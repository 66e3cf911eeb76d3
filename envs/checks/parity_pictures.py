"""How alike a task looks here and in dm_control: over whole pictures, and over what moves in them.

What moves may be one pixel in a hundred: a picture without it is nearly as close to dm_control's as one with it.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

from dataclasses import replace
from typing import NamedTuple

import mujoco
import numpy as np
import torch

from mindreel.envs.checks.parity_states import Pair, copy_world
from mindreel.envs.warp.cameras import RenderConfig, find_cameras
from mindreel.envs.warp.simulation import WarpSim

LOOK = RenderConfig(height=96, width=96, shadows=True, skybox=True, samples=2)
"""How pictures are drawn here to look like dm_control's own."""
LEAST_PIXELS = 12
"""Pixels on which one thing that moves must show to be compared by itself: of fewer most are edges."""
LEAST_IN_VIEW = 4
"""Pixels on which all that moves must show, or the picture shows nothing of it; point_mass's ball takes six to ten."""
ENOUGH_PIXELS = 80
"""Pixels that what moves takes up, on average, in the views of a camera that shows enough of it."""


class Pictures(NamedTuple):
    """One camera's views of some worlds."""

    ours: np.ndarray
    """Drawn here, uint8 (count, 3, H, W)."""
    theirs: np.ndarray | None
    """Drawn by dm_control, likewise; None without a GL library."""
    moving: np.ndarray | None
    """What of dm_control's picture moves, int64 (count, H, W): a number for each thing, -1 for what is fixed."""


def pictures(pair: Pair, count: int, render: RenderConfig = LOOK) -> Pictures:
    """Views of `count` of the worlds, drawn here and, where there is a GL library, by dm_control."""
    worlds = _spread(pair, count)
    ours, theirs, moving = _draw(pair, worlds, render), [], []
    placed = _placed(pair)
    try:
        for world in worlds:
            copy_world(pair, world)
            theirs.append(pair.reference.pixels(render))
            moving.append(_what_moves(pair, placed, render))
    except ValueError as error:
        if "OpenGL" not in str(error):
            raise
        return Pictures(ours, None, None)
    return Pictures(ours, np.stack(theirs), np.stack(moving))


def showing_what_moves(pair: Pair, count: int, render: RenderConfig = LOOK) -> RenderConfig:
    """`render` through a camera that shows enough of what moves in `count` of the worlds.

    That is its first camera where this one does, as an agent sees through it; else the one that shows most.

    Raises:
        ValueError: there is no GL library.
    """
    placed, shown = _placed(pair), dict.fromkeys(range(pair.task.model.ncam), 0)
    for world in _spread(pair, count):
        copy_world(pair, world)
        for camera in shown:
            shown[camera] += int((_what_moves(pair, placed, replace(render, camera=camera)) >= 0).sum())
    first = find_cameras(pair.task.model, render.views)[0]
    if shown[first] >= ENOUGH_PIXELS * count:
        return render
    return replace(render, camera=max(shown, key=lambda camera: shown[camera]))


def _spread(pair: Pair, count: int) -> list[int]:
    """`count` of the worlds, one from every part of an episode, every second one moved to where reward is."""
    return [i * pair.sim.num_worlds // count + i % 2 for i in range(count)]


def _draw(pair: Pair, worlds: list[int], render: RenderConfig) -> np.ndarray:
    task = pair.task
    room = task.max_constraints
    sim = WarpSim(task.model, len(worlds), render=render, per_world=task.per_world, max_constraints=room)
    sim.load_state({name: value[torch.tensor(worlds)] for name, value in pair.sim.state().items()})
    return sim.render().numpy()


def picture_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean absolute difference, of 255 shades, of that picture where it is largest."""
    return float(np.abs(ours.astype(np.float32) - theirs).mean((1, 2, 3)).max())


def moving_picture_error(ours: np.ndarray, theirs: np.ndarray, moving: np.ndarray) -> float | None:
    """The same where dm_control shows what moves, of that thing where it is largest; None if too little is in view.

    A thing is a body or a target that shows on `LEAST_PIXELS` or more, or all of them together. What is missing here,
    or elsewhere, leaves its background where dm_control shows it.
    """
    errors = []
    for error, thing in zip(np.abs(ours.astype(np.float32) - theirs).mean(1), moving, strict=True):  # (H, W) each
        things = [(thing >= 0, LEAST_IN_VIEW)]
        things += [(thing == one, LEAST_PIXELS) for one in np.unique(thing) if one >= 0]
        errors += [float(error[shown].mean()) for shown, least in things if shown.sum() >= least]
    return max(errors, default=None)


def _placed(pair: Pair) -> list[str]:
    """Names of bodies and of geoms fixed to the world that the task itself puts somewhere, as its targets."""
    model, places = pair.task.model, pair.sim.data("geom_xpos")
    bodies = [model.body(i).name for i in range(model.nbody) if model.body_mocapid[i] >= 0]
    differ = (places != places[:1]).any(0).any(-1).tolist()
    return bodies + [model.geom(i).name for i in range(model.ngeom) if model.geom_bodyid[i] == 0 and differ[i]]


def _what_moves(pair: Pair, placed: list[str], render: RenderConfig) -> np.ndarray:
    """What moves in dm_control's picture of its present state, int64 (H, W) as in `Pictures`.

    Tendons are left out, since none is drawn here (docs/environments.md); a skin, which hides its bodies, is a thing.
    """
    physics, kinds = pair.reference.physics, mujoco.mjtObj
    model = physics.model.ptr
    camera = find_cameras(model, render.views[:1])[0]
    index, kind = np.moveaxis(
        physics.render(render.height, render.width, camera_id=camera, segmentation=True).astype(np.int64), -1, 0
    )
    geoms = [_thing(model, model.geom(i).name, model.geom_bodyid[i], placed) for i in range(model.ngeom)]
    sites = [_thing(model, model.site(i).name, model.site_bodyid[i], placed) for i in range(model.nsite)]
    found = np.full(index.shape, -1)
    for one, things in ((kinds.mjOBJ_GEOM, geoms), (kinds.mjOBJ_SITE, sites)):
        shown = kind == int(one)
        found[shown] = np.array([*things, -1])[index[shown]]
    found[kind == int(kinds.mjOBJ_SKIN)] = model.nbody + len(placed)
    return found


def _thing(model: mujoco.MjModel, name: str, body: int, placed: list[str]) -> int:
    """The number of what a geom or site called `name` moves with: its body's; a further one for what is placed; -1."""
    if model.body_weldid[body] != 0:
        return int(body)
    name = next((one for one in (name, model.body(body).name) if one in placed), "")
    return model.nbody + placed.index(name) if name else -1
