"""Our worlds through Gymnasium's interface."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import (
    FlattenObservation,
    GrayscaleObservation,
    NormalizeObservation,
    RecordEpisodeStatistics,
    ResizeObservation,
)
from torchrl.envs import GymWrapper

from mindreel.envs import TASKS, RenderConfig, make_env
from mindreel.envs.backends.vector_env import WorldsVectorEnv

WORLDS = 3


def made(**changes) -> WorldsVectorEnv:
    worlds = gymnasium.make_vec("mindreel/cartpole-swingup-v0", num_envs=WORLDS, max_episode_steps=3, **changes)
    assert isinstance(worlds, WorldsVectorEnv)
    return worlds


def test_every_task_is_registered_under_its_name():
    assert {name.removeprefix("mindreel/") for name in gymnasium.registry if name.startswith("mindreel/")} == {
        f"{task}-v0" for task in TASKS
    }
    with pytest.raises(gymnasium.error.NameNotFound, match="walker-walk"):
        gymnasium.make_vec("mindreel/walker-wolk-v0")


def test_an_id_that_names_the_module_needs_no_import():
    code = (
        "import gymnasium;"
        "print(gymnasium.make_vec('mindreel.envs:mindreel/pendulum-swingup-v0', num_envs=2).reset()[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(2, 3)\n"), done.stderr


def test_a_single_world_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="make_vec.*mindreel/walker-walk-v0.*num_envs=1"):
        gymnasium.make("mindreel/walker-walk-v0")


def test_room_for_contacts_is_passed_on():
    room = made(max_contacts=7, max_constraints=11).worlds.sim.room
    assert room == {"max_contacts": 7, "max_constraints": 11}


def test_spaces_hold_what_comes():
    worlds = made(observations=("pixels", "state"), render=RenderConfig(height=8, width=12))
    assert worlds.single_observation_space["pixels"] == gymnasium.spaces.Box(0, 255, (8, 12, 3), np.uint8)
    assert worlds.observation_space["state"].shape == (WORLDS, 5)
    assert worlds.single_action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert worlds.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert worlds.spec is not None and worlds.spec.id == "mindreel/cartpole-swingup-v0"
    observation, infos = worlds.reset(seed=3)
    worlds.action_space.seed(0)
    assert observation in worlds.observation_space and infos == {}
    for t in range(7):
        observation, reward, terminated, truncated, infos = worlds.step(worlds.action_space.sample())
        assert observation in worlds.observation_space
        assert reward.shape == terminated.shape == truncated.shape == (WORLDS,)
        assert reward.dtype == np.float32 and terminated.dtype == truncated.dtype == np.bool_
        assert truncated.all() == ((t + 1) % 3 == 0) == bool(infos)
        if infos:
            assert all(one in worlds.single_observation_space for one in infos["final_obs"])


def test_it_is_the_same_world_as_in_torchrl():
    worlds, env = made(action_repeat=2), make_env("cartpole-swingup", WORLDS, observations=("state",), time_limit=3)
    seen, _ = worlds.reset(seed=7)
    env.set_seed(7)
    root = env.reset()
    np.testing.assert_array_equal(seen, root["state"])
    returns = np.zeros(WORLDS, np.float32)
    for t in range(6):
        action = torch.full((WORLDS, 1), 0.2 * t)
        stepped, root = env.step_and_maybe_reset(root.set("action", action))
        seen, reward, terminated, truncated, infos = worlds.step(action.numpy())
        after = stepped["next"]
        np.testing.assert_array_equal(seen, root["state"])  # after an end, the next episode's first
        np.testing.assert_array_equal(reward, after["reward"][:, 0])
        assert truncated.tolist() == after["truncated"][:, 0].tolist() and not terminated.any()
        returns += reward
        if t in (2, 5):
            np.testing.assert_array_equal(np.stack(infos["final_obs"]), after["state"])
            assert not np.array_equal(seen, after["state"])
            np.testing.assert_allclose(infos["final_info"]["return"], returns, rtol=1e-6)
            returns[:] = 0
            assert infos["final_info"]["length"].tolist() == [3] * WORLDS and infos["_final_obs"].all()
        else:
            assert infos == {}


def test_worlds_that_start_anew_in_the_next_step():
    same, later = made(action_repeat=2), made(action_repeat=2, autoreset_mode=AutoresetMode.NEXT_STEP)
    first = later.reset(seed=7)[0]
    assert np.array_equal(same.reset(seed=7)[0], first)
    action = np.ones((WORLDS, 1), np.float32)
    for t in range(3):  # decisions of an episode
        following, reward, _, ended, infos = same.step(action)
        seen, given, terminated, truncated, told = later.step(action)
        assert np.array_equal(given, reward) and np.array_equal(truncated, ended) and told == {}
        assert np.array_equal(seen, np.stack(infos["final_obs"]) if t == 2 else following)
        assert ended.all() == (t == 2) and not terminated.any()
    fresh, reward, terminated, truncated, infos = later.step(action)
    assert not reward.any() and not terminated.any() and not truncated.any() and infos == {}
    assert np.abs(fresh - first).max() < 0.1 < np.abs(seen - first).max()  # where episodes begin, not where this ended
    assert not np.array_equal(fresh, first)
    assert [later.step(action)[3].all() for _ in range(3)] == [False, False, True]


def test_worlds_that_wait_to_be_started_anew():
    worlds = made(autoreset_mode=AutoresetMode.DISABLED)
    worlds.reset(seed=0)
    for _ in range(3):
        seen, _, _, truncated, _ = worlds.step(np.zeros((WORLDS, 1)))
    assert truncated.all()
    fresh, _ = worlds.reset(options={"reset_mask": np.array([False, True, False])})
    assert (fresh != seen).any(1).tolist() == [False, True, False]
    assert worlds.step(np.zeros((WORLDS, 1)))[3].tolist() == [True, False, True]


def test_other_simulators_do_not_step_past_the_end_of_an_episode():
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        with pytest.raises(ValueError, match="backend=gym has AutoresetMode.SAME_STEP alone"):
            WorldsVectorEnv("Pendulum-v1", backend="gym", workers=0, autoreset_mode=mode)


def test_wrappers_that_ask_for_the_next_step():
    worlds = NormalizeObservation(FlattenObservation(made(autoreset_mode=AutoresetMode.NEXT_STEP)))
    worlds.reset(seed=0)
    for _ in range(9):
        seen = worlds.step(worlds.action_space.sample())[0]
    assert np.isfinite(seen).all()


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_the_gradient_of_an_action_ends_at_the_worlds(output):
    worlds = made(output=output)
    worlds.reset(seed=0)
    action = torch.full((WORLDS, 1), 0.5, requires_grad=True)
    for _ in range(4):
        _, reward, *_, infos = worlds.step(action * 2)
        if output == "torch":
            assert not reward.requires_grad and not infos["final_info"]["return"].requires_grad
    assert not worlds.worlds.sim.ctrl.requires_grad and worlds.worlds.sim.ctrl.grad_fn is None


def test_torch_in_torch_out():
    numpy, tensors = made(), made(output="torch")
    one, two = numpy.reset(seed=1)[0], tensors.reset(seed=1)[0]
    assert isinstance(two, torch.Tensor)
    np.testing.assert_array_equal(one, two)
    for t in range(4):
        action = np.full((WORLDS, 1), 0.5, np.float32)
        given, received = numpy.step(action), tensors.step(torch.as_tensor(action))
        for a, b in zip(given[:4], received[:4], strict=True):
            assert isinstance(b, torch.Tensor)
            np.testing.assert_array_equal(a, b)
        infos = received[4]
        assert infos["_final_obs"].all().item() == (t == 2)
        if t == 2:
            np.testing.assert_array_equal(np.stack(given[4]["final_obs"]), infos["final_obs"])
            np.testing.assert_array_equal(given[4]["final_info"]["return"], infos["final_info"]["return"])


def test_what_is_returned_may_be_changed():
    worlds = made()
    seen, _ = worlds.reset(seed=0)
    seen[:] = np.nan
    assert worlds.worlds.observe()["state"].isfinite().all()


def test_single_worlds_can_be_reset():
    worlds = made()
    worlds.reset(seed=0)
    before = worlds.step(np.zeros((WORLDS, 1)))[0]
    mask = np.array([False, True, False])
    after, _ = worlds.reset(options={"reset_mask": mask})
    assert (before != after).any(1).tolist() == mask.tolist()
    assert worlds.step(np.zeros((WORLDS, 1)))[3].tolist() == [False, False, False]
    assert worlds.step(np.zeros((WORLDS, 1)))[3].tolist() == [True, False, True]
    with pytest.raises(ValueError, match="reset_mask"):
        worlds.reset(options={"reset_mask": np.array([1, 0, 0])})


def test_gymnasiums_own_statistics_agree():
    worlds = RecordEpisodeStatistics(made())
    worlds.reset(seed=0)
    for _ in range(3):
        *_, infos = worlds.step(np.ones((WORLDS, 1), np.float32))
    np.testing.assert_allclose(infos["episode"]["r"], infos["final_info"]["return"], rtol=1e-6)
    assert infos["episode"]["l"].tolist() == infos["final_info"]["length"].tolist()


def test_render_and_close():
    worlds = made(render_mode="rgb_array", render=RenderConfig(height=8, width=12))
    assert worlds.observation_space.shape == (WORLDS, 5)  # drawn, and not observed
    worlds.reset(seed=0)
    frames = worlds.render()
    assert frames is not None and len(frames) == WORLDS and frames[0].shape == (8, 12, 3)
    assert frames[0].max() > 0
    assert made().render() is None
    worlds.close()
    assert worlds.closed and worlds.worlds.is_closed
    worlds.close()


# ---- other people's tools ----


def test_worlds_without_a_seed_start_differently_and_with_one_alike():
    one, other = made(), made()
    assert not np.array_equal(one.reset()[0], other.reset()[0])
    assert not np.array_equal(one.reset()[0], other.reset()[0])
    one, other = made(seed=3), made(seed=np.int64(3))
    assert np.array_equal(one.reset()[0], other.reset()[0])


def test_seeds_in_all_of_gymnasiums_forms():
    worlds = made()
    plain, other, pair = worlds.reset(seed=3)[0], worlds.reset(seed=4)[0], worlds.reset(seed=[1, 2, 3])[0]
    assert np.array_equal(worlds.reset(seed=np.int64(3))[0], plain) and not np.array_equal(other, plain)
    assert np.array_equal(worlds.reset(seed=np.array([1, 2, 3]))[0], pair)
    assert not np.array_equal(worlds.reset(seed=[1, 2, 4])[0], pair)
    assert len(np.unique(pair, axis=0)) == WORLDS
    first = worlds.reset(seed=[None, 1, 2])[0]
    assert not np.array_equal(worlds.reset(seed=[None, 1, 2])[0], first)
    for wrong in ([1, 2], -1, 1.5, "1", True):
        with pytest.raises(ValueError, match="seed should be"):
            worlds.reset(seed=wrong)


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_pictures_have_their_channels_where_asked(output):
    render, drawn = RenderConfig(height=8, width=12), ("pixels", "depth", "segmentation")
    last, first = (
        made(render=render, observations=drawn, seed=1, output=output, **axes) for axes in ({}, {"pixels": "chw"})
    )
    hwc, chw = last.reset(seed=2)[0], first.reset(seed=2)[0]
    assert hwc["pixels"].shape == (WORLDS, 8, 12, 3) and chw["pixels"].shape == (WORLDS, 3, 8, 12)
    for name in drawn:
        assert np.array_equal(hwc[name], np.moveaxis(np.asarray(chw[name]), 1, -1))
        assert hwc[name].shape == last.observation_space[name].shape
        assert chw[name].shape == first.observation_space[name].shape
    assert hwc["pixels"].max() > 0


def test_gymnasiums_wrapper_takes_the_colour_out_of_pictures():
    plain, grey = (made(observations=("pixels",), autoreset_mode=AutoresetMode.NEXT_STEP, seed=1) for _ in range(2))
    grey = GrayscaleObservation(grey)
    assert grey.observation_space.shape == (WORLDS, 64, 64)
    seen = plain.reset(seed=0)[0].astype(np.float32) @ np.array([0.2125, 0.7154, 0.0721], np.float32)
    np.testing.assert_allclose(grey.reset(seed=0)[0], seen, atol=1)


def test_gymnasiums_wrapper_resizes_pictures():
    pytest.importorskip("cv2", reason="ResizeObservation is OpenCV's")
    worlds = ResizeObservation(made(observations=("pixels",), autoreset_mode=AutoresetMode.NEXT_STEP), (32, 24))
    assert worlds.observation_space.shape == (WORLDS, 32, 24, 3)
    assert worlds.reset(seed=0)[0].shape == (WORLDS, 32, 24, 3)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_torchrls_wrapper_plays_our_vector_environment(mode):
    steps, start = 7, 5
    worlds, env = made(autoreset_mode=mode, action_repeat=2), GymWrapper(made(autoreset_mode=mode, action_repeat=2))
    assert env.batch_size == (WORLDS,)
    seen = worlds.reset(seed=start)[0]
    env._env.worlds.set_seed(start)
    action = torch.ones(WORLDS, 1)
    played = env.rollout(steps, lambda td: td.set("action", action), break_when_any_done=False)
    np.testing.assert_array_equal(played["observation"][:, 0], seen)
    for t in range(3):  # decisions of an episode
        seen, reward, _, truncated, infos = worlds.step(action)
        last = np.stack(infos["final_obs"]) if infos else seen
        np.testing.assert_array_equal(played["next", "reward"][:, t, 0], reward)
        np.testing.assert_array_equal(played["next", "truncated"][:, t, 0], truncated)
        np.testing.assert_array_equal(played["next", "observation"][:, t], last)
    assert played["next", "done"][0, :, 0].tolist() == [False, False, True] * 2 + [False]


def test_torchrls_wrapper_reads_several_observations():
    worlds = made(observations=("pixels", "state"), autoreset_mode=AutoresetMode.DISABLED)
    played = GymWrapper(worlds).rollout(5, break_when_any_done=False)
    assert played["pixels"].shape == (WORLDS, 5, 64, 64, 3) and played["pixels"].dtype == torch.uint8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"output": "jax"}, "numpy"),
        ({"observations": ("behaviour",)}, "unknown observation 'behaviour'"),
        ({"action_repaet": 2}, "did you mean 'action_repeat'"),
        ({"observations": "state"}, r"\('state',\)"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        made(**wrong)


def test_bad_actions_are_named():
    worlds = made()
    worlds.reset()
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        worlds.step(np.zeros((WORLDS, 2)))
    with pytest.raises(ValueError, match="NaN"):
        worlds.step(np.full((WORLDS, 1), np.nan))
    assert np.isfinite(worlds.step(np.full((WORLDS, 1), 1e9))[0]).all()  # clipped
