"""Every task against dm_control's own, as `scripts/parity.py` compares them, with fewer states and resets."""

import os
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
import torch

from mindreel.envs import TASKS
from mindreel.envs.backends.dm_control import DMControlEnv
from mindreel.envs.checks.parity import (
    ALL_TASKS,
    MOVING_PICTURE_BOUND,
    PHYSICS_SHARE,
    PICTURE_BOUND,
    RESET_BOUND,
    STATE_BOUND,
    compare_pictures,
    compare_step,
    different_interface,
    reset_p_value,
)
from mindreel.envs.checks.parity_pictures import (
    ENOUGH_PIXELS,
    LEAST_IN_VIEW,
    LEAST_PIXELS,
    LOOK,
    Pictures,
    moving_picture_error,
    picture_error,
    pictures,
    showing_what_moves,
)
from mindreel.envs.checks.parity_states import Pair, random_states
from mindreel.envs.warp.visibility import moving_geoms

WORLDS, STEPS, RESETS = 32, 2, 128
DRAWN = list({name.partition("-")[0]: name for name in TASKS}.values())  # one task a domain

# Tasks whose physics fall short of 99% of states, and the share that they keep all the same; docs/environments.md.
SHORT = {
    "dog-fetch": 0.9,
    "quadruped-escape": 0.85,
    "swimmer-swimmer15": 0.1,
}

# One task a domain, and what of its pictures is not dm_control's: the dog's skin is not drawn here.
LOOKS_DIFFERENT: dict[str, list[str]] = {"dog-walk": ["picture", "picture of what moves"]}

# mujoco_warp's, of geoms without friction; in dm_control's own model they are the cup's and the slot's
pytestmark = pytest.mark.filterwarnings("ignore:geom .* friction:UserWarning")


