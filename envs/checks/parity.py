"""How equal a task is to dm_control's own: interface, reward, observation, physics, resets and pictures.

`scripts/parity.py` prints what is measured here, and `tests/envs/test_parity.py` holds it at smaller sizes. Nothing
else imports this, since importing dm_control takes seconds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from mindreel.envs.backends.dm_control import suite
from mindreel.envs.checks.parity_pictures import (
    LOOK,
    Pictures,
    moving_picture_error,
    picture_error,
    pictures,
    showing_what_moves,
)
from mindreel.envs.checks.parity_states import Pair, copy_world, random_states
from mindreel.envs.tasks import TASKS

ALL_TASKS = tuple(f"{domain}-{name}" for domain, name in suite.ALL_TASKS)
"""dm_control's tasks, named as in `TASKS`."""
STATE_BOUND = 1e-5
"""Largest error of a reward and of an entry of an observation in the same state."""
PHYSICS_BOUND = 1e-4
"""Largest error of a world after one control step from the same state, ..."""
PHYSICS_SHARE = 0.99
"""... which this fraction of worlds must keep."""
RESET_BOUND = 1e-3
"""Smallest p-value of the tests that both reset alike."""
PICTURE_BOUND = 5.0
"""Largest mean absolute difference of two pictures, of 255 shades, ..."""
MOVING_PICTURE_BOUND = 30.0
"""... and of what moves in them."""
# Chosen between what was found of 18 tasks in 16 domains, four states each: 4 to 24, for edges that two renderers place
# half a pixel apart and shades on round bodies; of a body that is missing 36 or more, mostly 60 to 110; of all that
# moves, two pixels aside, 32 to 60.
_BROKEN = 1e9  # error of what is no number
_NOISE = 1e-4  # by which float32 may move a value, if the world itself is the same


@dataclass(frozen=True)
class Sizes:
    """How much is compared."""

    states: int = 256
    """Random states."""
    resets: int = 1000
    """Episodes started, here and there."""
    pictures: int = 4
    """States drawn."""


def compare(name: str, sizes: Sizes) -> tuple[dict[str, Any], Pictures | None]:
    """A row of figures of the task called `name`, and the pictures that were compared.

    Returns:
        `task`, `reward_error`, `observation_error` (in the same state), `next_reward_error`, `next_observation_error`,
        `physics_error` (after one control step from there; all of them the largest of any state), `physics_share` (of
        the states that keep the bound), `reset_p_value`, `picture_error`, `moving_picture_error`
        (None without a GL library, the second also if nothing that moves is in view), `moving_camera` (by which the
        second was found; None without a GL library), `equal`, and `why` it is not.
        What could not be compared is not equal. A task of dm_control's that is not in `TASKS` has no figures.
    """
    if name not in TASKS:
        errors = [f"{when}{what}_error" for when in ("", "next_") for what in ("reward", "observation")]
        others = ("physics_error", "physics_share", "reset_p_value")
        nothing = dict.fromkeys((*errors, *others, "picture_error", "moving_picture_error", "moving_camera"))
        return {"task": name} | nothing | {"equal": False, "why": "missing"}, None
    pair = Pair(name, sizes.states)
    random_states(pair)
    drawn = pictures(pair, sizes.pictures)
    close, camera = _close(pair, sizes.pictures, drawn)
    look, different_look = compare_pictures(drawn, close)
    step = compare_step(pair)
    p_value = reset_p_value(pair, sizes.resets)
    pair.close()
    wrong = {
        "reward": step.reward.max() > STATE_BOUND,
        "observation": step.observation.max() > STATE_BOUND,
        f"physics of {1 - step.physics_share:.1%} of states": step.physics_share < PHYSICS_SHARE,
        "resets": p_value < RESET_BOUND,
    }
    why = different_interface(pair) + [what for what, holds in wrong.items() if holds] + different_look
    row = {
        "task": name,
        "reward_error": float(step.reward.max()),
        "observation_error": float(step.observation.max()),
        "next_reward_error": float(step.next_reward.max()),
        "next_observation_error": float(step.next_observation.max()),
        "physics_error": float(step.physics.max()),
        "physics_share": step.physics_share,
        "reset_p_value": p_value,
        **look,
        "moving_camera": camera,
        "equal": not why,
        "why": "; ".join(why),
    }
    return row, drawn


