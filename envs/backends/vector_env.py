"""The worlds as vector environments of Gymnasium, for those who use another learner.

    import gymnasium

    worlds = gymnasium.make_vec("mindreel/walker-walk-v0", num_envs=256, output="torch", device="cuda")

Gymnasium finds the ids by itself where Mindreel is installed (`mindreel/registration.py`).
"""

from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mindreel.envs.make import Backend, make_env
from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.randomize import RandomizeConfig
from mindreel.envs.worlds import check_observations, select

_SEEN = ("pixels", "state", "depth", "segmentation")

Array = np.ndarray | torch.Tensor
"""Of the kind that `output` names."""


class WorldsVectorEnv(gymnasium.vector.VectorEnv):
    """Worlds of one task, with Gymnasium's interface; a step is one decision in all of them.

    By default a world whose episode ends starts the next in the same step (`AutoresetMode.SAME_STEP`). With numpy
    outputs the infos then hold `final_obs`, an object array of what the ended worlds showed last, and `final_info`
    with their `return` and `length`, each beside a mask `_NAME`, as in Gymnasium's own vector environments. With torch
    outputs these are tensors of all worlds, always there and meaningful where the mask holds, since to ask whether a
    world has ended would wait for the device.

    With `NEXT_STEP`, which many of Gymnasium's wrappers ask for, a world that has ended shows its last observation,
    and starts the next episode in the next step, whose action it ignores and whose reward is 0; asking for that waits
    for the device. With `DISABLED` worlds start anew by `reset(options={"reset_mask": ...})` alone. Both
    are for `backend="warp"`.

    Args:
        task: as for `make_env`.
        num_envs: number of worlds, B.
        output: whether observations, rewards and flags are numpy arrays or torch tensors on `device`. Actions may
            be either.
        observations: one gives a Box, several a Dict of them; pictures are (C, K * H, W).
        action_repeat: control steps for which one action holds.
        max_episode_steps: decisions after which an episode is truncated; the task's own limit if None.
        autoreset_mode: when a world whose episode has ended starts the next one.
        render_mode: "rgb_array" to draw at every step what `render` returns; None to draw only what is observed.
        seed, device, render, max_contacts, max_constraints, frame_skip, backend, fast_render, workers, randomize: as
            for `make_env`.

    Raises:
        ValueError: for an unknown output or observation, and as `make_env` does.
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        output: Literal["numpy", "torch"] = "numpy",
        observations: tuple[str, ...] = ("state",),
        action_repeat: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: Literal["rgb_array"] | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        render: RenderConfig = RenderConfig(),  # noqa: B008 (frozen)
        max_contacts: int | None = None,
        max_constraints: int | None = None,
        frame_skip: int | None = None,
        backend: Backend = "warp",
        fast_render: bool = True,
        workers: int | None = None,
        randomize: RandomizeConfig = RandomizeConfig(),  # noqa: B008 (frozen)
    ):
        if output not in ("numpy", "torch"):
            raise ValueError(f"output should be 'numpy' or 'torch', got {output!r}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode should be 'rgb_array' or None, got {render_mode!r}.")
        if AutoresetMode(autoreset_mode) is not AutoresetMode.SAME_STEP and backend != "warp":
            raise ValueError(
                f"backend={backend} has AutoresetMode.SAME_STEP alone: nothing there steps past an episode's end."
            )
        check_observations(observations, _SEEN)
        observations = tuple(observations)
        drawn = ("pixels",) if render_mode and "pixels" not in observations else ()
        self.worlds = make_env(
            task,
            num_envs,
            device,
            seed,
            observations + drawn,
            action_repeat,
            render,
            max_contacts,
            max_constraints,
            frame_skip=frame_skip,
            time_limit=max_episode_steps,
            backend=backend,
            fast_render=fast_render,
            workers=workers,
            randomize=randomize,
        )
        self.num_envs, self.render_mode = num_envs, render_mode
        self._output, self._observations = output, observations
        self.metadata = {
            "autoreset_mode": AutoresetMode(autoreset_mode),
            "render_modes": ["rgb_array"],
            "render_fps": max(1, round(1 / self.worlds.decision_seconds)),
        }
        parts: dict[str, spaces.Space] = {name: _box(self.worlds.observation_spec[name][0]) for name in observations}
        self.single_observation_space = spaces.Dict(parts) if len(parts) > 1 else parts[observations[0]]
        self.single_action_space = _box(self.worlds.full_action_spec["action"][0])
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._root = self.worlds.observe()
        self._return = torch.zeros(num_envs, device=self.worlds.device)
        self._length = torch.zeros(num_envs, dtype=torch.int64, device=self.worlds.device)
        self._waiting = torch.zeros(num_envs, dtype=torch.bool, device=self.worlds.device)  # for the next episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every world, or in those of `options["reset_mask"]`, (B,) bool."""
        super().reset(seed=seed)
        if seed is not None:
            self.worlds.set_seed(seed)
        mask = torch.ones(self.num_envs, dtype=torch.bool, device=self.worlds.device)
        if options is not None and "reset_mask" in options:
            mask = torch.as_tensor(options["reset_mask"], device=self.worlds.device)
            if mask.shape != (self.num_envs,) or mask.dtype != torch.bool:
                raise ValueError(f"reset_mask should be bool ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}.")
        self._root = self.worlds.reset(self.worlds.observe().set("_reset", mask[:, None]))
        self._waiting = self._waiting & ~mask
        self._return = torch.where(mask, 0.0, self._return)
        self._length = torch.where(mask, 0, self._length)
        return self._seen(self._root), {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Takes actions (B, A), clipped to their bounds: observations, rewards, terminations, truncations, infos.

        Raises:
            ValueError: for actions of another shape, or NaN ones.
        """
        action = torch.as_tensor(actions, dtype=torch.float32, device=self.worlds.device)
        if action.shape != self.action_space.shape:
            raise ValueError(f"Actions should be {self.action_space.shape}, got {tuple(action.shape)}.")
        if self.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            return self._step_without_reset(action)
        stepped, following = self.worlds.step_and_maybe_reset(self._root.set("action", action))
        after, self._root = stepped["next"], following
        reward, ended, terminated, truncated = (
            after[name].squeeze(-1) for name in ("reward", "done", "terminated", "truncated")
        )
        self._return, self._length = self._return + reward, self._length + 1
        infos = self._final(after, ended)
        self._return = torch.where(ended, 0.0, self._return)
        self._length = torch.where(ended, 0, self._length)
        return self._seen(following), self._give(reward), self._give(terminated), self._give(truncated), infos

    def _step_without_reset(self, action: torch.Tensor) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """A step in which worlds stay where their episodes end, and those that wait start the next one."""
        after = self.worlds.step(self._root.set("action", action))["next"]
        reward, terminated, truncated = (after[name].squeeze(-1) for name in ("reward", "terminated", "truncated"))
        self._root = self.worlds.observe()
        if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            waiting = self._waiting
            reward = torch.where(waiting, 0.0, reward)
            terminated, truncated = terminated & ~waiting, truncated & ~waiting
            self._waiting = terminated | truncated
            if waiting.any():
                self._root = self.worlds.reset(self._root.set("_reset", waiting[:, None]))
        return self._seen(self._root), self._give(reward), self._give(terminated), self._give(truncated), {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """What every world shows now, uint8 (K * H, W, 3) each; None without `render_mode`."""
        if self.render_mode is None:
            return None
        return tuple(self._root["pixels"].permute(0, 2, 3, 1).cpu().numpy())

    def close_extras(self) -> None:
        """Lets go of the worlds and ends their processes, if they have any."""
        self.worlds.close(raise_if_closed=False)

    def _final(self, after: Any, ended: torch.Tensor) -> dict[str, Any]:
        result = {"return": self._return, "length": self._length}
        if self._output == "torch":
            about = {name: self._give(x) for name, x in result.items()} | {f"_{name}": ended for name in result}
            return {"final_obs": self._seen(after), "_final_obs": ended, "final_info": about, "_final_info": ended}
        mask = ended.cpu().numpy()
        if not mask.any():
            return {}
        seen, final = self._seen(after), np.full(self.num_envs, None, dtype=object)
        for world in np.flatnonzero(mask):
            final[world] = {k: x[world] for k, x in seen.items()} if isinstance(seen, dict) else seen[world]
        about = {name: self._give(select(ended, x, torch.zeros_like(x))) for name, x in result.items()}
        about |= {f"_{name}": mask for name in result}
        return {"final_obs": final, "_final_obs": mask, "final_info": about, "_final_info": mask}

    def _seen(self, tensordict: Any) -> Any:
        seen = {name: self._give(tensordict[name]) for name in self._observations}
        return seen if len(seen) > 1 else seen[self._observations[0]]

    def _give(self, x: torch.Tensor) -> Array:
        """A copy that the caller may change, of the kind that `output` names."""
        return x.clone() if self._output == "torch" else x.cpu().numpy().copy()


def _box(spec: Any) -> spaces.Box:
    """Gymnasium's space for a torchrl spec of one world."""
    dtype = np.dtype(str(spec.dtype).removeprefix("torch."))
    bounds = getattr(spec, "space", None)
    if bounds is None or dtype == np.float32 and not bool(bounds.low.isfinite().all()):
        return spaces.Box(-np.inf, np.inf, tuple(spec.shape), np.float32)
    return spaces.Box(bounds.low.cpu().numpy().astype(dtype), bounds.high.cpu().numpy().astype(dtype), dtype=dtype.type)


def no_single_world(task: str, **_: object) -> gymnasium.Env:
    """What `gymnasium.make` finds.

    Raises:
        ValueError: always: worlds come in batches.
    """
    raise ValueError(
        f"Worlds come in batches: use gymnasium.make_vec('mindreel/{task}-v0', num_envs=1), a batch of one."
    )
