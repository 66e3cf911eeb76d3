"""Movies of what cannot happen, beside the same movies without it."""

from dataclasses import replace

import pytest
import torch

from mindreel.envs import RandomizeConfig, RenderConfig, make_env
from mindreel.envs.checks import violations
from mindreel.envs.checks.impossible import largest_body, outer_joints
from mindreel.envs.checks.violations import HIDDEN, Pair, Stage
from mindreel.envs.tasks import TASKS

RENDER = RenderConfig(height=32, width=32)
AT, STEPS = 4, 12


def start_of(task: str, count: int, settle: int = 0) -> dict[str, torch.Tensor]:
    """States of worlds that have acted at random for a while."""
    env = make_env(task, count, observations=("state",), seed=3)
    env.reset()
    for _ in range(settle):
        env.sim.ctrl.copy_(env.sim.ctrl_low + (env.sim.ctrl_high - env.sim.ctrl_low) * torch.rand(env.sim.ctrl.shape))
        env.sim.step()
    return {name: env.sim.data(name).clone() for name in ("qpos", "qvel", "geom_xpos")}


def cartpole() -> tuple[Stage, dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    start = start_of("cartpole-swingup", 4)
    start |= {"qpos": torch.tensor([[0.0, 1.5]] * 4), "qvel": torch.tensor([[0.0, 3.0]] * 4)}
    return Stage("cartpole-swingup", 4, "cpu", RENDER, action_repeat=4), start, torch.rand(4, STEPS, 1) - 0.5


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    stage, start, action = cartpole()
    return dict(stage.pairs(start, action, AT))


def moving(task: str) -> dict[str, Pair]:
    """Of worlds in contact with the floor: with activations (quadruped), and with noise in what is drawn (walker)."""
    torch.manual_seed(0)
    start = start_of(task, 2, settle=30)
    action = 2 * torch.rand(2, STEPS, TASKS[task]().model.nu) - 1
    camera = "x" if task == "quadruped-walk" else 0  # near enough
    stage = Stage(task, 2, "cpu", replace(RENDER, camera=camera), action_repeat=2)
    return dict(stage.pairs(start, action, AT))


@pytest.mark.parametrize("task", ["cartpole-swingup", "walker-walk", "quadruped-walk"])
def test_movies_are_the_same_to_the_bit_until_the_violation_and_differ_after_it(task: str, pairs) -> None:
    for name, pair in (pairs if task == "cartpole-swingup" else moving(task)).items():
        possible, impossible = pair.possible, pair.impossible
        assert possible.frames.shape == impossible.frames.shape == (len(pair.differs), STEPS + 1, 3, 32, 32)
        assert possible.qpos.shape[:2] == (len(pair.differs), STEPS + 1)
        if name == "reverse":
            assert (pair.before, pair.after) == (-1, 0)
            continue
        assert pair.before == AT and pair.after == AT + 1 + HIDDEN * name.startswith("hidden")
        assert torch.equal(possible.frames[:, : pair.after], impossible.frames[:, : pair.after]), name
        assert torch.equal(possible.qpos[:, : AT + 1], impossible.qpos[:, : AT + 1]), name
        assert torch.equal(possible.action, impossible.action)
        apart = (possible.frames[:, pair.after :].int() - impossible.frames[:, pair.after :].int()).abs()
        assert (apart.flatten(1).amax(1) > 30).all() and pair.differs.all(), name


def test_what_was_played_before_leaves_nothing_behind() -> None:
    """A quadruped's motors have activations, and its solver starts from the forces that it found last."""
    start, action = start_of("quadruped-walk", 2, settle=30), 2 * torch.rand(2, 8, 12) - 1
    stage = Stage("quadruped-walk", 2, "cpu", RENDER, action_repeat=2)
    first, again = (dict(stage.pairs(start, action, 2, ("gravity", "freeze"))) for _ in range(2))
    for name in first:
        assert torch.equal(first[name].possible.frames, again[name].possible.frames)
        assert torch.equal(first[name].impossible.qpos, again[name].impossible.qpos)


def test_without_a_change_both_movies_go_on_alike() -> None:
    """An arm on a table feels no gravity, though its worlds are others than those of the possible movie."""
    start = {"qpos": torch.rand(2, 2), "qvel": torch.zeros(2, 2), "geom_xpos": start_of("reacher-easy", 2)["geom_xpos"]}
    stage = Stage("reacher-easy", 2, "cpu", RENDER, action_repeat=2)
    action = torch.rand(2, 6, 2)
    ((_, pair),) = stage.pairs(start, action, 1, ("gravity",))
    assert torch.equal(pair.possible.frames, pair.impossible.frames)
    assert not pair.differs.any()
    with pytest.raises(ValueError, match="Unknown violation 'magic'"):
        stage.pairs(start, action, 1, ("gravity", "magic"))
    with pytest.raises(ValueError, match="A screen needs 5 decisions after frame 2; movies have 6"):
        stage.pairs(start, action, 2)
    assert TASKS["cartpole-swingup"]().model.body(largest_body(TASKS["cartpole-swingup"]().model)).name == "pole_1"


# ---- what violations do ----


def test_what_can_be_seen(pairs) -> None:
    backwards = pairs["reverse"]
    for name in ("frames", "action", "qpos"):
        assert torch.equal(getattr(backwards.impossible, name), getattr(backwards.possible, name).flip(1))
    frames = {name: (pair.possible.frames.int(), pair.impossible.frames.int()) for name, pair in pairs.items()}
    apart = {name: (impossible[:, 5] - possible[:, 5]).abs().sum() for name, (possible, impossible) in frames.items()}
    assert apart["teleport"] > 2 * apart["gravity"]  # at once, where gravity bends the way
    real, gone = (x[:, 5:].float() for x in frames["vanish"])
    assert gone.var(1).sum() < 0.7 * real.var(1).sum()  # less is left that moves
    green = lambda x: (x[:, :, 1] - x[:, :, 0]).clamp(min=0).flatten(1).sum(1)
    assert (green(frames["swap"][1]) > green(frames["swap"][0]) + 100).all()


def test_a_frozen_limb_does_not_move_and_the_rest_does() -> None:
    torch.manual_seed(0)
    start, action = start_of("walker-walk", 3, settle=30), 2 * torch.rand(3, STEPS, 6) - 1
    ((_, pair),) = Stage("walker-walk", 3, "cpu", RENDER, 2).pairs(start, action, AT, ("freeze",))
    place, _ = outer_joints(TASKS["walker-walk"]().model)
    travelled = lambda movie, part: movie.qpos[:, AT:, part].diff(dim=1).abs().sum((1, 2))
    limbs, rest = slice(place, None), slice(None, place)
    assert (travelled(pair.impossible, limbs) == 0).all()
    assert (travelled(pair.possible, limbs) > 0.5).all()
    assert (travelled(pair.impossible, rest) > 0.1).all()


def test_with_friction_joints_soon_come_to_rest() -> None:
    """A cart that coasts for 12 decisions of 4 steps of 10 ms: at a rate of 5 a second it loses most of its speed."""
    stage, start, _ = cartpole()
    start |= {"qpos": torch.tensor([[-1.0, 3.1416]] * 4), "qvel": torch.tensor([[2.0, 0.0]] * 4)}  # the pole hangs
    ((_, pair),) = stage.pairs(start, torch.zeros(4, STEPS, 1), AT, ("friction",))
    speed = lambda movie: movie.qpos[:, -4:, 0].diff(dim=1).mean(1)
    assert (speed(pair.impossible) < 0.5 * speed(pair.possible)).all()
    way = lambda movie: movie.qpos[:, -1, 0] - movie.qpos[:, AT, 0]
    assert (way(pair.impossible) > 0).all() and (way(pair.impossible) < 0.8 * way(pair.possible)).all()


def test_turned_gravity_pulls_upwards() -> None:
    stage, start, _ = cartpole()
    start |= {"qpos": torch.tensor([[0.0, 1.5]] * 4), "qvel": torch.zeros(4, 2)}
    ((_, pair),) = stage.pairs(start, torch.zeros(4, STEPS, 1), AT, ("gravity",))
    height = lambda movie: movie.qpos[:, -1, 1].cos()
    assert (height(pair.impossible) > height(pair.possible) + 0.1).all()


# ---- behind a screen ----


def test_a_screen_hides_all_that_differs_and_then_is_gone(pairs) -> None:
    for name in ("hidden_vanish", "hidden_teleport"):
        pair = pairs[name]
        for movie in (pair.possible, pair.impossible):
            screen = (movie.frames == 128).all(2).flatten(2).sum(2)  # pixels (M, T + 1)
            assert (screen[:, AT + 1 : pair.after] >= 9).all()
            assert (screen[:, : AT + 1] == 0).all() and (screen[:, pair.after :] == 0).all()
    # What is beside the screen is the plain movie's.
    plain, hidden = pairs["teleport"], pairs["hidden_teleport"]
    seen = (hidden.possible.frames != 128).any(2, keepdim=True).expand_as(plain.possible.frames)
    assert torch.equal(hidden.possible.frames[seen], plain.possible.frames[seen])
    shown = slice(hidden.after, None)
    assert torch.equal(hidden.impossible.frames[:, shown], plain.impossible.frames[:, shown])


def test_what_the_screen_reveals_is_as_often_possible_as_not(pairs) -> None:
    real, gone = pairs["vanish"].possible.frames, pairs["vanish"].impossible.frames
    pair, shown = pairs["hidden_vanish"], slice(pairs["hidden_vanish"].after, None)
    assert torch.equal(pair.possible.frames[0::2, shown], real[0::2, shown])
    assert torch.equal(pair.impossible.frames[0::2, shown], gone[0::2, shown])
    assert torch.equal(pair.possible.frames[1::2, shown], gone[1::2, shown])
    assert torch.equal(pair.impossible.frames[1::2, shown], real[1::2, shown])
    assert torch.equal(pair.impossible.frames[0::2, :AT], real[0::2, :AT])
    assert (pair.impossible.frames[1::2, :AT] != real[1::2, :AT]).flatten(1).any(1).all()  # no body from the start


def test_noise_makes_no_screen_and_no_pair() -> None:
    """A level or two everywhere, as two simulations of the same scene can differ by, and a body of 2 x 3 pixels."""
    frames = torch.randint(50, 60, (2, 8, 3, 16, 16), dtype=torch.uint8)
    noisy = frames + torch.randint(0, 3, frames.shape, dtype=torch.uint8)
    assert not violations._differ(frames, noisy).any()
    noisy[0, 3:, 1, 4:6, 7:10] += 40  # in one world
    assert violations._differ(frames, noisy).tolist() == [True, False]
    assert not violations._differ(frames[:, :3], noisy[:, :3]).any()
    movies = (violations.Movie(x, torch.zeros(2, 7, 1), torch.zeros(2, 8, 1)) for x in (frames, noisy))
    possible, impossible = violations._behind_a_screen(*movies, before=2, after=6)
    assert torch.equal(possible.frames[:, 3:6], impossible.frames[:, 3:6])
    screen = (possible.frames == 128).all(2)  # (M, T + 1, H, W)
    assert screen[0, 3:6, 4:6, 7:10].all() and screen.sum() == 3 * 6
    pair = moving("walker-walk")["hidden_vanish"]  # a walker's torso and what hangs on it, not the whole picture
    covered = (pair.possible.frames[:, AT + 1] == 128).all(1).flatten(1).float().mean(1)
    assert (covered > 0).all() and (covered < 0.4).all()


# ---- the worlds of the rollouts ----


def test_worlds_are_those_of_the_config() -> None:
    _, start, action = cartpole()
    plain = Stage("cartpole-swingup", 4, "cpu", RENDER, action_repeat=1)
    slow = Stage("cartpole-swingup", 4, "cpu", RENDER, action_repeat=1, frame_skip=3)
    moved = [next(stage.pairs(start, action, AT, ("freeze",)))[1].possible.qpos for stage in (plain, slow)]
    assert torch.allclose(moved[1][:, 1], moved[0][:, 1] * 3 - moved[0][:, 0] * 2, atol=0.05)  # three times as far
    assert (moved[1][:, 1] - moved[0][:, 1]).abs().amax(1).min() > 0.01
    cramped = Stage("walker-walk", 2, "cpu", RENDER, action_repeat=2, max_constraints=1)
    fallen = start_of("walker-walk", 2, settle=60)
    assert not next(cramped.pairs(fallen, torch.zeros(2, STEPS, 6), AT, ("vanish",)))[1].differs.any()  # no room


def test_worlds_have_the_room_that_their_task_asks_for() -> None:
    def room(**given: int) -> int:
        return Stage("stacker-stack_4", 1, "cpu", RenderConfig(), 1, **given)._sim("").room["max_constraints"]

    assert room() == TASKS["stacker-stack_4"]().max_constraints == 160
    assert room(max_constraints=90) == 90


def test_worlds_that_differ_differ_alike_in_both_movies() -> None:
    _, start, action = cartpole()
    looks = RandomizeConfig(colors=0.5, friction=0.3, latency=2, background="noise")
    stage = Stage("cartpole-swingup", 4, "cpu", RENDER, action_repeat=2, randomize=looks)
    pairs = dict(stage.pairs(start, action, AT, ("swap", "friction", "gravity")))
    for name, pair in pairs.items():
        assert torch.equal(pair.possible.frames[:, : AT + 1], pair.impossible.frames[:, : AT + 1]), name
        assert pair.differs.all(), name
        assert len(pair.possible.frames[:, 0].flatten(1).unique(dim=0)) == 4  # each has a background of its own
    # The body's new colour is not undone by the colours that each world carries along.
    changed = (pairs["swap"].impossible.frames != pairs["swap"].possible.frames).any(2)[:, -1]  # (M, H, W)
    colour = pairs["swap"].impossible.frames[:, -1].permute(0, 2, 3, 1)[changed].float().mean(0)
    assert colour[1] > 1.5 * colour[0]
    uniform = replace(looks, background="", colors=0.0)
    assert Stage("cartpole-swingup", 4, "cpu", RENDER, 2, randomize=uniform)._sim("").per_world == ("geom_friction",)


def test_friction_of_worlds_with_their_own_is_raised_too() -> None:
    stage = Stage("walker-walk", 2, "cpu", RENDER, 2, randomize=RandomizeConfig(friction=0.3))
    start, action = start_of("walker-walk", 2, settle=60), torch.zeros(2, STEPS, 6)
    list(stage.pairs(start, action, AT, ("friction",)))
    plain, rough = (stage._sim(name).model("geom_friction") for name in ("", "friction"))
    assert (rough[..., 0] > 3 * plain[..., 0]).all()
