"""Worlds of other simulators behave as ours do, and an agent moves between them."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.envs.utils import check_env_specs

from mindreel.envs import EnvConfig, RenderConfig, Worlds, make_env
from mindreel.envs.backends.dm_control import DMControlEnv
from mindreel.envs.backends.gym_player import GymPlayer

ROOT = Path(__file__).parents[2]
WORLDS = 3


def play(env: Worlds, actions: torch.Tensor):
    """Transitions (T, B) of the given actions (T, B, A)."""
    root, steps = env.reset(), []
    for action in actions:
        step, root = env.step_and_maybe_reset(root.set("action", action))
        steps.append(step.clone())
    return torch.stack(steps)


def actions(env: Worlds, steps: int) -> torch.Tensor:
    return 2 * torch.rand(steps, env.num_envs, env.action_dim, generator=torch.Generator().manual_seed(0)) - 1


def official(**changes) -> Worlds:
    settings = dict(num_envs=WORLDS, observations=("state",), backend="dm_control", workers=0, seed=5)
    return make_env("walker-walk", **(settings | changes))


def test_official_worlds_look_like_ours():
    ours, theirs = make_env("walker-walk", WORLDS, observations=("state",)), official()
    check_env_specs(theirs)
    for name in ("state_names", "action_dim", "episode_steps", "behaviours", "task_name", "batch_size"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert theirs.decision_seconds == pytest.approx(ours.decision_seconds)
    for spec in ("observation_spec", "action_spec", "reward_spec", "done_spec"):
        assert getattr(ours, spec) == getattr(theirs, spec), spec
    skipping = {"frame_skip": 20, "time_limit": None, "action_repeat": 4}
    assert official(**skipping).episode_steps == make_env("walker-walk", 1, **skipping).episode_steps == 125


def test_official_worlds_are_the_official_environment():
    env = official(time_limit=4)
    moves = actions(env, 9)
    steps = play(env, moves)
    assert steps["next", "truncated"][:, :, 0].all(1).nonzero()[:, 0].tolist() == [3, 7]
    assert not steps["next", "terminated"].any()
    reference = DMControlEnv("walker-walk")
    reference.env.task.random.seed(seed_of(5, 0))
    reference.reset()  # the episode that the environment starts when it is made
    reference.reset()
    for t in range(4):
        np.testing.assert_array_equal(steps["state"][t, 0], reference.state())
        state, reward, _ = reference.step(moves[t, 0].numpy())
        np.testing.assert_array_equal(steps["next", "state"][t, 0], state)
        assert steps["next", "reward"][t, 0].item() == pytest.approx(reward, abs=1e-5)
    assert reference.physics.data.time == pytest.approx(8 * 0.025)
    assert not torch.equal(steps["state"][0, 0], steps["state"][0, 1])
    assert env.counters == {
        "env_frames": 9 * 2 * WORLDS,
        "repaired_worlds": 0,
        "overflowed_worlds": 0,
        "faulty_decisions": 0,
    }


def seed_of(seed: int, world: int) -> int:
    return int(np.random.SeedSequence((seed, world)).generate_state(1)[0] >> 1)


def test_the_number_of_worlds_does_not_change_the_first():
    one, many = official(num_envs=1), official()
    moves = actions(many, 3)
    assert torch.equal(play(one, moves[:, :1])["next", "state"][:, 0], play(many, moves)["next", "state"][:, 0])


def test_a_world_whose_physics_gives_up_is_counted_and_starts_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log
    env = official()
    root = env.reset()
    env._players._groups._target.players[1]._env.physics.data.qvel[:] = np.nan
    step, root = env.step_and_maybe_reset(root.set("action", torch.zeros(WORLDS, 6)))
    after = step["next"]
    assert after["truncated"][:, 0].tolist() == [False, True, False]
    assert after["reward"][1] == 0 and after["state"].isfinite().all()
    assert root["state"].isfinite().all()
    assert env.counters["repaired_worlds"] == 1


def test_bad_actions():
    env = official()
    wild = torch.full((WORLDS, 6), 7.0)
    env.set_seed(2)
    one = env.step(env.reset().set("action", wild))["next", "state"]
    env.set_seed(2)
    two = env.step(env.reset().set("action", wild.clamp(-1, 1)))["next", "state"]
    assert torch.equal(one, two)
    wild[2] = torch.nan
    with pytest.raises(ValueError, match=r"\[2\] are NaN"):
        env.step(env.reset().set("action", wild))


def test_pictures_of_the_official_worlds():
    render = RenderConfig(height=32, width=48, cameras=("side", "back"))
    reference = DMControlEnv("walker-walk")
    reference.reset()
    try:
        standard = reference.pixels(render)
    except (ValueError, ImportError, AttributeError, RuntimeError) as error:
        pytest.skip(f"no GL here: {error}")
    assert standard.shape == render.shape
    names = ("pixels", "state", "depth", "segmentation")
    env = make_env("walker-walk", 2, observations=names, render=render, backend="dm_control", workers=0)
    ours = make_env("walker-walk", 2, observations=names, render=render)
    for spec in names:
        assert ours.observation_spec[spec] == env.observation_spec[spec]
    root = env.reset()
    player = env._players._groups._target.players[0]._env
    ours.sim.qpos[0] = torch.as_tensor(player.physics.data.qpos)
    ours.sim.forward()
    seen = ours.sim.pictures()
    difference = (seen["pixels"][0].int() - root["pixels"][0].int()).abs().float().mean()
    assert difference < 8  # of 255
    assert (seen["segmentation"][0] == root["segmentation"][0]).float().mean() > 0.95
    near = (seen["depth"][0] > 0) & (root["depth"][0] > 0)
    assert (seen["depth"][0] - root["depth"][0])[near].abs().median() < 0.02
    player.fast_render = False
    shadowed = torch.as_tensor(player.pixels(render)).int()
    assert (shadowed - root["pixels"][0].int()).abs().float().mean() > 1  # sky and shadows


@pytest.mark.parametrize("task", ["reacher-easy", "quadruped-escape"])
def test_official_pictures_have_their_samples_whatever_was_drawn_before(task):
    """OpenGL keeps those of its first picture, which may be the depth, or the reset of quadruped-escape."""

    def shown(samples: int, *observations: str) -> torch.Tensor:
        render = RenderConfig(height=48, width=48, samples=samples)
        env = make_env(task, 1, seed=3, observations=observations, render=render, backend="dm_control", workers=0)
        pixels = env.observe()["pixels"].int()
        env.close()
        return pixels

    try:
        alone = shown(1, "pixels")
    except (ValueError, ImportError, AttributeError, RuntimeError) as error:
        pytest.skip(f"no GL here: {error}")
    assert torch.equal(alone, shown(1, "depth", "pixels"))
    assert torch.equal(shown(2, "pixels"), shown(2, "depth", "pixels"))
    assert (alone - shown(2, "pixels")).abs().float().mean() > 0.3  # edges are smooth with four rays a pixel


class Grey(gymnasium.Env):
    """Shows a grey picture whose brightness is the last action, of three."""

    observation_space = spaces.Box(0, 255, (40, 20), np.uint8)
    action_space = spaces.Discrete(3, start=5)
    metadata = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((40, 20), np.uint8), {}

    def step(self, action):
        return np.full((40, 20), 10 * action, np.uint8), float(action), action == 7, False, {}


class Choosy(Grey):
    """Takes actions that no agent here can choose."""

    action_space = spaces.MultiDiscrete([2, 2])


class Failing(gymnasium.Env):
    """Shows its last action; gives NaN as its state from 0.5 on and as its reward from -0.5 on downwards."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))
    metadata = {"render_modes": ["rgb_array"]}  # which is not so: its constructor takes none

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        state, reward = (np.float32("nan") if wrong else action[0] for wrong in (action[0] > 0.5, action[0] < -0.5))
        return np.full(1, state), float(reward), False, False, {}