def _close(pair: Pair, count: int, drawn: Pictures) -> tuple[Pictures, str | None]:
    """Views that show enough of what moves, and their camera's name: those drawn already where they do."""
    if drawn.theirs is None:
        return drawn, None
    render = showing_what_moves(pair, count)
    close = drawn if render is LOOK else pictures(pair, count, render)
    return close, pair.task.model.camera(render.camera).name or str(render.camera)


def compare_pictures(drawn: Pictures, close: Pictures) -> tuple[dict[str, float | None], list[str]]:
    """`picture_error` and `moving_picture_error`, and what of the pictures is not equal, or not known to be.

    Args:
        drawn: what is compared as a whole.
        close: what moves is compared in these, which may be of another camera.
    """
    if drawn.theirs is None or close.theirs is None or close.moving is None:
        return {"picture_error": None, "moving_picture_error": None}, ["pictures not compared"]
    whole = picture_error(drawn.ours, drawn.theirs)
    moving = moving_picture_error(close.ours, close.theirs, close.moving)
    wrong = {
        "picture": whole > PICTURE_BOUND,
        "picture of what moves": moving is not None and moving > MOVING_PICTURE_BOUND,
        "nothing that moves in view": moving is None,
    }
    why = [what for what, holds in wrong.items() if holds]
    return {"picture_error": whole, "moving_picture_error": moving}, why


@dataclass(frozen=True)
class Step:
    """Errors of B worlds in random states, and of one control step from there; `_BROKEN` where not finite."""

    reward: np.ndarray
    """Of the reward, (B,): the difference over 1 plus its size."""
    observation: np.ndarray
    """Of the observation, (B,): the largest among its entries, each as for the reward."""
    physics: np.ndarray
    """After the step, (B,): the largest among positions, likewise, and velocities, over the fastest joint's or 1."""
    next_reward: np.ndarray
    """Of the reward after the step, (B,), as `reward`."""
    next_observation: np.ndarray
    """Of the observation after the step, (B,), as `observation`."""
    rewards: np.ndarray
    """The rewards, (B,)."""
    contacts: np.ndarray
    """Numbers of contacts at the start, (B,)."""

    @property
    def physics_share(self) -> float:
        """Fraction of the worlds that keep the bound."""
        return float((self.physics <= PHYSICS_BOUND).mean())


def compare_step(pair: Pair) -> Step:
    """Compares the worlds in their present states, and moves them by one control step."""
    sim, task, physics = pair.sim, pair.task, pair.reference.physics
    observation, reward = pair.observation().copy(), task.reward(sim).numpy().copy()
    terminated = task.terminated(sim).numpy().copy()
    names = ("observation", "reward", "next_observation", "next_reward", "qpos", "qvel", "ncon")
    expected: dict[str, list] = {name: [] for name in names}
    for world in range(sim.num_worlds):
        copy_world(pair, world)
        expected["observation"].append(pair.reference.state())
        ends = pair.reference.env.task.get_termination(physics) is not None
        expected["reward"].append(pair.reference.reward() if ends == terminated[world] else np.nan)
        expected["ncon"].append(physics.data.ncon)
        physics.step(task.substeps)
        expected["next_observation"].append(pair.reference.state())
        expected["next_reward"].append(pair.reference.reward())
        expected["qpos"].append(physics.data.qpos.copy())
        expected["qvel"].append(physics.data.qvel.copy())
    sim.step()
    theirs = {name: np.stack(values) for name, values in expected.items()}
    fastest = np.abs(theirs["qvel"]).max(1, keepdims=True).clip(min=1)
    velocity = _worst(np.abs(sim.qvel.numpy() - theirs["qvel"]) / fastest)
    return Step(
        reward=_worst(_error(reward, theirs["reward"])[:, None]),
        observation=_worst(_error(observation, theirs["observation"])),
        physics=np.maximum(_worst(_error(sim.qpos.numpy(), theirs["qpos"])), velocity),
        next_reward=_worst(_error(task.reward(sim).numpy(), theirs["next_reward"])[:, None]),
        next_observation=_worst(_error(pair.observation(), theirs["next_observation"])),
        rewards=reward,
        contacts=theirs["ncon"],
    )


