"""Worlds that differ: what varies, by how much, and that nothing else does."""

from dataclasses import fields, replace

import mujoco
import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from mindreel.envs import RandomizeConfig, RenderConfig, WarpEnv, make_env
from mindreel.envs.generator import WorldGenerator
from mindreel.envs.warp.randomize import FIELDS, PRESETS, Randomizer, varied_fields
from mindreel.envs.warp.simulation import WarpSim

WORLDS = 6
ALL = {name: 0.2 for name in FIELDS}


def made(task: str = "walker-walk", seed: int = 0, observations: tuple[str, ...] = ("state",), **amounts) -> WarpEnv:
    env = make_env(
        task, WORLDS, seed=seed, observations=observations, action_repeat=1, randomize=RandomizeConfig(**amounts)
    )
    env.reset()
    return env


def relative(env: WarpEnv, name: str) -> torch.Tensor:
    """Each world's field over the model's own, where that is not zero: (B, n)."""
    own = torch.as_tensor(getattr(env.sim.mj_model, name), dtype=torch.float32).flatten()
    return env.sim.model(name).flatten(1)[:, own != 0] / own[own != 0]


@pytest.mark.parametrize(
    ("amount", "name"),
    [
        ("mass", "body_mass"),
        ("mass", "body_inertia"),
        ("friction", "geom_friction"),
        ("gain", "actuator_gainprm"),
        ("light_strength", "light_diffuse"),
    ],
)
def test_factors_stay_within_their_amount_and_differ(amount, name):
    factors = relative(made(**{amount: 0.3}), name)
    assert factors.min() >= 0.7 - 1e-5
    assert factors.max() <= 1.3 + 1e-5
    assert factors.std(0).min() > 0.02  # no entry is left as it was
    assert (factors.max() - factors.min()) > 0.2


def test_inertia_and_limbs_follow_the_mass():
    """As MuJoCo itself derives them from the same masses."""
    env = made(mass=0.4)
    masses = relative(env, "body_mass")
    torch.testing.assert_close(relative(env, "body_inertia"), masses.repeat_interleave(3, dim=1))
    for world in range(WORLDS):
        reference = env.task.__class__(move_speed=1.0).model
        reference.body_mass[:] = env.sim.model("body_mass")[world]
        mujoco.mj_setConst(reference, mujoco.MjData(reference))
        np.testing.assert_allclose(env.sim.model("body_subtreemass")[world], reference.body_subtreemass, rtol=1e-5)


def test_a_randomised_world_moves_as_mujoco_with_the_same_numbers():
    env = made("walker-walk", mass=0.4, gain=0.4)
    sim = env.sim
    sim.qpos.zero_()
    sim.qpos[:, 0] = 3.0  # in the air: nothing touches
    sim.qvel.zero_()
    sim.forward()
    sim.ctrl.fill_(0.5)
    sim.step()
    for world in range(WORLDS):
        reference = env.task.__class__(move_speed=1.0).model
        for name in (*FIELDS["mass"], *FIELDS["gain"]):
            getattr(reference, name)[:] = sim.model(name)[world]
        data = mujoco.MjData(reference)
        data.qpos[0] = 3.0
        data.ctrl[:] = 0.5
        mujoco.mj_step(reference, data, sim.substeps)
        np.testing.assert_allclose(sim.qvel[world], data.qvel, atol=2e-3)
    untouched = env.task.__class__(move_speed=1.0).model  # the model that all share stays as it was
    np.testing.assert_array_equal(sim.mj_model.body_mass, untouched.body_mass)
    assert sim.qvel.std(0).max() > 0.05


def test_cameras_and_lights_move_as_far_as_said():
    env = made("reacher-easy", camera_turn=0.2, camera_shift=0.1, light_turn=0.3, light_shift=0.5)
    model, sim = env.sim.mj_model, env.sim
    shift = sim.data("cam_xpos")[:, 0] - torch.as_tensor(model.cam_pos[0], dtype=torch.float32)
    assert 0 < shift.abs().max() <= 0.1 * model.stat.extent + 1e-6
    assert shift.std(0).min() > 0
    own = torch.as_tensor(model.cam_mat0[0].reshape(3, 3), dtype=torch.float32)
    turns = sim.data("cam_xmat")[:, 0] @ own.T
    angle = ((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).acos()
    assert 0.01 < angle.max() <= 0.2 * 3**0.5 + 1e-4
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(WORLDS, 3, 3), atol=1e-5, rtol=0)
    direction = sim.data("light_xdir")[:, 0]
    between = (direction * torch.as_tensor(model.light_dir[0], dtype=torch.float32)).sum(-1).acos()
    assert 0.01 < between.max() <= 0.3 * 3**0.5
    assert 0 < (sim.data("light_xpos")[:, 0] - torch.as_tensor(model.light_pos[0]).float()).abs().max() <= 0.5


