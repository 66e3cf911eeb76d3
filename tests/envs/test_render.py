"""Pictures show the state."""

import pytest
import torch

from mindreel.envs import TASKS, RandomizeConfig, RenderConfig, WarpSim, make_env
from mindreel.envs.warp.visibility import in_view


def test_the_picture_follows_the_cart_and_the_pole():
    task = TASKS["cartpole-swingup"]()
    sim = WarpSim(task.model, 5, render=RenderConfig())
    sim.qpos.copy_(torch.tensor([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 3.14159], [0.0, 1.5708]]))
    sim.forward()
    pixels = sim.render()
    assert pixels.shape == (5, 3, 64, 64)
    assert pixels.dtype == torch.uint8
    red, green, blue = pixels.float().unbind(1)
    body = (red > blue + 30) & (red > green)  # cart and pole are orange; floor and rail are blue
    rows, columns = torch.arange(64.0)[:, None], torch.arange(64.0)
    area = body.sum((1, 2))
    assert (area > 40).all()
    x, y = (body * columns).sum((1, 2)) / area, (body * rows).sum((1, 2)) / area
    assert x[1] < x[0] - 5 < x[2] - 10  # the cart to the left, in the middle, to the right
    assert y[0] < y[4] - 2 < y[3] - 4  # the pole up, level, hanging (rows count downwards)
    assert x[4] > x[0] + 2  # a positive angle leans to the right


def test_a_moved_target_is_drawn_where_it_is():
    task = TASKS["reacher-easy"]()
    sim = WarpSim(task.model, 2, render=RenderConfig())
    target = task.model.geom("target").id
    sim.data("geom_xpos")[:, target, :2] = torch.tensor([[-0.15, 0.15], [0.15, -0.15]])
    sim.step()
    one, two = sim.render().float()
    red_above_left, red_below_right = (lambda x: x[0, :32, :32].mean()), (lambda x: x[0, 32:, 32:].mean())
    assert red_above_left(one) > red_above_left(two) + 5
    assert red_below_right(two) > red_below_right(one) + 5


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_worlds_drawn_in_parts_look_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five worlds that differ in place, colour, texture, light and camera; more threads than worlds as well."""

    def drawn(count: int) -> list[dict[str, torch.Tensor]]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: count)
        randomize = RandomizeConfig(colors=0.5, textures=0.5, light_strength=0.5, camera_shift=0.1, background="noise")
        kinds = ("pixels", "depth", "segmentation")
        env = make_env(
            "cartpole-swingup", 5, seed=3, observations=kinds, render=RenderConfig(samples=2), randomize=randomize
        )
        torch.manual_seed(0)
        root, shown = env.reset(), []
        for _ in range(3):
            step, root = env.step_and_maybe_reset(root.set("action", 2 * torch.rand(5, 1) - 1))
            shown.append({kind: step["next", kind].clone() for kind in kinds})
        return shown

    for whole, parts in zip(drawn(1), drawn(threads), strict=True):
        for kind, picture in whole.items():
            assert torch.equal(picture, parts[kind]), kind
            assert len(picture.flatten(1).unique(dim=0)) == 5, "the worlds should differ"


def test_a_camera_that_is_not_there_is_named():
    sim = WarpSim(TASKS["pendulum-swingup"]().model, 1)
    with pytest.raises(ValueError, match="no camera 'fixd': did you mean 'fixed'"):
        in_view(sim, RenderConfig(camera="fixd"))


def test_worlds_without_a_camera_say_so():
    sim = WarpSim(TASKS["pendulum-swingup"]().model, 1)
    with pytest.raises(ValueError, match="without a camera"):
        sim.render()