class Stillborn(Failing):
    """Starts with NaN."""

    def reset(self, *, seed=None, options=None):
        return np.full(1, np.nan, np.float32), {}


def shows(space: spaces.Space) -> type[gymnasium.Env]:
    """An environment that shows what its space draws, with one seed."""

    class Shows(Grey):
        observation_space = space

        def reset(self, *, seed=None, options=None):
            self.observation_space.seed(0)
            return self.observation_space.sample(), {}

    return Shows


PICTURE = spaces.Box(0, 255, (8, 12, 3), np.uint8)
NAMED = {
    "Grey-v0": Grey,
    "Choosy-v0": Choosy,
    "Failing-v0": Failing,
    "Stillborn-v0": Stillborn,
    "Parts-v0": shows(spaces.Dict(arm=spaces.Box(-1, 1, (2,)), front=PICTURE, hand=spaces.Box(-1, 1, (3,)))),
    "Pictures-v0": shows(spaces.Dict(front=PICTURE, side=PICTURE)),
    "ChannelsFirst-v0": shows(spaces.Box(0, 255, (3, 8, 12), np.uint8)),
    "Stacked-v0": shows(spaces.Box(0, 255, (9, 8, 12), np.uint8)),
}


@pytest.fixture(scope="module", autouse=True)
def registered():
    for name, cls in NAMED.items():
        gymnasium.register(name, cls)
    yield
    for name in NAMED:
        del gymnasium.registry[name]


