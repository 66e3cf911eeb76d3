"""Where things lie in the picture, and movies of what cannot happen."""

import pytest
import torch

from envs import RenderConfig, WarpSim
from envs.tasks import TASKS
from envs.view import in_view, project
from envs.violations import VIOLATIONS, Stage, largest_body

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


@pytest.fixture(scope="module")
def pairs() -> dict:
    torch.manual_seed(0)
    count, steps = 3, 12
    stage = Stage("cartpole-swingup", count, "cpu", RenderConfig(height=32, width=32), action_repeat=4)
    geoms = WarpSim(TASKS["cartpole-swingup"]().model, count).data("geom_xpos").clone()
    start = {"qpos": torch.tensor([[0.0, 1.5]] * count), "qvel": torch.tensor([[0.0, 3.0]] * count)}
    action = torch.rand(count, steps, 1) - 0.5
    return {name: stage.pair(name, start | {"geom_xpos": geoms}, action, at=4) for name in VIOLATIONS}


def test_movies_are_alike_until_the_violation(pairs) -> None:
    for name, pair in pairs.items():
        assert pair.possible.shape == pair.impossible.shape == (3, 13, 3, 32, 32)
        assert pair.differs.all(), name
        if name != "reverse":
            assert torch.equal(pair.possible[:, :5], pair.impossible[:, :5]), name
            assert torch.equal(pair.possible_action, pair.impossible_action)
    for name in ("gravity", "friction", "freeze", "teleport"):
        assert torch.equal(pairs[name].possible, pairs["vanish"].possible)  # all beside one and the same movie


def test_what_violations_do(pairs) -> None:
    backwards = pairs["reverse"]
    assert torch.equal(backwards.impossible, backwards.possible.flip(1))
    assert torch.equal(backwards.impossible_action, backwards.possible_action.flip(1))
    apart = lambda pair: (pair.impossible[:, 5].int() - pair.possible[:, 5].int()).abs().sum()
    assert apart(pairs["teleport"]) > 2 * apart(pairs["gravity"])  # at once, where gravity bends the way
    gone, real = pairs["vanish"].impossible[:, 5:].float(), pairs["vanish"].possible[:, 5:].float()
    assert gone.var(1).sum() < 0.7 * real.var(1).sum()  # less is left that moves
    green = lambda frames: (frames[:, :, 1].int() - frames[:, :, 0].int()).clamp(min=0).flatten(1).sum(1)
    assert (green(pairs["swap"].impossible) > green(pairs["swap"].possible) + 100).all()


def test_a_box_hides_what_vanishes_behind_it(pairs) -> None:
    for name in ("hidden_vanish", "hidden_teleport"):
        pair = pairs[name]
        box = (pair.possible == 128).all(2)  # (M, T + 1, H, W)
        assert (box[:, 4].flatten(1).sum(1) >= 9).all()
        differs = (pair.possible != pair.impossible).any(2)
        assert not differs[:, :11].any()  # behind the box nothing can be told apart
        assert differs[:, 11:].flatten(1).any(1).all()


def test_an_arm_on_a_table_feels_no_gravity() -> None:
    stage = Stage("reacher-easy", 2, "cpu", RenderConfig(height=32, width=32), action_repeat=2)
    sim = WarpSim(TASKS["reacher-easy"]().model, 2)
    start = {"qpos": torch.rand(2, 2), "qvel": torch.zeros(2, 2), "geom_xpos": sim.data("geom_xpos").clone()}
    pair = stage.pair("gravity", start, torch.zeros(2, 4, 2), at=1)
    assert not pair.differs.any()
    with pytest.raises(ValueError, match="Unknown violation 'magic'"):
        stage.pair("magic", start, torch.zeros(2, 4, 2), at=1)
    model = TASKS["cartpole-swingup"]().model
    assert model.body(largest_body(model)).name == "pole_1"
