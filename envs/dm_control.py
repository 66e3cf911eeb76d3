"""dm_control's own environment, one world on the CPU: the reference for everything here.

Nothing else in the package imports it, since importing dm_control takes seconds.
"""

import ctypes.util
import os
from typing import Any

import numpy as np

from envs.warp_sim import RenderConfig


def _choose_gl() -> None:
    """Lets MuJoCo draw with a GL library that is here, and not warn of a display that is not."""
    if "MUJOCO_GL" in os.environ:
        return
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = backend
            return
    os.environ["MUJOCO_GL"] = "disable"


_choose_gl()

from dm_control import suite  # noqa: E402  (reads MUJOCO_GL when imported)


class DMControlEnv:
    """One official environment, named and repeated as in `make_env`.

    Args:
        task: a name as in `TASKS`.
        seed: seed of the task's randomness.
        action_repeat: control steps for which one action holds.

    Raises:
        ValueError: for a task that dm_control does not have.
    """

    def __init__(self, task: str, seed: int = 0, action_repeat: int = 2):
        domain, _, name = task.partition("-")
        if (domain, name) not in suite.ALL_TASKS:
            raise ValueError(f"dm_control has no task {task!r}.")
        self.env = suite.load(domain, name, task_kwargs={"random": seed})
        self.physics: Any = self.env.physics
        self.action_repeat = action_repeat
        spec = self.env.action_spec()
        self.action_low, self.action_high = spec.minimum, spec.maximum
        self.episode_steps = round(self.env._step_limit) // action_repeat

    def reset(self) -> np.ndarray:
        """Starts an episode and returns its first state, (n,) float32."""
        self.env.reset()
        return self.state()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Holds `action` (A,) for `action_repeat` control steps: the next state, summed reward, end."""
        reward = 0.0
        last = False
        for _ in range(self.action_repeat):
            now = self.env.step(action)
            reward += now.reward
            last = now.last()
            if last:
                break
        return self.state(), reward, last

    def state(self) -> np.ndarray:
        """The present observation, concatenated in dm_control's order: (n,) float32."""
        observation = self.env.task.get_observation(self.physics)
        return np.concatenate([np.ravel(x) for x in observation.values()]).astype(np.float32)

    def reward(self) -> float:
        """Reward of the present state and controls."""
        return float(self.env.task.get_reward(self.physics))

    def pixels(self, render: RenderConfig) -> np.ndarray:
        """The present picture, uint8 (3, H, W).

        Raises:
            ValueError: on a machine without a GL library.
        """
        if os.environ["MUJOCO_GL"] in ("disable", "off", "false", "0"):
            raise ValueError(
                "dm_control draws with OpenGL and this machine has no EGL or OSMesa library "
                "(on Debian: apt-get install libosmesa6)."
            )
        picture = self.physics.render(render.height, render.width, camera_id=render.camera)
        return np.ascontiguousarray(picture.transpose(2, 0, 1))
