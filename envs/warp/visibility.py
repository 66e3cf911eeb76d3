"""What the camera sees: where points of the worlds lie in the picture."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math

import mujoco
import torch

from mindreel.envs.warp.cameras import RenderConfig, find_cameras
from mindreel.envs.warp.simulation import WarpSim


def project(sim: WarpSim, points: torch.Tensor, render: RenderConfig) -> torch.Tensor:
    """Places of points (B, P, 3), in metres, in the camera's picture: (B, P, 2), column and row.

    The picture reaches from -1 to 1, from left to right and from top to bottom. A point behind the camera is NaN.

    Raises:
        ValueError: for a camera that the model lacks.
    """
    camera = find_cameras(sim.mj_model, (render.camera,))[0]
    centre, turned = sim.data("cam_xpos")[:, camera], sim.data("cam_xmat")[:, camera]  # (B, 3), (B, 3, 3)
    seen = (points - centre[:, None]) @ turned  # in the camera's axes: right, up, backwards
    depth = torch.where(seen[..., 2] < 0, -seen[..., 2], torch.nan)
    half = math.tan(math.radians(float(sim.mj_model.cam_fovy[camera])) / 2)  # of the picture's height, at depth 1
    column = seen[..., 0] / (depth * half * render.width / render.height)
    return torch.stack([column, -seen[..., 1] / (depth * half)], -1)


def in_view(sim: WarpSim, render: RenderConfig) -> torch.Tensor:
    """Worlds that show the middle of everything that moves, (B,) bool."""
    geoms = torch.as_tensor(moving_geoms(sim.mj_model), device=sim.device)
    return (project(sim, sim.data("geom_xpos")[:, geoms], render).abs() <= 1).all(-1).all(-1)


def moving_geoms(model: mujoco.MjModel) -> list[int]:
    """Geoms that some joint moves."""
    return [geom for geom in range(model.ngeom) if model.body_weldid[model.geom_bodyid[geom]] != 0]
