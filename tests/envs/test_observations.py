"""What worlds can show: depth, geoms, several cameras, and the settings of time."""

import pytest
import torch
from torchrl.envs.utils import check_env_specs

from mindreel.envs import EnvConfig, RenderConfig, Task, WarpEnv, make_env

# Two cameras over a floor with a box of 0.4 m on it: one 2 m up, looking down; one level with it, looking along y.
SCENE = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="above" pos="0 0 2" fovy="45"/>
    <camera name="beside" pos="0 -2 0.2" xyaxes="1 0 0 0 0 1" fovy="45"/>
    <geom name="floor" type="plane" size="0 0 0.1" rgba="0 0 1 1"/>
    <body pos="0 0 0.2">
      <joint name="lift" type="slide" axis="0 0 1"/>
      <geom name="box" type="box" size="0.2 0.2 0.2" rgba="1 0 0 1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><position joint="lift" kp="10" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
SIDE = 32


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> type[Task]:
    path = tmp_path_factory.mktemp("scene") / "scene.xml"
    path.write_text(SCENE)

    class Scene(Task):
        xml = str(path)
        time_limit = 1.0
        control_timestep = 0.02

        def reset(self, sim, mask, generator):
            pass

        def observation(self, sim):
            return {"height": sim.qpos}

        def reward(self, sim):
            return sim.data("time").clone()

    return Scene


@pytest.fixture(scope="module")
def seen(scene) -> WarpEnv:
    env = WarpEnv(
        scene(),
        EnvConfig(num_envs=2, render=RenderConfig(height=SIDE, width=SIDE, cameras=("beside", "above"))),
        task_name="scene",
        observations=("depth", "state", "segmentation", "pixels"),
    )
    env.sim.qpos.copy_(torch.tensor([[0.0], [0.5]]))
    env.sim.forward()
    env._last = env._observe()
    return env


def test_depth_is_the_distance_along_the_axis(seen):
    depth = seen.observe()["depth"]
    assert depth.shape == (2, 1, 2 * SIDE, SIDE) and depth.dtype == torch.float32
    beside, above = depth[:, 0, :SIDE], depth[:, 0, SIDE:]
    middle = SIDE // 2
    torch.testing.assert_close(above[:, middle, middle], torch.tensor([1.6, 1.1]))  # the box's lid
    torch.testing.assert_close(above[:, 0, 0], torch.tensor([2.0, 2.0]))  # the floor, as far in the corner
    torch.testing.assert_close(beside[0, middle, middle], torch.tensor(1.8))  # the near side of the lower box
    assert (beside[:, 0] == 0).all()  # the sky


def test_geoms_are_told_apart_and_agree_with_colours_and_depth(seen):
    observed, model = seen.observe(), seen.task.model
    geom = observed["segmentation"]
    assert geom.dtype == torch.int32 and geom.shape == observed["depth"].shape
    box, floor = model.geom("box").id, model.geom("floor").id
    assert geom.unique().tolist() == sorted([-1, box, floor])
    assert torch.equal(geom == -1, observed["depth"] == 0)
    red, _, blue = observed["pixels"].int().unsqueeze(2).unbind(1)  # (B, 1, 2H, W) each
    assert (red > blue)[geom == box].all() and (blue > red)[geom == floor].all()
    assert (observed["pixels"].sum(1, keepdim=True) == 0)[geom == -1].all()
    # The lid, 0.4 m wide, is 1.6 m away and the picture there 2 * 1.6 * tan(22.5 degrees) = 1.325 m wide.
    covered = (geom[0, 0, SIDE:] == box).sum().item()
    assert covered == pytest.approx((0.4 / 1.325 * SIDE) ** 2, rel=0.1)


def test_cameras_lie_one_below_another(seen, scene):
    both = seen.observe()["pixels"]
    assert both.shape == (2, *RenderConfig(height=SIDE, width=SIDE, cameras=("beside", "above")).shape)
    for rows, camera in ((slice(0, SIDE), "beside"), (slice(SIDE, None), 0)):
        render = RenderConfig(height=SIDE, width=SIDE, camera=camera)
        env = WarpEnv(scene(), EnvConfig(num_envs=2, render=render), task_name="scene", observations=("pixels",))
        env.sim.load_state(seen.sim.state())
        assert torch.equal(env.sim.render(), both[:, :, rows])
    assert not torch.equal(both[:, :, :SIDE], both[:, :, SIDE:])


def test_specs_hold_for_every_observation(seen):
    check_env_specs(seen)


def test_frame_skip_and_time_limit(scene):
    plain = WarpEnv(scene(), EnvConfig(num_envs=1), task_name="scene", observations=("state",))
    assert (plain.episode_steps, plain.decision_seconds) == (25, pytest.approx(0.04))
    skipping = WarpEnv(scene(), EnvConfig(num_envs=1, frame_skip=4), task_name="scene", observations=("state",))
    assert (skipping.episode_steps, skipping.decision_seconds) == (12, pytest.approx(0.08))
    after = skipping.step(skipping.reset().set("action", torch.zeros(1, 1)))["next"]
    assert after["reward"].item() == pytest.approx(0.04 + 0.08)  # the times at which the two control steps end
    limited = WarpEnv(scene(), EnvConfig(num_envs=1, time_limit=3), task_name="scene", observations=("state",))
    root, ends = limited.reset(), []
    for _ in range(6):
        stepped, root = limited.step_and_maybe_reset(root.set("action", torch.zeros(1, 1)))
        ends.append(stepped["next", "truncated"].item())
    assert ends == [False, False, True] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observations": ("segmentaton",)}, "did you mean 'segmentation'"),
        ({"render": RenderConfig(cameras=(0, "lookatcrat"))}, "did you mean 'lookatcart'"),
        ({"frame_skip": 0}, "frame_skip"),
        ({"time_limit": -1}, "time_limit"),
        ({"backend": "dmcontrol"}, "did you mean 'dm_control'"),
        ({"backend": "gym", "frame_skip": 2}, "action_repeat"),
    ],
)
def test_mistakes_name_what_is_nearest(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_env(**({"num_envs": 1} | wrong))


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        RenderConfig(height=0)
