"""Any environment of Gymnasium, as one of many worlds.

Actions are in [-1, 1]. For a Box they are stretched to its bounds (an entry without bounds is passed on as it is);
for a Discrete space of n actions there are n entries, of which the highest is chosen. Other spaces are refused.
Observations that are pictures, uint8 (H, W), (H, W, C) or (C, H, W), become `pixels`; all others, flattened, become
`state`, and `pixels` is then what the environment draws of itself. Of a Dict the entry that is a picture becomes
`pixels` and the others `state`. Grey pictures are given three equal channels.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from mindreel.envs.backends.players import Observation, StepResult, WorldInfo
from mindreel.envs.config import EnvConfig
from mindreel.envs.worlds import check_observations

_FRAMES_PER_SECOND = 30  # of an environment that does not say


class GymPlayer:
    """One environment of Gymnasium.

    Args:
        task: its id, such as "Pendulum-v1" or "module:Name-v0".
        config: the worlds' settings: picture size, action repeat and time limit; the rest is the environment's own.
        observations: "pixels", uint8 (3, H, W), "state", float32 (n,), or both.

    Raises:
        ValueError: for an id that is not there or lacks a package, actions or pictures of another sort, or an
            environment that cannot be drawn where it should be.
    """

    def __init__(self, task: str, config: EnvConfig, observations: tuple[str, ...]):
        check_observations(observations, ("pixels", "state"))
        self._observations, self._action_repeat = observations, config.action_repeat
        self._size = (config.render.width, config.render.height)
        limit = None if config.time_limit is None else config.time_limit * config.action_repeat
        self._env = _make(task, limit, None)
        self._picture, self._rest = _split(task, self._env.observation_space)
        if "pixels" in observations and self._picture is None:
            self._env.close()
            self._env = _make(task, limit, "rgb_array")
        space = self._env.action_space
        if not isinstance(space, spaces.Discrete | spaces.Box):
            raise ValueError(f"{task} takes {space}: agents here need a Box or a Discrete space of actions.")
        self._space = space
        count = int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape))
        state_dim = 0 if self._rest is None else spaces.flatdim(self._rest)
        spec = self._env.spec
        steps = spec.max_episode_steps if spec is not None else None
        self.info = WorldInfo(
            action_low=-np.ones(count, np.float32),
            action_high=np.ones(count, np.float32),
            state_names=tuple(f"observation[{i}]" for i in range(state_dim)),
            control_steps=float("inf") if steps is None else steps,
            control_seconds=1 / float(self._env.metadata.get("render_fps") or _FRAMES_PER_SECOND),
        )

    def reset(self, seed: int | None) -> Observation:
        """Starts an episode."""
        seen, _ = self._env.reset(seed=seed)
        return self._observe(seen)

    def step(self, action: np.ndarray) -> StepResult:
        """Holds an action (A,) in [-1, 1] until the action repeat, or the episode, is over."""
        total, seen, terminated, truncated = 0.0, None, False, False
        for _ in range(self._action_repeat):
            seen, reward, terminated, truncated, _ = self._env.step(self._action(action))
            total += float(reward)
            if terminated or truncated:
                break
        return StepResult(self._observe(seen), total, terminated, truncated, False)

    def close(self) -> None:
        """Frees the environment's windows and libraries."""
        self._env.close()

    def _action(self, action: np.ndarray) -> np.ndarray | np.int64:
        space = self._space
        if isinstance(space, spaces.Discrete):
            return np.int64(space.start + np.argmax(action))
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        stretched = np.clip(low + (high - low) * (action + 1) / 2, low, high)
        return stretched.reshape(space.shape).astype(space.dtype)

    def _observe(self, seen) -> Observation:
        found: Observation = {}
        for name in self._observations:
            if name == "pixels":
                shown = self._draw() if self._picture is None else seen[self._picture] if self._picture else seen
                found[name] = _picture(shown, self._size)
            else:
                found[name] = self._state(seen)
        return found

    def _state(self, seen) -> np.ndarray:
        if self._rest is None:
            return np.zeros(0, np.float32)
        if self._picture:
            assert isinstance(self._rest, spaces.Dict)
            seen = {name: seen[name] for name in self._rest}
        return np.asarray(spaces.flatten(self._rest, seen), np.float32)

    def _draw(self) -> Any:
        try:
            frame = self._env.render()
        # Some find out here that a package is missing.
        except (gymnasium.error.Error, ImportError, NotImplementedError) as error:
            raise ValueError(f"This environment cannot be drawn: {error}") from error
        if frame is None:
            raise ValueError("This environment cannot be drawn: its render() gives nothing.")
        return frame


def _make(task: str, limit: int | None, render_mode: str | None) -> gymnasium.Env:
    options: dict[str, Any] = {"max_episode_steps": limit, "render_mode": render_mode}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return gymnasium.make(task, disable_env_checker=True, **given)
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"Gymnasium makes no {task!r}: {error}") from error
    except TypeError as error:  # of its constructor, which gets these names if they are not Gymnasium's own
        hint = " To be drawn it must take render_mode='rgb_array'; without that, observe the state alone."
        raise ValueError(f"Gymnasium makes no {task!r}: {error}.{hint if render_mode else ''}") from error


def _split(task: str, space: spaces.Space) -> tuple[str | None, spaces.Space | None]:
    """Where the picture is, and the space of all else.

    Returns:
        The picture's name in a Dict, "" where the observation itself is one, None where there is none; and the space
        of the state, None where there is none.
    """
    if not isinstance(space, spaces.Dict):
        return ("", None) if _is_picture(task, space) else (None, space)
    pictures = [name for name, entry in space.items() if _is_picture(task, entry)]
    if len(pictures) > 1:
        raise ValueError(f"{task} shows several pictures, {', '.join(pictures)}: wrap it so that one is left.")
    if not pictures:
        return None, space
    rest = {name: entry for name, entry in space.items() if name != pictures[0]}
    return pictures[0], spaces.Dict(rest) if rest else None


def _is_picture(task: str, space: spaces.Space) -> bool:
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        return False
    if len(space.shape) == 2 or space.shape[-1] in (1, 3, 4) or space.shape[0] in (1, 3):
        return True
    raise ValueError(
        f"{task} shows uint8 {space.shape}, which is no picture here: expected (H, W), (H, W, C) with 1, 3 or 4 "
        "channels, or (C, H, W) with 1 or 3. Encoders look at several frames by themselves: drop a wrapper that stacks."
    )


def _picture(frame, size: tuple[int, int]) -> np.ndarray:
    """A frame (H, W), (H, W, C) or (C, H, W) as uint8 (3, height, width), each pixel the mean of those it covers."""
    frame = np.asarray(frame, np.uint8)
    if frame.ndim == 3 and frame.shape[-1] not in (1, 3, 4):
        frame = frame.transpose(1, 2, 0)
    image = Image.fromarray(frame[..., 0] if frame.ndim == 3 and frame.shape[-1] == 1 else frame).convert("RGB")
    return np.ascontiguousarray(np.asarray(image.resize(size, Image.Resampling.BOX)).transpose(2, 0, 1))
