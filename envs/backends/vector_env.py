"""The worlds as vector environments of Gymnasium, for those who use another learner.

    import gymnasium

    worlds = gymnasium.make_vec("mindreel.envs:mindreel/walker-walk-v0", num_envs=256, output="torch", device="cuda")

Where `mindreel.envs` has been imported, the id is `mindreel/walker-walk-v0` alone.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from einops import rearrange
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mindreel.envs.config import EnvConfig
from mindreel.envs.make import make_env
from mindreel.envs.masks import select
from mindreel.envs.warp.cameras import PICTURES
from mindreel.envs.worlds import check_observations

_OBSERVATIONS = ("pixels", "state", "depth", "segmentation")

Array = np.ndarray | torch.Tensor
"""Of the kind that `output` names."""


class WorldsVectorEnv(gymnasium.vector.VectorEnv):
    """Worlds of one task, with Gymnasium's interface; a step is one decision in all of them.

    By default a world whose episode ends starts the next in the same step (`AutoresetMode.SAME_STEP`). With numpy
    outputs the infos then hold `final_obs`, an object array of the last observations of the worlds that ended, and
    `final_info` with their `return` and `length`, each beside a mask `_NAME`, as in Gymnasium's own vector
    environments. With torch outputs these are tensors of all worlds, always there and meaningful where the mask holds,
    since finding out whether a world has ended would wait for the device.

    With `NEXT_STEP`, which many of Gymnasium's wrappers ask for, a world that has ended shows its last observation,
    and starts the next episode in the next step, whose action it ignores and whose reward is 0; finding that out waits
    for the device. With `DISABLED` worlds start new episodes by `reset(options={"reset_mask": ...})` alone. Both
    are for `backend="warp"`.

    Args:
        task: as for `make_env`.
        num_envs: number of worlds, B.
        output: whether observations, rewards and flags are numpy arrays or torch tensors on `device`. Actions may
            be either.
        observations: one gives a Box, several a Dict of them.
        pixels: axes of a picture: "hwc" (K * H, W, C) as Gymnasium and its wrappers have it, or "chw" (C, K * H, W) as
            torch has it; the pictures of the K cameras lie one below another.
        max_episode_steps: decisions after which an episode is truncated, Gymnasium's name for `time_limit`.
        autoreset_mode: when a world whose episode has ended starts the next one.
        render_mode: "rgb_array" to draw at every step what `render` returns; None to draw only what is observed.
        seed: seed of all that is random; None for an unpredictable one.
        device: where the worlds are simulated, for `backend="warp"`.
        config: the worlds' settings; one control step for each decision by default.
        fields: fields of `EnvConfig` that differ from `config`, such as `action_repeat`, `render` or `backend`.

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
        pixels: Literal["hwc", "chw"] = "hwc",
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: Literal["rgb_array"] | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        config: EnvConfig = EnvConfig(action_repeat=1),  # noqa: B008 (frozen)
        **fields: Any,
    ):
        for name, value, allowed in (
            ("output", output, ("numpy", "torch")),
            ("pixels", pixels, ("hwc", "chw")),
            ("render_mode", render_mode, ("rgb_array", None)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} should be {' or '.join(map(repr, allowed))}, got {value!r}.")
        if max_episode_steps is not None:
            fields["time_limit"] = max_episode_steps
        config = config.with_fields(num_envs=num_envs, **fields)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        if self.autoreset_mode is not AutoresetMode.SAME_STEP and config.backend != "warp":
            raise ValueError(
                f"backend={config.backend} has AutoresetMode.SAME_STEP alone: nothing there steps past an episode's "
                "end."
            )
        check_observations(observations, _OBSERVATIONS)
        observations = tuple(observations)
        drawn = ("pixels",) if render_mode and "pixels" not in observations else ()
        seed = _random_seed() if seed is None else _one_seed(seed, num_envs)
        self.worlds = make_env(task, config, device=device, seed=seed, observations=observations + drawn)
        self.num_envs, self.render_mode = num_envs, render_mode
        self._output, self._observations, self._channels_last = output, observations, pixels == "hwc"
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": max(1, round(1 / self.worlds.decision_seconds)),
        }
        parts: dict[str, spaces.Space] = {
            name: _box(self.worlds.observation_spec[name][0], self._channels_last and name in PICTURES)
            for name in observations
        }
        self.single_observation_space = spaces.Dict(parts) if len(parts) > 1 else parts[observations[0]]
        self.single_action_space = _box(self.worlds.full_action_spec["action"][0])
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._root = self.worlds.observe()
        self._return = torch.zeros(num_envs, device=self.worlds.device)
        self._length = torch.zeros(num_envs, dtype=torch.int64, device=self.worlds.device)
        self._waiting = torch.zeros(num_envs, dtype=torch.bool, device=self.worlds.device)  # for the next episode

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every world, or in those of `options["reset_mask"]`, (B,) bool.

        Args:
            seed: one seed, from which each world draws differently, or B of them, which together are one seed: the
                same list gives the same episodes. None goes on with what the worlds draw.
            options: `reset_mask`.

        Raises:
            ValueError: for a list of another length, a negative seed, or a mask of another shape or type.
        """
        if seed is not None:
            seed = _one_seed(seed, self.num_envs)
            self.worlds.set_seed(seed)
        super().reset(seed=seed)
        mask = torch.ones(self.num_envs, dtype=torch.bool, device=self.worlds.device)
        if options is not None and "reset_mask" in options:
            mask = torch.as_tensor(options["reset_mask"], device=self.worlds.device)
            if mask.shape != (self.num_envs,) or mask.dtype != torch.bool:
                raise ValueError(f"reset_mask should be bool ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}.")
        self._root = self.worlds.reset(self.worlds.observe().set("_reset", mask[:, None]))
        self._waiting = self._waiting & ~mask
        self._return = torch.where(mask, 0.0, self._return)
        self._length = torch.where(mask, 0, self._length)
        return self._observation(self._root), {}

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
        return self._observation(following), self._give(reward), self._give(terminated), self._give(truncated), infos

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
        return self._observation(self._root), self._give(reward), self._give(terminated), self._give(truncated), {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """What every world shows now, uint8 (K * H, W, 3) each; None without `render_mode`."""
        if self.render_mode is None:
            return None
        return tuple(rearrange(self._root["pixels"], "b c h w -> b h w c").cpu().numpy())

    def close_extras(self) -> None:
        """Lets go of the worlds and ends their processes, if they have any."""
        self.worlds.close(raise_if_closed=False)

    def _final(self, after: Any, ended: torch.Tensor) -> dict[str, Any]:
        result = {"return": self._return, "length": self._length}
        if self._output == "torch":
            sums = {name: self._give(x) for name, x in result.items()} | {f"_{name}": ended for name in result}
            return {
                "final_obs": self._observation(after),
                "_final_obs": ended,
                "final_info": sums,
                "_final_info": ended,
            }
        mask = ended.cpu().numpy()
        if not mask.any():
            return {}
        last, final = self._observation(after), np.full(self.num_envs, None, dtype=object)
        for world in np.flatnonzero(mask):
            final[world] = {k: x[world] for k, x in last.items()} if isinstance(last, dict) else last[world]
        sums = {name: self._give(select(ended, x, torch.zeros_like(x))) for name, x in result.items()}
        sums |= {f"_{name}": mask for name in result}
        return {"final_obs": final, "_final_obs": mask, "final_info": sums, "_final_info": mask}

    def _observation(self, tensordict: Any) -> Any:
        found = {name: tensordict[name] for name in self._observations}
        if self._channels_last:
            found |= {name: rearrange(x, "b c h w -> b h w c") for name, x in found.items() if name in PICTURES}
        given = {name: self._give(x) for name, x in found.items()}
        return given if len(given) > 1 else given[self._observations[0]]

    def _give(self, x: torch.Tensor) -> Array:
        """A copy that the caller may change, of the kind that `output` names."""
        return (
            x.clone(memory_format=torch.contiguous_format)
            if self._output == "torch"
            else np.array(x.cpu().numpy(), order="C")
        )


def _random_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))


def _one_seed(seed: Any, num_envs: int) -> int:
    """The seed of all worlds, given as one integer or as one for each world."""
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        if seed < 0:
            raise ValueError(f"seed should be at least 0, got {seed}.")
        return int(seed)
    seeds = list(seed) if isinstance(seed, list | tuple | np.ndarray) else None
    if seeds is None or len(seeds) != num_envs:
        raise ValueError(f"seed should be an integer, or {num_envs} of them, one for each world, got {seed!r}.")
    words = [_random_seed() if one is None else _one_seed(one, 1) for one in seeds]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _box(spec: Any, channels_last: bool = False) -> spaces.Box:
    """Gymnasium's space for a torchrl spec of one world; with `channels_last` (C, H, W) becomes (H, W, C)."""
    turned = (lambda x: np.moveaxis(x, 0, -1)) if channels_last else (lambda x: x)
    dtype = np.dtype(str(spec.dtype).removeprefix("torch."))
    bounds = getattr(spec, "space", None)
    if bounds is None or dtype == np.float32 and not bool(bounds.low.isfinite().all()):
        return spaces.Box(-np.inf, np.inf, turned(np.zeros(tuple(spec.shape), np.bool_)).shape, np.float32)
    low, high = (turned(x.cpu().numpy().astype(dtype)) for x in (bounds.low, bounds.high))
    return spaces.Box(low, high, dtype=dtype.type)


def no_single_world(task: str, **_: object) -> gymnasium.Env:
    """The entry point of `gymnasium.make`.

    Raises:
        ValueError: always: worlds come in batches.
    """
    raise ValueError(
        f"Worlds come in batches: use gymnasium.make_vec('mindreel.envs:mindreel/{task}-v0', num_envs=1), which is a "
        "batch of one."
    )