@pytest.fixture(scope="module", params=TASKS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(request.param, WORLDS)
    yield pair
    pair.close()


def test_every_task_of_dm_control_is_here():
    assert set(ALL_TASKS) == set(TASKS) and len(ALL_TASKS) == 51


def test_reward_observation_and_a_control_step(pair):
    random_states(pair, STEPS)
    step = compare_step(pair)
    assert step.reward.max() <= STATE_BOUND
    assert step.observation.max() <= STATE_BOUND
    # One state in a hundred may differ, so one in these few.
    least = SHORT.get(pair.name, min(PHYSICS_SHARE, 1 - 1 / WORLDS))
    assert step.physics_share >= least, np.sort(step.physics)[-4:]
    assert (step.next_reward <= 1e-3).mean() >= least, np.sort(step.next_reward)[-4:]
    assert (step.next_observation <= 1e-2).mean() >= least, np.sort(step.next_observation)[-4:]
    assert np.ptp(step.rewards) > 0, "no state earned reward, or all the same: this compared little"
    if pair.task.xml in ("ball_in_cup.xml", "cheetah.xml", "walker.xml", "humanoid.xml", "quadruped.xml"):
        assert step.contacts.any(), "some of these states should be in contact"


def test_an_agent_is_told_the_same(pair):
    assert not different_interface(pair)


def test_resets_come_from_the_same_distribution(pair):
    assert reset_p_value(pair, RESETS) >= RESET_BOUND


# ---- the comparison sees what is wrong ----


@pytest.fixture
def pendulum() -> Pair:
    return Pair("pendulum-swingup", WORLDS)


def test_wrong_physics_show(pendulum):
    random_states(pendulum, STEPS)
    pendulum.reference.physics.model.dof_damping[:] *= 1.2
    step = compare_step(pendulum)
    assert step.physics_share < 0.5
    assert step.reward.max() <= STATE_BOUND and step.observation.max() <= STATE_BOUND


def test_wrong_rewards_and_observations_show(pendulum):
    random_states(pendulum, STEPS)
    observation, reward = pendulum.task.observation, pendulum.task.reward
    pendulum.task.reward = lambda sim: reward(sim) + 2e-5
    pendulum.task.observation = lambda sim: {name: x * (1 + 3e-5) for name, x in observation(sim).items()}
    step = compare_step(pendulum)
    assert step.reward.max() > STATE_BOUND and step.observation.max() > STATE_BOUND


def test_wrong_rewards_and_observations_after_a_step_show(pendulum):
    random_states(pendulum, STEPS)
    observation, reward, step_worlds, stepped = pendulum.task.observation, pendulum.task.reward, pendulum.sim.step, []

    def step() -> None:
        step_worlds()
        stepped.append(True)

    pendulum.sim.step = step
    pendulum.task.reward = lambda sim: reward(sim) + 3e-4 * bool(stepped)
    pendulum.task.observation = lambda sim: {name: x + 2e-4 * bool(stepped) for name, x in observation(sim).items()}
    found = compare_step(pendulum)
    assert found.reward.max() <= STATE_BOUND and found.observation.max() <= STATE_BOUND
    assert found.next_reward.max() == pytest.approx(3e-4, rel=0.1)  # of 1 plus a reward of 0
    assert 5e-5 < found.next_observation.max() < 3e-4


def test_wrong_resets_show():
    pair = Pair("acrobot-swingup", 250)
    assert reset_p_value(pair, 1000) >= RESET_BOUND
    reset = pair.task.reset

    def narrower(sim, mask, generator):
        reset(sim, mask, generator)
        sim.qpos.mul_(0.8)

    def correlated(sim, mask, generator):
        reset(sim, mask, generator)
        sim.qpos[:, 1] = sim.qpos[:, 0]  # each joint alone is distributed as it should be

    for wrong in (narrower, correlated):
        pair.task.reset = wrong
        assert reset_p_value(pair, 1000) < RESET_BOUND, wrong.__name__


def test_wrong_interfaces_show(pendulum):
    pendulum.task.time_limit = 10.0
    pendulum.sim.ctrl_high.fill_(2.0)
    wrong = different_interface(pendulum)
    assert len(wrong) == 2 and "greatest action" in wrong[0] and "episode length" in wrong[1]


# ---- pictures ----


def drawn(pair: Pair, count: int = 2) -> Pictures:
    found = pictures(pair, count)
    if found.theirs is None:
        assert os.environ["MUJOCO_GL"] == "disable"
        pytest.skip("no GL library here")
    return found


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_are_dm_controls(name):
    pair = Pair(name, 8)
    random_states(pair, STEPS)
    found = drawn(pair)
    pair.close()
    figures, why = compare_pictures(found, found)
    assert why == LOOKS_DIFFERENT.get(name, []), figures
    assert found.moving.max() >= 0
    turned = found._replace(theirs=found.theirs[::-1], moving=found.moving[::-1])
    assert moving_picture_error(*turned) > figures["moving_picture_error"]


@pytest.mark.parametrize("name", ["reacher-hard", "quadruped-walk", "fish-upright", "stacker-stack_2"])
def test_a_body_that_is_not_drawn_shows_though_the_whole_picture_hardly_changes(name):
    pair = Pair(name, 8)
    random_states(pair, STEPS)
    assert drawn(pair).theirs is not None
    for geom in moving_geoms(pair.task.model):
        pair.task.model.geom_pos[geom] += 1e3
    without = drawn(pair)
    pair.close()
    figures, why = compare_pictures(without, without)
    assert figures["picture_error"] <= PICTURE_BOUND
    assert why == ["picture of what moves"] and figures["moving_picture_error"] > 2 * MOVING_PICTURE_BOUND


def test_a_target_that_is_elsewhere_shows():
    pair = Pair("reacher-easy", 8)
    random_states(pair, STEPS)
    target = pair.task.model.geom("target").id
    before = drawn(pair)
    pair.sim.data("geom_xpos")[:, target, 0] += 0.05  # metres; it is as wide, and the finger a fifth of that
    moved = drawn(pair)
    pair.close()
    moved = before._replace(ours=moved.ours)
    assert not compare_pictures(before, before)[1]
    assert "picture of what moves" in compare_pictures(moved, moved)[1]


def test_a_limb_is_looked_for_by_a_camera_that_shows_it():
    pair = Pair("quadruped-walk", 8)
    random_states(pair, STEPS)
    first = drawn(pair)
    assert (first.moving >= 0).sum() < 2 * ENOUGH_PIXELS
    closer = showing_what_moves(pair, 2)
    pair.task.model.geom_pos[pair.task.model.geom("shin_front_left").id] += 1e3
    without = pictures(pair, 2, closer)
    pair.close()
    assert (without.moving >= 0).sum() > 10 * (first.moving >= 0).sum()
    assert compare_pictures(first, without)[1] == ["picture of what moves"]


def test_the_first_camera_is_the_one_where_it_shows_enough():
    pair = Pair("walker-walk", 8)
    random_states(pair, STEPS)
    drawn(pair)
    assert showing_what_moves(pair, 2) is LOOK
    pair.close()


def test_errors_of_pictures_by_hand():
    ours, theirs = np.zeros((2, 2, 3, 8, 8), np.uint8)
    moving = np.full((2, 8, 8), -1)
    assert moving_picture_error(ours, theirs, moving) is None
    empty = Pictures(ours, theirs, moving)
    assert compare_pictures(empty, empty)[1] == ["nothing that moves in view"]
    theirs[0, :, :4] = 60  # half of the first picture, of which this moves:
    moving[0, :2], moving[0, 3:5], moving[0, 7, :2] = 3, 5, 6
    assert picture_error(ours, theirs) == 30
    assert moving_picture_error(ours, theirs, moving) == 60  # the first thing, of the second half the pixels
    moving[0, :2] = -1
    assert moving_picture_error(ours, theirs, moving) == 30  # the second; all together 8 pixels of 18
    moving[0] = -1
    moving[1, 0, : LEAST_IN_VIEW - 1] = 3
    assert moving_picture_error(ours, theirs, moving) is None  # too little in view
    moving[1, 0, LEAST_IN_VIEW - 1] = 4
    assert moving_picture_error(ours, theirs, moving) == 0 and LEAST_IN_VIEW < LEAST_PIXELS


def test_ball_starts_free_of_the_cup_by_mujocos_own_contacts():
    task, reference = TASKS["ball_in_cup-catch"](), DMControlEnv("ball_in_cup-catch")
    ball = torch.tensor([-0.2, 0.2]) + torch.rand(2000, 2) * torch.tensor([0.4, 0.3])
    reference.physics.reset()
    contacts = []
    for position in ball:
        reference.physics.data.qpos[2:] = position
        mujoco.mj_fwdPosition(reference.physics.model.ptr, reference.physics.data.ptr)
        contacts.append(reference.physics.data.ncon > 0)
    assert 0 < sum(contacts) < len(contacts)
    assert task.touches_cup(ball).tolist() == contacts


def test_worlds_have_the_room_that_their_task_asks_for() -> None:
    pair = Pair("stacker-stack_4", 2)
    assert pair.sim.room["max_constraints"] == pair.task.max_constraints == 160
    pair.close()