def test_any_environment_of_gymnasium():
    """Played in processes of their own, unevenly shared out."""
    env = make_env("Pendulum-v1", WORLDS, observations=("state",), backend="gym", workers=2, seed=1)
    assert (env.action_dim, env.episode_steps, len(env.state_names)) == (1, 100, 3)
    moves = actions(env, 3)
    steps = play(env, moves)
    reference = gymnasium.make("Pendulum-v1")
    reference.reset(seed=seed_of(1, 2))
    state, _ = reference.reset()
    np.testing.assert_array_equal(steps["state"][0, 2], state)
    for t in range(3):
        total = 0.0
        for _ in range(2):
            state, reward, *_ = reference.step(2 * moves[t, 2].numpy())  # its torque reaches from -2 to 2
            total += float(reward)
        np.testing.assert_allclose(steps["next", "state"][t, 2], state, atol=1e-5)
        assert steps["next", "reward"][t, 2].item() == pytest.approx(total, abs=1e-4)
    env.close()
    assert not env._players.close.alive


def test_discrete_actions_grey_pictures_and_terminations():
    render = RenderConfig(height=8, width=8)
    env = make_env("Grey-v0", 2, observations=("pixels",), backend="gym", workers=0, action_repeat=1, render=render)
    check_env_specs(env)
    root = env.reset()
    choice = torch.tensor([[0.1, 0.3, -1.0], [-0.5, -0.6, -0.4]])
    step, root = env.step_and_maybe_reset(root.set("action", choice))
    after = step["next"]
    assert after["reward"][:, 0].tolist() == [6, 7]  # its actions are called 5, 6 and 7
    assert after["terminated"][:, 0].tolist() == [False, True] and not after["truncated"].any()
    assert after["pixels"].shape == (2, 3, 8, 8)
    assert (after["pixels"][0] == 60).all() and (after["pixels"][1] == 70).all()
    assert (root["pixels"][0] == 60).all() and (root["pixels"][1] == 0).all()
    assert env.episode_steps == 1000  # it has no limit of its own
    limited = make_env("Grey-v0", 1, observations=("pixels",), backend="gym", workers=0, time_limit=2)
    ends = play(limited, -torch.ones(4, 1, 3))["next", "truncated"]
    assert ends.flatten().tolist() == [False, True, False, True]


def test_numbers_that_are_not_finite_do_not_reach_the_agent():
    """As a world of `WarpEnv` that breaks: no reward, the last good observation, truncated, counted, started anew."""
    env = make_env("Failing-v0", 4, observations=("state",), backend="gym", workers=0, action_repeat=1)
    _, root = env.step_and_maybe_reset(env.reset().set("action", torch.full((4, 1), 0.25)))
    action = torch.tensor([[0.5], [0.75], [-0.75], [-0.5]])
    with pytest.warns(RuntimeWarning, match="The task Failing-v0 gave numbers that are not finite, in: reward, obs"):
        step, root = env.step_and_maybe_reset(root.set("action", action))
    after = step["next"]
    assert after["state"][:, 0].tolist() == [0.5, 0.25, 0.25, -0.5]
    assert after["reward"][:, 0].tolist() == [0.5, 0, 0, -0.5]
    assert after["truncated"][:, 0].tolist() == after["done"][:, 0].tolist() == [False, True, True, False]
    assert root["state"][:, 0].tolist() == [0.5, 0, 0, -0.5]
    assert env.counters["repaired_worlds"] == env.counters["faulty_decisions"] == 2
    assert env.broken.tolist() == [False, True, True, False]
    with pytest.raises(ValueError, match="The task Failing-v0 gave .* in 10[0-9] of 1[0-9]* decisions"):
        for _ in range(30):
            env.step_and_maybe_reset(root.set("action", torch.full((4, 1), 0.75)))


def test_pictures_and_numbers_of_a_dict_are_told_apart():
    render = RenderConfig(height=8, width=12)
    settings = {"backend": "gym", "workers": 0, "render": render}
    seen = make_env("Parts-v0", 1, observations=("pixels", "state"), **settings).observe()
    space = NAMED["Parts-v0"].observation_space
    space.seed(0)
    expected = space.sample()
    np.testing.assert_array_equal(seen["pixels"][0], expected["front"].transpose(2, 0, 1))
    np.testing.assert_array_equal(seen["state"][0], np.concatenate([expected["arm"], expected["hand"]]))
    seen = make_env("ChannelsFirst-v0", 1, observations=("pixels",), **settings).observe()
    space = NAMED["ChannelsFirst-v0"].observation_space
    space.seed(0)
    np.testing.assert_array_equal(seen["pixels"][0], space.sample())


