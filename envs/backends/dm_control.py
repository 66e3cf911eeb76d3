"""dm_control's own environments: the reference for everything here, and a backend of worker processes.

Nothing else in the package imports this at once, since importing dm_control takes seconds.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import ctypes.util
import os
from typing import Any

import mujoco
import numpy as np

from mindreel.envs.backends.players import Observation, StepResult, WorldInfo
from mindreel.envs.config import EnvConfig
from mindreel.envs.warp.cameras import RenderConfig, find_cameras
from mindreel.envs.worlds import check_observations


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
from dm_control.rl.control import PhysicsError  # noqa: E402


class DMControlEnv:
    """One official environment, named and repeated as in `make_env`.

    Args:
        task: a name as in `TASKS`.
        seed: seed of the task's randomness.
        action_repeat: control steps for which one action holds.
        fast_render: draw without shadows and sky but for those that a `RenderConfig` asks for, and with `samples`,
            several times as fast with a GL library that runs on the CPU; if False, with dm_control's standard look.
        frame_skip: physics steps in one control step; the task's own if None.
        time_limit: decisions in an episode; the task's own if None.
        samples: with `fast_render`, rays per pixel and axis. OpenGL fixes them when it draws first, so they are given
            here and not with each picture.

    Raises:
        ValueError: for a task that dm_control does not have.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        action_repeat: int = 2,
        fast_render: bool = False,
        frame_skip: int | None = None,
        time_limit: int | None = None,
        samples: int = 1,
    ):
        domain, _, name = task.partition("-")
        if (domain, name) not in suite.ALL_TASKS:
            raise ValueError(f"dm_control has no task {task!r}.")
        self.env = suite.load(domain, name, task_kwargs={"random": seed})
        self.physics: Any = self.env.physics
        if os.environ["MUJOCO_GL"] == "disable":  # quadruped-escape asks for the context at each reset
            cls = type(self.physics)
            self.physics.__class__ = type(cls.__name__, (cls,), {"contexts": None})
        self.action_repeat = action_repeat
        self.fast_render = fast_render
        if fast_render:  # before anything is drawn, and before a reset: that of quadruped-escape sets OpenGL up
            self.physics.model.vis.quality.offsamples = samples**2 if samples > 1 else 0
        if frame_skip is not None:  # the tasks' constructors take no other than their own
            self.env._step_limit *= self.env._n_sub_steps / frame_skip
            self.env._n_sub_steps = frame_skip
        if time_limit is not None:
            self.env._step_limit = time_limit * action_repeat
        spec = self.env.action_spec()
        self.action_low, self.action_high = spec.minimum, spec.maximum
        self.control_steps = float(self.env._step_limit)
        endless = self.control_steps == float("inf")
        self.episode_steps: float = float("inf") if endless else round(self.control_steps) // action_repeat

    def reset(self) -> np.ndarray:
        """Starts an episode and returns its first state, (n,) float32."""
        self.env.reset()
        return self.state()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Holds `action` (A,) for `action_repeat` control steps: the next state, summed reward, end."""
        reward, last, _ = self.advance(action)
        return self.state(), reward, last

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Holds `action` (A,) for `action_repeat` control steps: summed reward, end, end for good."""
        reward, last, terminated = 0.0, False, False
        for _ in range(self.action_repeat):
            now = self.env.step(action)
            reward += now.reward
            last = now.last()
            if last:
                terminated = now.discount == 0
                break
        return reward, last, terminated

    def state(self) -> np.ndarray:
        """The present observation, concatenated in dm_control's order: (n,) float32."""
        observation = self.env.task.get_observation(self.physics)
        return np.concatenate([np.ravel(x) for x in observation.values()]).astype(np.float32)

    def state_names(self) -> tuple[str, ...]:
        """Names of the entries of `state`."""
        observation = self.env.task.get_observation(self.physics)
        return tuple(f"{name}[{i}]" for name, x in observation.items() for i in range(np.size(x)))

    def reward(self) -> float:
        """Reward of the present state and controls."""
        return float(self.env.task.get_reward(self.physics))

    def pixels(self, render: RenderConfig) -> np.ndarray:
        """The present pictures of the K cameras, one below another, uint8 (3, K * H, W), with this object's samples.

        Raises:
            ValueError: on a machine without a GL library, or for a camera that the model lacks.
        """
        overrides = None
        if self.fast_render:
            overrides = {"shadow": render.shadows, "skybox": render.skybox}
        pictures = self._draw(render, render_flag_overrides=overrides)
        return np.ascontiguousarray(pictures.transpose(2, 0, 1))

    def depth(self, render: RenderConfig) -> np.ndarray:
        """Metres along the cameras' axes, 0 where nothing is, float32 (1, K * H, W); raises as `pixels` does."""
        depth = self._draw(render, depth=True)[None]
        return np.where(self.segmentation(render) < 0, 0, depth).astype(np.float32)  # OpenGL's sky is not far away

    def segmentation(self, render: RenderConfig) -> np.ndarray:
        """Index of the geom shown, -1 where none is, int32 (1, K * H, W); raises as `pixels` does."""
        index, kind = np.moveaxis(self._draw(render, segmentation=True), -1, 0)
        return np.where(kind == int(mujoco.mjtObj.mjOBJ_GEOM), index, -1).astype(np.int32)[None]

    def _draw(self, render: RenderConfig, **what) -> np.ndarray:
        if os.environ["MUJOCO_GL"] in ("disable", "off", "false", "0"):
            raise ValueError(
                "dm_control draws with OpenGL and this machine has no EGL or OSMesa library "
                "(on Debian: apt-get install libosmesa6)."
            )
        views = find_cameras(self.physics.model.ptr, render.views)
        return np.concatenate(
            [self.physics.render(render.height, render.width, camera_id=view, **what) for view in views]
        )