def test_a_tracking_camera_is_turned_like_a_fixed_one():
    """Both kinds take their turn from fields of their own: the pose and the first pose."""
    env = made("walker-walk", camera_turn=0.3)
    moved = env.sim.model("cam_mat0")[:, 0]
    quaternion = env.sim.model("cam_quat")[:, 0].double().numpy()
    for world in range(WORLDS):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, quaternion[world])
        own, ours = np.zeros(9), moved[world].numpy()
        mujoco.mju_quat2Mat(own, env.sim.mj_model.cam_quat[0])
        first = env.sim.mj_model.cam_mat0[0].reshape(3, 3)
        turn = own.reshape(3, 3).T @ matrix.reshape(3, 3)
        np.testing.assert_allclose(first.T @ ours, turn, atol=1e-5)


def test_looks_change_and_the_physics_does_not():
    looks = {name: 0.5 for name in FIELDS if name not in ("mass", "friction", "gain")}
    env, plain = (made("walker-walk", observations=("pixels", "state"), **x) for x in (looks, {}))
    action = torch.full((WORLDS, env.action_dim), 0.5)
    for _ in range(3):
        one, two = (x.step(x.observe().set("action", action))["next"] for x in (env, plain))
    assert torch.equal(one["state"], two["state"])
    assert (one["pixels"] != two["pixels"]).float().flatten(1).mean(1).min() > 0.1


@pytest.mark.parametrize(
    "amount", ["colors", "textures", "light_strength", "light_turn", "camera_turn", "camera_shift"]
)
def test_each_look_is_seen(amount):
    env, plain = (
        made("walker-walk", observations=("pixels",), **x) for x in ({amount: 1.0 if amount == "textures" else 0.5}, {})
    )
    one, two = env.observe()["pixels"].float(), plain.observe()["pixels"].float()
    assert ((one - two).abs().flatten(1).mean(1) > 0.3).sum() >= WORLDS - 1


def test_an_amount_shifts_no_others_draws():
    one, two = made(mass=0.3), made(mass=0.3, friction=0.3, latency=2, camera_turn=0.1)
    assert torch.equal(one.sim.model("body_mass"), two.sim.model("body_mass"))
    assert torch.equal(one.sim.qpos, two.sim.qpos)  # nor where episodes start


def test_only_worlds_that_reset_draw_anew():
    env = made(**ALL, latency=3, background="noise", observations=("pixels",))
    before = env.worlds_state()
    mask = torch.zeros(WORLDS, 1, dtype=torch.bool)
    mask[2] = True
    env.reset(env.observe().set("_reset", mask))
    after = env.worlds_state()
    others = ~mask[:, 0]
    for name in before:
        if name.startswith("sim.model."):
            assert torch.equal(before[name][others], after[name][others]), name
            same = torch.equal(before[name][2], after[name][2])
            # The walker is coloured by its materials alone, and motors have no bias.
            assert same == (name in ("sim.model.geom_rgba", "sim.model.actuator_biasprm")), name
    for name in ("cycles", "speed", "start", "colors"):
        changed = (before[f"randomizer.background.{name}"] != after[f"randomizer.background.{name}"]).flatten(1).any(1)
        assert changed.tolist() == mask[:, 0].tolist()


def test_actions_arrive_late():
    env = made("pendulum-swingup", latency=3)
    sent, arrived = torch.linspace(-0.9, 0.9, 8), []
    for action in sent:
        env.step(env.observe().set("action", action.expand(WORLDS, 1).clone()))
        arrived.append(env.sim.ctrl[:, 0].clone())
    found = torch.stack(arrived, 1)  # (B, T)
    delays = env.worlds_state()["randomizer.delay"].tolist()
    assert len(set(delays)) > 1
    assert max(delays) <= 3
    for world, delay in enumerate(delays):
        assert torch.equal(found[world], torch.cat([torch.zeros(delay), sent[: len(sent) - delay]]))


