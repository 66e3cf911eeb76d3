"""Environments of Gymnasium as people write them: played as meant, or refused in one sentence that names them."""

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from mindreel.envs import EnvConfig, RenderConfig, Worlds, make_env
from mindreel.envs.backends.gym_player import GymPlayer

SHADE = 51  # of 255: exact as a float too


class Plain(gymnasium.Env):
    """An episode of 20 steps whose observation is the time that has passed, of 1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space: spaces.Space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def observe(self):
        return np.full(3, self.t / 20, np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def reward(self, action):
        return 1.0

    def step(self, action):
        self.t += 1
        return self.observe(), self.reward(action), self.t >= 20, False, {}

    def render(self):
        return np.full((40, 60, 3), SHADE, np.uint8)


def changed(**attributes) -> type[Plain]:
    return type("Changed", (Plain,), attributes)


@pytest.fixture
def play():
    """Registers a class under a name and makes its worlds."""
    names = []

    def make(name: str, cls: type, observations: tuple[str, ...] = ("state",), **settings) -> Worlds:
        names.append(f"{name}-v0")
        gymnasium.register(names[-1], cls, max_episode_steps=100)
        settings = {"backend": "gym", "workers": 0, "action_repeat": 1, "render": RenderConfig(8, 12)} | settings
        return make_env(names[-1], 2, observations=observations, **settings)

    yield make
    for name in names:
        del gymnasium.registry[name]


def step(env: Worlds, action: torch.Tensor | None = None):
    action = env.action_spec.rand() if action is None else action
    return env.step(env.reset().set("action", action))["next"]


# ---- actions ----


def legal(self, action) -> float:
    return float(self.action_space.contains(np.asarray(action, self.action_space.dtype)))


@pytest.mark.parametrize(
    ("low", "high", "least", "greatest"),
    [
        ([0.0, 2.0], [np.inf, np.inf], [0, 2], [2, 4]),
        ([-np.inf, -np.inf], [-3.0, 5.0], [-5, 3], [-3, 5]),
        ([-np.inf, 0.0], [np.inf, 4.0], [-1, 0], [1, 4]),
    ],
)
def test_actions_without_bounds_are_legal_and_their_reach_is_said(play, low, high, least, greatest):
    space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    with pytest.warns(RuntimeWarning, match=f"Open-v0: .*no bounds.* 0 from {least[0]:g} to {greatest[0]:g}"):
        env = play("Open", changed(action_space=space, reward=legal))
    player = env._players._groups._target.players[0]
    np.testing.assert_allclose(player._action(-np.ones(2)), least)
    np.testing.assert_allclose(player._action(np.ones(2)), greatest)
    env.reset()
    for _ in range(10):
        assert (step(env)["reward"] == 1).all()


def test_whole_numbers_are_all_reached(play):
    space = spaces.Box(0, 4, (1,), np.int64)
    player = GymPlayer("Pendulum-v1", EnvConfig(), ("state",))
    player._space = space
    drawn = [int(player._action(np.array([x]))[0]) for x in np.linspace(-1, 1, 101)]
    assert set(drawn) == {0, 1, 2, 3, 4} and drawn == sorted(drawn) and min(map(drawn.count, drawn)) > 10
    player.close()


# ---- pictures ----


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8])
def test_frames_of_any_number_type_are_as_bright_as_meant(play, kind):
    def render(self):
        frame = Plain.render(self)
        return (frame / 255).astype(kind) if np.issubdtype(kind, np.floating) else frame.astype(kind)

    assert (step(play("Bright", changed(render=render), ("pixels",)))["pixels"] == SHADE).all()


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (np.full((40, 60, 3), 180.0), "float64 from 180 to 180: expected uint8"),
        (np.full((40, 60, 3), -0.5), "float64 from -0.5 to -0.5"),
        (np.full((40, 60, 3), np.nan), "float64 from nan to nan"),
        (np.full((40, 60, 3), 300), "int64 from 300 to 300"),
        (np.zeros((40, 60, 7), np.uint8), r"uint8 \(60, 7, 40\)"),
        (np.zeros(5), r"got float64 \(5,\)"),
        (None, "render\\(\\) returns nothing"),
        ("text", "got <U4"),
    ],
)
def test_frames_that_mean_nothing_are_refused(play, frame, fault):
    with pytest.raises(ValueError, match=f"^Strange-v0.*{fault}"):
        step(play("Strange", changed(render=lambda self: frame), ("pixels",)))


@pytest.mark.parametrize("top", [1, 255])
def test_an_observation_of_floats_in_the_shape_of_a_picture_is_one(play, top):
    space = spaces.Box(0, top, (40, 60, 3), np.float32)
    cls = changed(observation_space=space, observe=lambda self: np.full((40, 60, 3), top * SHADE / 255, np.float32))
    env = play("Floats", cls, ("pixels", "state"))
    seen = env.reset()
    assert (seen["pixels"] == SHADE).all() and seen["state"].shape == (2, 0)


# ---- observations ----

NESTED = spaces.Dict(
    {
        "arm": spaces.Dict({"angle": spaces.Box(-1, 1, (2,)), "camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)}),
        "pair": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (1,)))),
    }
)


def test_nested_observations_are_taken_apart(play):
    value = {"arm": {"angle": np.array([0.1, 0.2], np.float32), "camera": np.full((8, 8, 3), 9, np.uint8)}}
    value |= {"pair": (1, np.array([0.5], np.float32))}
    env = play("Nested", changed(observation_space=NESTED, observe=lambda self: value), ("pixels", "state"))
    seen = env.reset()
    assert (seen["pixels"] == 9).all()
    np.testing.assert_allclose(seen["state"][0], [0.1, 0.2, 0, 1, 0, 0.5])  # one of three is one-hot


def test_text_beside_numbers_is_left_out_and_said(play):
    space = spaces.Dict({"mission": spaces.Text(20), "x": spaces.Box(-1, 1, (2,))})
    cls = changed(observation_space=space, observe=lambda self: {"mission": "go", "x": np.ones(2, np.float32)})
    with pytest.warns(RuntimeWarning, match="Told-v0: its observation 'mission' is no numbers but Text"):
        env = play("Told", cls)
    assert env.reset()["state"].tolist() == [[1, 1]] * 2


@pytest.mark.parametrize("space", [spaces.Text(20), spaces.Sequence(spaces.Box(0, 1, (2,)))])
def test_text_alone_is_refused(play, space):
    with pytest.raises(ValueError, match="^Words-v0 observes .* numbers or a picture are needed"):
        play("Words", changed(observation_space=space, observe=lambda self: "go"))


@pytest.mark.parametrize("value", ["text", np.zeros(4, np.float32), {"a": 1}, None])
def test_an_observation_outside_its_space_is_refused(play, value):
    with pytest.raises(ValueError, match="^Wrong-v0: its observation does not fit its own observation_space"):
        play("Wrong", changed(observe=lambda self: value))


def test_minigrid():
    pytest.importorskip("minigrid")
    settings = {"backend": "gym", "workers": 0, "observations": ("pixels", "state")}
    with pytest.warns(RuntimeWarning, match="'mission' is no numbers"):
        env = make_env("minigrid:MiniGrid-Empty-5x5-v0", 2, **settings)
    seen = env.reset()
    assert seen["state"].shape == (2, 4 + 7 * 7 * 3) and env.action_dim == 7  # direction and map; what it draws is seen
    assert seen["pixels"].float().mean() > 20
    assert step(env)["pixels"].shape == (2, 3, 64, 64)


# ---- rewards, and the interface ----


@pytest.mark.parametrize("reward", [np.array([0.5], np.float32), np.float64(0.5), torch.tensor(0.5), np.array(0.5)])
def test_a_reward_may_be_any_single_number(play, reward):
    assert (step(play("Paid", changed(reward=lambda self, action: reward)))["reward"] == 0.5).all()


def raises(error: Exception) -> Callable:
    def method(self, *_, **__):
        raise error

    return method


def old_step(self, action):
    observation, reward, terminated, _, info = Plain.step(self, action)
    return observation, reward, terminated, info


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ({"reward": lambda self, action: None}, r"its reward should be one number, got None\."),
        ({"reward": lambda self, action: np.ones(3)}, r"its reward should be one number, got ndarray \(3,\)"),
        ({"reward": lambda self, action: "much"}, "its reward should be one number, got str"),
        ({"reset": lambda self, **_: Plain.reset(self)[0]}, r"its reset\(\) returns ndarray \(3,\).*Gym before 0.26"),
        ({"reset": lambda self: Plain.reset(self)}, r"its reset\(\) fails: TypeError: .*'seed'"),
        ({"step": old_step}, r"its step\(\) returns too few or too many values.*Gym before 0.26"),
        ({"step": raises(KeyError("lost"))}, r"its step\(\) fails: KeyError: 'lost' \(test_gym_player.py, line \d+\)"),
        ({"reset": raises(OSError("gone"))}, r"its reset\(\) fails: OSError: gone"),
        ({"render": raises(RuntimeError("dark"))}, r"its render\(\) fails: RuntimeError: dark"),
        ({"__init__": raises(AttributeError("no file"))}, "AttributeError: no file"),
    ],
)
def test_what_breaks_the_interface_is_named_in_one_sentence(play, attributes, fault):
    seen = ("pixels",) if "render" in attributes else ("state",)
    with pytest.raises(ValueError, match=fault) as caught:
        step(play("Broken", changed(**attributes), seen))
    assert "Broken-v0" in str(caught.value) and "\n" not in str(caught.value)


def test_an_old_environment_without_a_time_limit_is_named_too():
    gymnasium.register("Endless-v0", changed(step=old_step))
    try:
        env = make_env("Endless-v0", 1, observations=("state",), backend="gym", workers=0)
        with pytest.raises(ValueError, match=r"Endless-v0: its step\(\) returns tuple of 4, no five values"):
            step(env)
    finally:
        del gymnasium.registry["Endless-v0"]