class DMControlPlayer:
    """One official environment, as one of many worlds.

    Args:
        task: a name as in `TASKS`.
        config: the worlds' settings.
        observations: which of "pixels", "depth", "segmentation" and "state" are given.

    Raises:
        ValueError: for an unknown task, observation or camera, or pictures without a GL library.
    """

    def __init__(self, task: str, config: EnvConfig, observations: tuple[str, ...]):
        check_observations(observations, ("pixels", "state", "depth", "segmentation"))
        self._env = DMControlEnv(
            task,
            action_repeat=config.action_repeat,
            fast_render=config.fast_render,
            frame_skip=config.frame_skip,
            time_limit=config.time_limit,
            samples=config.render.samples,
        )
        self._observations, self._render = observations, config.render
        self._env.reset()
        self._last = self._observe()
        self.info = WorldInfo(
            action_low=self._env.action_low,
            action_high=self._env.action_high,
            state_names=self._env.state_names(),
            control_steps=self._env.control_steps,
            control_seconds=self._env.env.control_timestep(),
        )

    def reset(self, seed: int | None) -> Observation:
        """Starts an episode."""
        if seed is not None:
            self._env.env.task.random.seed(seed)
        self._env.reset()
        self._last = self._observe()
        return self._last

    def step(self, action: np.ndarray) -> StepResult:
        """Holds an action (A,) for the action repeat; a world whose physics diverges is broken."""
        try:
            reward, last, terminated = self._env.advance(action)
        except PhysicsError:
            return StepResult(self._last, 0.0, False, True, True)
        self._last = self._observe()
        return StepResult(self._last, reward, terminated, last and not terminated, False)

    def close(self) -> None:
        """Frees the simulator and what it draws with."""
        self._env.env.close()

    def _observe(self) -> Observation:
        env, render = self._env, self._render
        read = {
            "state": env.state,
            "pixels": lambda: env.pixels(render),
            "depth": lambda: env.depth(render),
            "segmentation": lambda: env.segmentation(render),
        }
        return {name: read[name]() for name in self._observations}