def _error(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(found - expected) / (1 + np.abs(expected))


def _worst(errors: np.ndarray) -> np.ndarray:
    return np.nan_to_num(errors.max(1), nan=_BROKEN, posinf=_BROKEN)


def different_interface(pair: Pair) -> list[str]:
    """What an agent is told of the task that differs: names and sizes of what it sees, bounds, times."""
    sim, task, reference = pair.sim, pair.task, pair.reference
    seen = {name: x.shape[-1] for name, x in task.observation(sim).items()}
    spec = reference.env.observation_spec()
    found = {
        "observation": (seen, {name: int(np.prod(entry.shape)) for name, entry in spec.items()}),
        "least action": (sim.ctrl_low.tolist(), reference.action_low.astype(np.float32).tolist()),
        "greatest action": (sim.ctrl_high.tolist(), reference.action_high.astype(np.float32).tolist()),
        "physics steps in a control step": (task.substeps, reference.env._n_sub_steps),
        "physics step": (task.model.opt.timestep, reference.physics.timestep()),
        "episode length": (task.control_steps, reference.env._step_limit),
    }
    return [f"{what}: {ours}, not {theirs}" for what, (ours, theirs) in found.items() if ours != theirs]


def reset_p_value(pair: Pair, resets: int) -> float:
    """How likely two samples of first states would differ so much if both were drawn alike.

    Two-sample Kolmogorov-Smirnov tests of every entry of observation, positions and velocities, and of as many random
    directions among them, in which a wrong correlation shows: the smallest p-value times their number (Bonferroni), at
    most 1. Of entries that dm_control never varies, it is counted how often they differ here. Values are rounded
    first: an entry that is nearly always zero, as a dog's sideways acceleration, is zero up to float32's noise here.
    """
    ours, theirs = [], []
    for _ in range(-(-resets // pair.sim.num_worlds)):
        pair.start_episodes()
        ours.append(np.concatenate([pair.observation(), pair.sim.qpos.numpy(), pair.sim.qvel.numpy()], axis=1))
    data = pair.reference.physics.data
    for _ in range(resets):
        theirs.append(np.concatenate([pair.reference.reset(), data.qpos, data.qvel]))
    # As float64, or what is equal would differ in its last digits for having been float32.
    samples = np.concatenate(ours).astype(np.float64)[:resets], np.stack(theirs)
    ours, theirs = (np.round(sample / _NOISE) * _NOISE for sample in samples)
    constant = np.ptp(theirs, axis=0) < _NOISE
    differs = np.abs(ours - theirs[0])[:, constant] > _NOISE  # counted, however little
    ours, theirs = ours[:, ~constant], theirs[:, ~constant]
    scale = theirs.std(0)
    directions = np.random.default_rng(0).standard_normal((len(scale), len(scale))) / scale[:, None]
    ours = np.hstack([ours, ours @ directions, differs])
    theirs = np.hstack([theirs, theirs @ directions, np.zeros_like(differs)])
    least = min(float(np.asarray(ks_2samp(x, y, method="asymp"))[1]) for x, y in zip(ours.T, theirs.T, strict=True))
    return float(min(1.0, least * ours.shape[1]))
