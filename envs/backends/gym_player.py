"""Any environment of Gymnasium, as one of many worlds.

Actions are in [-1, 1]. For a Box they are stretched to its bounds; an entry with one bound reaches 2 from it, one
without any from -1 to 1. For a Discrete space of n actions there are n entries, of which the highest is chosen. Other
spaces are refused, and so is whatever an environment gives against Gymnasium's interface, in one sentence that names
the environment. `gym_spaces` says what its observations become.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mindreel.envs.backends.gym_spaces import Layout, find_layout, to_picture
from mindreel.envs.backends.players import Observation, StepResult, WorldInfo
from mindreel.envs.config import EnvConfig
from mindreel.envs.worlds import check_observations

_FRAMES_PER_SECOND = 30  # of an environment that does not say
_OLD_API = (
    "Environments of Gym before 0.26 do so: have reset(seed=..., options=...) return (observation, info) and step "
    "(observation, reward, terminated, truncated, info), or make it through shimmy's GymV21Environment-v0."
)


class GymPlayer:
    """One environment of Gymnasium.

    Args:
        task: its id, such as "Pendulum-v1" or "module:Name-v0".
        config: the worlds' settings: picture size, action repeat and time limit; the rest is the environment's own.
        observations: "pixels", uint8 (3, H, W), "state", float32 (n,), or both.

    Raises:
        ValueError: for an id that is not there or lacks a package, actions or observations of another sort, an
            environment that cannot be drawn where it should be, or anything that the environment raises.
    """

    def __init__(self, task: str, config: EnvConfig, observations: tuple[str, ...]):
        check_observations(observations, ("pixels", "state"))
        self._task, self._observations, self._action_repeat = task, observations, config.action_repeat
        self._size = (config.render.width, config.render.height)
        limit = None if config.time_limit is None else config.time_limit * config.action_repeat
        self._env = _make(task, limit, None)
        self._layout: Layout = find_layout(task, self._env.observation_space)
        if "pixels" in observations and self._layout.picture is None:
            self._env.close()
            self._env = _make(task, limit, "rgb_array")
        space = self._env.action_space
        if not isinstance(space, spaces.Discrete | spaces.Box):
            raise ValueError(f"{task} takes {space}: agents here need a Box or a Discrete space of actions.")
        self._space = space
        count = int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape))
        steps = self._env.spec.max_episode_steps if self._env.spec is not None else None
        self.info = WorldInfo(
            action_low=-np.ones(count, np.float32),
            action_high=np.ones(count, np.float32),
            state_names=tuple(f"observation[{i}]" for i in range(self._layout.state_dim)),
            control_steps=float("inf") if steps is None else steps,
            control_seconds=1 / float(self._env.metadata.get("render_fps") or _FRAMES_PER_SECOND),
            notes=(*self._layout.notes, *self._notes_on_actions()),
        )

    def reset(self, seed: int | None) -> Observation:
        """Starts an episode."""
        result = self._call("reset", lambda: self._env.reset(seed=seed))
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise ValueError(f"{self._task}: its reset() returns {_kind(result)}, no (observation, info). {_OLD_API}")
        return self._observe(result[0])

    def step(self, action: np.ndarray) -> StepResult:
        """Holds an action (A,) in [-1, 1] until the action repeat, or the episode, is over."""
        total, seen, terminated, truncated = 0.0, None, False, False
        for _ in range(self._action_repeat):
            result = self._call("step", lambda: self._env.step(self._action(action)))
            if not (isinstance(result, tuple) and len(result) == 5):
                raise ValueError(f"{self._task}: its step() returns {_kind(result)}, no five values. {_OLD_API}")
            seen, reward, terminated, truncated, _ = result
            total += self._number(reward)
            if terminated or truncated:
                break
        return StepResult(self._observe(seen), total, bool(terminated), bool(truncated), False)

    def close(self) -> None:
        """Frees the environment's windows and libraries."""
        self._env.close()

    def _action(self, action: np.ndarray) -> np.ndarray | np.int64:
        space = self._space
        if isinstance(space, spaces.Discrete):
            return np.int64(space.start + np.argmax(action))
        low, high = _reach(space)
        stretched = low + (high - low) * (action + 1) / 2
        if np.issubdtype(space.dtype, np.integer):
            stretched = np.rint(stretched)  # else the highest is only chosen by an action of exactly 1
        return np.clip(stretched, low, high).reshape(space.shape).astype(space.dtype)

    def _notes_on_actions(self) -> tuple[str, ...]:
        if isinstance(self._space, spaces.Discrete):
            return ()
        own_low, own_high = self._space.low.reshape(-1), self._space.high.reshape(-1)
        low, high = _reach(self._space)
        open_ends = np.flatnonzero(~np.isfinite(own_low) | ~np.isfinite(own_high))
        if not len(open_ends):
            return ()
        named = ", ".join(f"{i} from {low[i]:g} to {high[i]:g}" for i in open_ends[:8]) + ", ..." * (len(open_ends) > 8)
        return (
            f"{self._task}: its action space has no bounds for some entries, which agents here use so: {named}. Give "
            "the space the bounds that you want.",
        )

    def _number(self, reward: Any) -> float:
        try:
            number = np.asarray(reward, np.float64)
        except (TypeError, ValueError):
            number = None
        if number is None or number.size != 1 or reward is None:
            raise ValueError(f"{self._task}: its reward should be one number, got {_kind(reward)}.")
        return float(number.item())

    def _observe(self, seen: Any) -> Observation:
        found: Observation = {}
        for name in self._observations:
            if name == "state":
                found[name] = self._call("observation", lambda: self._layout.state(seen))
            elif self._layout.picture is None:
                found[name] = to_picture(self._draw(), self._size, f"{self._task}: its render()")
            else:
                picture = self._call("observation", lambda: self._layout.find_picture(seen))
                found[name] = to_picture(picture, self._size, f"{self._task}: its observation", self._layout.white)
        return found

    def _draw(self) -> Any:
        frame = self._call("render", self._env.render)
        if frame is None:
            raise ValueError(f"{self._task} cannot be drawn: its render() returns nothing.")
        return frame

    def _call(self, what: str, work: Callable[[], Any]) -> Any:
        """The result of something of the environment's, which may raise anything."""
        try:
            return work()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            inside = Path(gymnasium.__file__).parent in Path(where.filename).parents
            if what in ("reset", "step") and inside and "to unpack" in str(error):
                raise ValueError(
                    f"{self._task}: its {what}() returns too few or too many values. {_OLD_API}"
                ) from error
            fault = f"its {what}{'() fails' if what != 'observation' else ' does not fit its own observation_space'}"
            place = f"({Path(where.filename).name}, line {where.lineno})"
            raise ValueError(f"{self._task}: {fault}: {type(error).__name__}: {error} {place}") from error


