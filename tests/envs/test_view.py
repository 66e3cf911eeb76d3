"""Where things lie in the picture."""

import pytest
import torch

from mindreel.envs import RenderConfig, WarpSim
from mindreel.envs.tasks import TASKS
from mindreel.envs.warp.visibility import in_view, project

RENDER = RenderConfig(height=48, width=64)


def cartpole(num_worlds: int) -> WarpSim:
    return WarpSim(TASKS["cartpole-swingup"]().model, num_worlds, render=RENDER)


def test_a_body_lies_where_its_pixels_are() -> None:
    """The pole hangs straight down from carts at several places: what differs from a picture without it is the pole."""
    sim = cartpole(4)
    places = torch.tensor([-1.2, -0.3, 0.4, 1.0])
    sim.qpos[:, 0], sim.qpos[:, 1] = places, 0.0
    sim.forward()
    upright = sim.render().int()
    pole = project(sim, sim.data("geom_xpos")[:, [sim.mj_model.geom("pole_1").id]], RENDER)[:, 0]  # (B, 2)
    sim.qpos[:, 1] = torch.pi
    sim.forward()
    marked = (sim.render().int() - upright).abs().sum(1) > 60  # (B, H, W): the pole up, and the pole down
    marked[:, 24:] = False  # only up: the cart is in the middle row
    for mask, (column, row) in zip(marked, pole.tolist(), strict=True):
        rows, columns = mask.nonzero().float().mean(0)
        assert columns.item() == pytest.approx(32 * (column + 1) - 0.5, abs=1.0)
        assert rows.item() == pytest.approx(24 * (row + 1) - 0.5, abs=1.5)


def test_the_rails_ends_are_out_of_view() -> None:
    sim = cartpole(4)
    sim.qpos[:, 0] = torch.tensor([0.0, 1.75, -1.75, 1.5])
    sim.qpos[:, 1] = torch.tensor([0.0, 0.0, 0.0, -torch.pi / 2])  # the last pole lies inwards
    square = RenderConfig(height=64, width=64)
    sim.forward()
    assert in_view(sim, square).tolist() == [True, False, False, True]
    sim.qpos[3, 1] = torch.pi / 2  # outwards
    sim.forward()
    assert in_view(sim, square).tolist() == [True, False, False, False]
    behind = torch.tensor([0.0, -9.0, 1.0]).expand(4, 1, 3)  # behind the camera, which looks along y
    assert project(sim, behind, square).isnan().all()
