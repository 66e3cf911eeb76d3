"""Every task against dm_control's own, in the same states: observation, reward, physics, resets."""

from typing import NamedTuple

import mujoco
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from envs import TASKS, Task, WarpSim
from envs.dm_control import DMControlEnv

WORLDS = 128


class Pair(NamedTuple):
    """A task here, on worlds in random states, and the same task in dm_control."""

    task: Task
    sim: WarpSim
    reference: DMControlEnv
    generator: torch.Generator


@pytest.fixture(scope="module", params=TASKS)
def pair(request) -> Pair:
    task = TASKS[request.param]()
    sim = WarpSim(task.model, WORLDS, substeps=1, per_world=task.per_world)
    return Pair(task, sim, DMControlEnv(request.param), torch.Generator().manual_seed(0))


def start_episodes(pair: Pair) -> None:
    everywhere = torch.ones(WORLDS, dtype=torch.bool)
    pair.sim.reset(everywhere)
    pair.task.reset(pair.sim, everywhere, pair.generator)
    pair.sim.forward()


def random_states(pair: Pair) -> None:
    """Worlds from 0 to 70 random control steps into an episode, half of them then moved where reward is."""
    start_episodes(pair)
    sim, generator = pair.sim, pair.generator
    final = sim.state()
    for block in range(8):
        worlds = slice(block * WORLDS // 8, (block + 1) * WORLDS // 8)
        for name, value in sim.state().items():
            final[name][worlds] = value[worlds]
        for _ in range(10 * pair.task.substeps):
            sim.ctrl.uniform_(-1, 1, generator=generator)
            sim.step()
    final["ctrl"].uniform_(-1, 1, generator=generator)
    final["qvel"] += 0.5 * torch.randn(final["qvel"].shape, generator=generator)
    sim.load_state(final)
    move_to_reward(pair, {name: value[::2] for name, value in final.items()})
    sim.load_state(final)


def move_to_reward(pair: Pair, state: dict[str, torch.Tensor]) -> None:
    """Rewrites `state` in place, so that sparse rewards are met on both sides of their edges."""
    noise = lambda *shape: torch.randn(*shape, generator=pair.generator)
    num, model = len(state["qpos"]), pair.task.model
    match pair.task.xml.removesuffix(".xml"):
        case "cartpole":
            state["qpos"][:] = torch.tensor([0.2, 0.1]) * noise(num, 2)
        case "pendulum":
            state["qpos"][:] = 0.2 * noise(num, 1)
        case "reacher":
            finger = state["geom_xpos"][:, model.geom("finger").id, :2]
            state["geom_xpos"][:, model.geom("target").id, :2] = finger + 0.02 * noise(num, 2)
        case "ball_in_cup":
            state["qpos"][:] = torch.tensor([0.0, 0.0, 0.0, 0.35]) + 0.02 * noise(num, 4)
        case "cheetah" | "walker":
            state["qvel"][:, model.joint("rootx").dofadr[0]] = 8 * noise(num).abs()


def copy_world(pair: Pair, world: int) -> None:
    """Puts dm_control's world into the state of ours."""
    physics, sim = pair.reference.physics, pair.sim
    fixed = np.flatnonzero(pair.task.model.geom_bodyid == 0)
    physics.model.geom_pos[fixed] = sim.data("geom_xpos")[world, fixed]
    for name in ("qpos", "qvel", "ctrl"):
        getattr(physics.data, name)[:] = sim.data(name)[world]
    mujoco.mj_step1(physics.model.ptr, physics.data.ptr)
    physics.data.qacc_warmstart[:] = sim.data("qacc_warmstart")[world]


def test_observation_reward_and_one_physics_step(pair):
    pair.reference.reset()
    random_states(pair)
    sim, physics = pair.sim, pair.reference.physics
    state = torch.cat(list(pair.task.observation(sim).values()), dim=-1).numpy()
    reward = pair.task.reward(sim).numpy().copy()
    expected = {"state": [], "reward": [], "qpos": [], "qvel": [], "ncon": []}
    for world in range(WORLDS):
        copy_world(pair, world)
        expected["state"].append(pair.reference.state())
        expected["reward"].append(pair.reference.reward())
        expected["ncon"].append(physics.data.ncon)
        physics.step()
        expected["qpos"].append(physics.data.qpos.copy())
        expected["qvel"].append(physics.data.qvel.copy())
    sim.step()
    np.testing.assert_allclose(state, expected["state"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reward, expected["reward"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sim.qpos.numpy(), expected["qpos"], rtol=1e-4, atol=1e-4)
    assert_velocities_close(sim.qvel.numpy(), np.stack(expected["qvel"]))
    assert np.ptp(reward) > 0, "no state earned reward, or all the same: this compared little"
    if pair.task.xml in ("ball_in_cup.xml", "cheetah.xml", "walker.xml"):
        assert 0 < np.mean(np.array(expected["ncon"]) > 0) < 1, "these states should be in and out of contact"


def assert_velocities_close(found: np.ndarray, expected: np.ndarray) -> None:
    """1e-4 per joint; for one state in a hundred, 1e-4 of the world's fastest joint instead.

    Of 768 walker-stand states (six seeds) two miss the plain bound, by 3.6e-4 and 5.3e-4 in worlds whose
    fastest joint moves at 10 and 20 rad/s: hard impacts of 3,000 N and 4,000 rad/s2. C MuJoCo gives the same
    there with a tolerance of 1e-15 as with its own, so the difference is mujoco_warp's; that float32 is the
    cause is likely, not shown. A solver tolerance of 1e-8 instead of 1e-6 did not help (four of 768).
    """
    error = np.abs(found - expected)
    fastest = np.abs(expected).max(axis=1, keepdims=True)
    assert (error <= 1e-4 * np.maximum(1, fastest)).all(), error.max()
    assert ((error <= 1e-4 * (1 + np.abs(expected))).all(axis=1)).mean() >= 0.99


def test_resets_come_from_the_same_distribution(pair):
    ours, theirs = [], []
    for _ in range(3):
        start_episodes(pair)
        state = torch.cat([*pair.task.observation(pair.sim).values(), pair.sim.qpos], dim=-1)
        ours.append(state.numpy().copy())
    for _ in range(3 * WORLDS):
        state = pair.reference.reset()
        theirs.append(np.concatenate([state, pair.reference.physics.data.qpos]))
    ours, theirs = np.concatenate(ours), np.stack(theirs)
    for column in range(ours.shape[1]):
        x, y = ours[:, column], theirs[:, column]
        if np.ptp(y) < 1e-4:  # a constant, to float32
            np.testing.assert_allclose(x, y, atol=1e-4)
        else:
            assert ks_2samp(x, y).pvalue > 1e-4, (
                f"column {column}: {np.mean(x)} +- {np.std(x)}, not {np.mean(y)} +- {np.std(y)}"
            )
    assert pair.task.substeps == pair.reference.env._n_sub_steps
    assert pair.task.control_steps == pair.reference.env._step_limit
    np.testing.assert_array_equal(pair.sim.ctrl_low, pair.reference.action_low)


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