def _reach(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (A,) of what an agent does in a Box, finite where the Box's are not."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    low_is, high_is = np.isfinite(low), np.isfinite(high)
    reach_low = np.where(low_is, low, np.where(high_is, high - 2, -1))
    reach_high = np.where(high_is, high, np.where(low_is, low + 2, 1))
    return reach_low, reach_high


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    size = f" {tuple(shape)}" if shape is not None else f" of {len(value)}" if isinstance(value, tuple) else ""
    return "None" if value is None else type(value).__name__ + size


def _make(task: str, limit: int | None, render_mode: str | None) -> gymnasium.Env:
    options: dict[str, Any] = {"max_episode_steps": limit, "render_mode": render_mode}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return gymnasium.make(task, disable_env_checker=True, **given)
    except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound) as error:
        hint = "" if ":" in task else f" Where another package registers it, name that too: module:{task}."
        raise ValueError(f"Gymnasium makes no {task!r}: {error}{hint}") from error
    except TypeError as error:  # of its constructor, which gets these names if they are not Gymnasium's own
        hint = " To be drawn it must take render_mode='rgb_array'; without that, observe the state alone."
        raise ValueError(f"Gymnasium makes no {task!r}: {error}.{hint if render_mode else ''}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"Gymnasium makes no {task!r}: {error}") from error
    except Exception as error:  # its constructor may raise anything
        raise ValueError(f"Gymnasium makes no {task!r}: {type(error).__name__}: {error}") from error