def test_the_number_of_worlds_does_not_change_what_the_first_draws():
    config = RandomizeConfig(**ALL, latency=2)
    alone, among = (make_env("cheetah-run", num, seed=3, observations=("state",), randomize=config) for num in (1, 5))
    for _ in range(2):
        one, many = alone.reset()["state"], among.reset()["state"]
        assert torch.equal(one[0], many[0])
        assert torch.equal(alone.sim.model("body_mass")[0], among.sim.model("body_mass")[0])


def test_nothing_on_changes_nothing():
    env, plain = made(observations=("pixels", "state")), make_env("walker-walk", WORLDS, action_repeat=1)
    plain.reset()
    assert env.sim.per_world == env.task.per_world
    action = torch.full((WORLDS, env.action_dim), 0.3)
    one, two = (x.step(x.observe().set("action", action))["next"] for x in (env, plain))
    assert torch.equal(one["pixels"], two["pixels"])
    assert torch.equal(one["state"], two["state"])


def test_randomised_worlds_continue_where_they_were_saved():
    amounts = ALL | {"latency": 2, "background": "noise", "observations": ("pixels", "state")}
    env, fresh = made(seed=1, **amounts), made(seed=2, **amounts)
    env.episode_steps = fresh.episode_steps = 5
    fresh.load_worlds_state(load(save(env.worlds_state())))
    action = torch.full((WORLDS, env.action_dim), 0.4)
    one, two = env.observe(), fresh.observe()
    for _ in range(8):
        one, two = (x.step_and_maybe_reset(o.set("action", action))[1] for x, o in ((env, one), (fresh, two)))
        assert torch.equal(one["pixels"], two["pixels"])
        assert torch.equal(one["state"], two["state"])
    with pytest.raises(ValueError, match="do not fit"):
        made(mass=0.2).load_worlds_state(env.worlds_state())


def test_a_camera_that_looks_at_a_body_is_said_to_stay_so():
    turned = {"randomize": RandomizeConfig(camera_turn=0.3), "observations": ("pixels",)}
    with pytest.warns(RuntimeWarning, match="camera_turn does nothing for lookatcart of cartpole.xml"):
        env = make_env(
            "cartpole-swingup", 3, render=RenderConfig(height=8, width=8, cameras=(0, "lookatcart")), **turned
        )
    env.reset()
    spread = env.sim.data("cam_xmat").std(0).amax((-2, -1))  # (cameras,)
    assert spread[0] > 0.05 > 0.02 > spread[1]  # of the second the cart's own place


def test_presets_fill_in_what_is_not_given():
    whole = RandomizeConfig(preset="distracting_hard", colors=0.05).whole
    assert whole.colors == 0.05
    assert whole.textures == PRESETS["distracting_hard"].textures
    plain = RandomizeConfig().whole
    assert plain.background_floor and not any(
        getattr(plain, field.name) for field in fields(plain) if field.name != "background_floor"
    )
    for preset, off in (
        ("distracting_hard", {"background": ""}),
        ("dynamics", {"latency": 0, "mass": 0.0}),
        ("distracting_easy", {"background_floor": True}),
    ):
        filled = RandomizeConfig(preset=preset).whole
        assert RandomizeConfig(preset=preset, **off).whole == replace(filled, **off) != filled
    dynamics, looks = PRESETS["dynamics"], [PRESETS[f"distracting_{kind}"] for kind in ("easy", "hard")]
    physical = ("mass", "friction", "gain", "latency")
    assert all(getattr(dynamics, name) for name in physical)
    assert not any(getattr(preset, name) for preset in looks for name in physical)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "hard"}, "distracting_hard"),
        ({"mass": 1.0}, "mass should be at least 0 and below 1, got 1.0"),
        ({"colors": -0.1}, "colors should be at least 0, got -0.1"),
        ({"textures": 1.5}, "textures should be at least 0 and at most 1"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        RandomizeConfig(**wrong)


def test_other_backends_say_that_their_worlds_are_alike():
    with pytest.raises(ValueError, match="backend=warp"):
        make_env("cartpole-swingup", 1, backend="dm_control", randomize=RandomizeConfig(mass=0.1))


def test_a_model_without_lights_materials_or_cameras_can_be_randomised():
    xml = """<mujoco><worldbody><body><joint name="hinge"/><geom size="0.1"/></body></worldbody>
        <actuator><motor joint="hinge"/></actuator></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    config = RandomizeConfig(**ALL)
    sim = WarpSim(model, 2, per_world=varied_fields(config, model))
    Randomizer(config, sim, None).reset(torch.ones(2, dtype=torch.bool), WorldGenerator(0, 2))
    assert (sim.model("body_mass")[:, 1] != float(model.body_mass[1])).all()
