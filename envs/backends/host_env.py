"""Worlds of other simulators, stepped by processes on the CPU, as tensors on any device."""

import math
import os
import warnings
from collections.abc import Callable

import numpy as np
import torch
from tensordict import TensorDictBase

from mindreel.devices import check_device
from mindreel.envs.backends.players import Observation, Player, Players, StepResult
from mindreel.envs.config import EnvConfig
from mindreel.envs.masks import flags, select
from mindreel.envs.worlds import ENDLESS, FaultyTaskError, Worlds, check_no_nan

_MOST_WORKERS = 16  # each holds an interpreter with torch


class HostEnv(Worlds):
    """A batch of worlds that worker processes simulate; batch size (B,), tensors on `device`.

    Actions out of bounds are clipped, those that are no numbers raise. A world whose simulator gives up, or whose
    reward or `state` is not finite, is treated as a broken one of `WarpEnv`: no reward, its last good observation,
    truncated, counted.

    Such worlds cannot be saved: a run that resumes starts new episodes in them, and so is not bit-exact.

    Args:
        make: makes one world; called in the processes.
        config: the worlds' settings; `workers` processes step them, 0 for this one alone, None for one for each CPU
            core, 16 at most.
        task_name: the task's name, for logs and messages.
        device: where the tensors are.
        seed: seed of all that is random here, at least 0; world i has one of its own, whatever their number.
        observations: what `make`'s worlds give.
        behaviours: sentences that say what such worlds do.

    Raises:
        ValueError: for what the backend does not have, a negative seed or number of processes, or a world that
            starts with a `state` that is not finite.
    """

    resumes_exactly = False

    def __init__(
        self,
        make: Callable[[], Player],
        config: EnvConfig,
        *,
        task_name: str,
        device: torch.device | str,
        seed: int,
        observations: tuple[str, ...],
        behaviours: tuple[str, ...] = (),
    ):
        super().__init__(config, task_name, check_device(device), observations)
        self.behaviours = behaviours
        count = min(os.cpu_count() or 1, _MOST_WORKERS) if config.workers is None else config.workers
        self._players = Players(make, self.num_envs, min(count, self.num_envs))
        info = self._players.info
        for note in info.notes:
            warnings.warn(note, RuntimeWarning, stacklevel=2)
        control_steps = ENDLESS if math.isinf(info.control_steps) else info.control_steps
        self.episode_steps = config.time_limit or max(1, math.ceil(control_steps - 1e-6) // self.action_repeat)
        self.decision_seconds = info.control_seconds * self.action_repeat
        self.action_dim = len(info.action_low)
        self.state_names = info.state_names
        self._low, self._high = (torch.tensor(x, dtype=torch.float32) for x in (info.action_low, info.action_high))
        self._episode_step = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._env_frames = self._repaired = self._faulty = self._decisions = 0
        self._seeds: list[int | None] = []
        self._set_seed(seed)
        self._last = self._tensors(self._start(np.arange(self.num_envs)))
        self._make_specs(self._low.to(self.device), self._high.to(self.device))

    @property
    def counters(self) -> dict[str, int]:
        # None of them overflows: MuJoCo itself makes room.
        return {
            "env_frames": self._env_frames,
            "repaired_worlds": self._repaired,
            "overflowed_worlds": 0,
            "faulty_decisions": self._faulty,
        }

    # ---- torchrl ----

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get("action").detach().cpu()  # (B, A)
        check_no_nan(action)
        result = self._players.step(action.clamp(self._low, self._high).numpy())
        faulty = ~result.broken & ~(np.isfinite(result.reward) & _finite(result.observation))
        broken = result.broken | faulty
        self._env_frames += self.num_envs * self.action_repeat
        self._repaired += int(broken.sum())
        self._count_faults(faulty, result)
        self._episode_step += 1
        reward, terminated, truncated, broken = (
            torch.as_tensor(x).to(self.device)
            for x in (result.reward, result.terminated, result.truncated | broken, broken)
        )
        self.broken = broken
        now = self._tensors(result.observation)
        self._last = {name: select(broken, self._last[name], x) for name, x in now.items()}
        truncated = truncated | (self._episode_step >= self.episode_steps)
        reward = torch.where(broken, 0.0, reward)[:, None]  # (B, 1)
        return self._tensordict(self._last | flags(terminated & ~broken, truncated) | {"reward": reward})

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDictBase:
        mask = self._mask(tensordict)
        worlds = mask.nonzero()[:, 0]
        if len(worlds):
            fresh = self._tensors(self._start(worlds.cpu().numpy()))
            self._last = {name: x.index_copy(0, worlds, fresh[name]) for name, x in self._last.items()}
            self._episode_step.masked_fill_(mask, 0)
        return self.observe()

    def _set_seed(self, seed: int | None) -> None:
        """Gives each world a seed of its own, from its next episode on."""
        if seed is not None and seed < 0:
            raise ValueError(f"seed should be at least 0, got {seed}.")
        first = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        seeds = (np.random.SeedSequence((first, world)) for world in range(self.num_envs))
        self._seeds = [int(one.generate_state(1)[0] >> 1) for one in seeds]

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Ends the processes."""
        super().close(raise_if_closed=raise_if_closed)
        self._players.close()

    def _count_faults(self, faulty: np.ndarray, result: StepResult) -> None:
        """Warns of a task's first fault, and raises FaultyTaskError if there are too many; `faulty` is (B,) bool."""
        self._decisions += self.num_envs
        if not faulty.any():
            return
        wrong = ["reward"] if not np.isfinite(result.reward).all() else []
        state = result.observation.get("state", np.zeros((self.num_envs, 0)))
        wrong += [self.state_names[i] for i in np.flatnonzero(~np.isfinite(state).all(0))]
        if not self._faulty:
            warnings.warn(
                f"The task {self.task_name} gave numbers that are not finite, in: {', '.join(wrong)}. Its worlds start "
                "new episodes then, without reward; the counter faulty_decisions goes on counting.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._faulty += int(faulty.sum())
        self._check_faults(self._faulty, self._decisions, wrong)

    def _start(self, worlds: np.ndarray) -> Observation:
        seeds = [self._seeds[i] for i in worlds]
        for i in worlds:
            self._seeds[i] = None
        observation = self._players.reset(worlds, seeds)
        wrong = worlds[~_finite(observation)].tolist()
        if wrong:  # nothing good came before that could be shown in its place
            raise FaultyTaskError(f"{self.task_name} starts with a state that is not finite, in its worlds {wrong}.")
        return observation

    def _tensors(self, observation: Observation) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(observation[name]).to(self.device) for name in self.observations}

    # ---- saving ----

    def worlds_state(self) -> dict[str, torch.Tensor]:
        """The counters: the worlds themselves cannot be saved."""
        return {"env_frames": torch.tensor(self._env_frames), "repaired": torch.tensor(self._repaired)}

    def load_worlds_state(self, state: dict[str, torch.Tensor]) -> None:
        """Takes the counters and starts new episodes in all worlds, and warns that this is so.

        Raises:
            ValueError: for the state of worlds of another backend.
        """
        if state.keys() != {"env_frames", "repaired"}:
            raise ValueError("Saved worlds do not fit: they are of another backend. Resume with the run's own.")
        warnings.warn(
            f"Worlds of {self.task_name} live in another simulator and cannot be saved: all of them start new "
            "episodes, so this run does not resume bit-exactly.",
            stacklevel=2,
        )
        self._env_frames, self._repaired = int(state["env_frames"]), int(state["repaired"])
        self.reset()


def _finite(observation: Observation) -> np.ndarray:
    """Worlds whose state is finite, (n,) bool: all of them where no state is given."""
    count = len(next(iter(observation.values())))
    return np.logical_and.reduce(np.isfinite(observation.get("state", np.zeros((count, 0)))), axis=-1)