@pytest.mark.parametrize(
    ("task", "wrong", "message"),
    [
        ("Pendulm-v1", {}, "Pendulum"),
        ("Choosy-v0", {}, "MultiDiscrete"),
        ("Pendulum-v1", {"observations": ("depth",)}, "pixels, state"),
        ("Pendulum-v1", {"workers": -1}, "workers should be at least 0.*got -1"),
        ("Pendulum-v1", {"seed": -1}, "seed should be at least 0, got -1"),
        ("walker-walk", {"seed": -1, "backend": "dm_control"}, "seed should be at least 0, got -1"),
        ("Failing-v0", {"observations": ("pixels",)}, "must take render_mode='rgb_array'"),
        ("Stillborn-v0", {"num_envs": 2}, r"Stillborn-v0 starts with .* not finite, in its worlds \[0, 1\]"),
        ("Pictures-v0", {}, "several pictures, front, side"),
        ("Stacked-v0", {}, r"uint8 \(9, 8, 12\)"),
    ],
)
def test_what_gymnasium_cannot_give(task, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_env(task, **({"num_envs": 1, "observations": ("state",), "backend": "gym", "workers": 0} | wrong))


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "play.py"
    script.write_text(
        "from mindreel.envs import make_env\n"
        "make_env('Pendulum-v1', 2, observations=('state',), backend='gym', workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ValueError") and 'if __name__ == "__main__":' in last
    assert done.stderr.count("Traceback") == 1  # that of the script, and none of its processes'


def test_actions_without_bounds_are_passed_on():
    player = GymPlayer("Pendulum-v1", EnvConfig(action_repeat=1), ("state",))
    player._space = spaces.Box(np.array([-np.inf, 0], np.float32), np.array([np.inf, 4], np.float32))
    np.testing.assert_allclose(player._action(np.array([0.5, 0.5], np.float32)), [0.5, 3.0])
    player.close()


def test_worlds_elsewhere_cannot_be_saved_and_say_so():
    env = make_env("Pendulum-v1", 2, observations=("state",), backend="gym", workers=0)
    play(env, actions(env, 2))
    saved, before = env.worlds_state(), env.observe()["state"]
    with pytest.warns(UserWarning, match="not resume bit-exactly"):
        env.load_worlds_state(saved)
    assert not env.resumes_exactly and not torch.equal(env.observe()["state"], before)
    assert env.counters == {"env_frames": 8, "repaired_worlds": 0, "overflowed_worlds": 0, "faulty_decisions": 0}
    with pytest.raises(ValueError, match="another backend"):
        env.load_worlds_state({"sim.qpos": torch.zeros(2)})


def test_a_controller_earns_the_same_on_either_backend():
    """One rule that catches the pole and stops the cart, on the state of either: near the most that can be earned."""
    gains = torch.tensor([0.9, 0.0, 6.5, 1.0, 1.7])  # of place, cosine and sine of the angle, speed, turning
    returns = {}
    for backend in ("warp", "dm_control"):
        workers = {"workers": 0} if backend == "dm_control" else {}
        env = make_env("cartpole-balance", 4, seed=2, observations=("state",), backend=backend, **workers)
        root, total = env.reset(), torch.zeros(4)
        for _ in range(env.episode_steps):
            stepped, root = env.step_and_maybe_reset(root.set("action", (root["state"] @ gains).clamp(-1, 1)[:, None]))
            total += stepped["next", "reward"][:, 0]
        returns[backend] = total
        assert stepped["next", "done"].all()
    assert returns["warp"].min() > 900
    torch.testing.assert_close(returns["warp"].mean(), returns["dm_control"].mean(), rtol=0.01, atol=0)


@pytest.mark.timeout(600)  # it may have to compile kernels
def test_an_agent_trained_on_warp_plays_the_official_environment(tmp_path, monkeypatch):
    """That it plays there: it has learned too little to say what is earned, which the controller above does."""
    run, rows = tmp_path / "run", tmp_path / "rows.json"
    small = ["task=cartpole-balance", "encoder=state", "decoder_steps=0", "eval_episodes=2", "loop.updates=20"]
    script(monkeypatch, "train", "preset=smoke", *small, f"run={run}")
    script(monkeypatch, "evaluate", f"run={run}", "env.backend=dm_control", "env.workers=0", f"out={rows}")
    scored = {row["acting"]: row for row in json.loads(rows.read_text())}
    assert scored["agent"]["decisions"] == 125 and scored["agent"]["episodes"] == 2
    assert scored["agent"]["return_mean"] != scored["random"]["return_mean"]


def script(monkeypatch, name: str, *arguments: str) -> None:
    path = str(ROOT / "scripts" / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    runpy.run_path(path, run_name="__main__")
