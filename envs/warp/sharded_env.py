"""Worlds of `WarpEnv` in several processes, so that their physics uses several cores."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDictBase

from mindreel.envs.backends.processes import RemoteObjects
from mindreel.envs.config import EnvConfig
from mindreel.envs.masks import flags
from mindreel.envs.warp.env import WarpEnv
from mindreel.envs.worlds import Worlds, check_no_nan

_TOTALS = ("env_frames", "repaired", "overflowed")  # of `worlds_state`: counted over all worlds
_ALIKE = ("generator",)  # the same wherever the worlds are; all else is by world
_SECOND = ("randomizer.late",)  # of these, the worlds are the second axis


class ShardedEnv(Worlds):
    """The worlds of `WarpEnv` on the CPU, in several processes; batch size (B,).

    Warp runs its CPU kernels in one thread. These worlds are bit-exactly those of one process, which can load what
    these save, and the other way round; but only the worlds of one process have a common buffer for contacts.

    Args:
        make: makes a `WarpEnv` of a config, from `first_world` on; called in the processes, so it must be importable
            there.
        config: the worlds' settings; `workers` processes are started, but no more than there are worlds.
        task_name: the task's name, for logs and messages.
        observations: what `make`'s worlds give.

    Raises:
        ValueError: as `WarpEnv` does, or for a script that starts processes when it is imported.
    """

    def __init__(
        self,
        make: Callable[..., WarpEnv],
        config: EnvConfig,
        *,
        task_name: str,
        observations: tuple[str, ...],
    ):
        super().__init__(config, task_name, torch.device("cpu"), observations)
        count = min(config.workers or 1, self.num_envs)
        self._worlds = np.array_split(np.arange(self.num_envs), count)  # of each process
        shards = []
        for worlds in self._worlds:
            own = replace(config, num_envs=len(worlds), workers=None)
            shards.append(partial(_Shard, partial(make, own, first_world=int(worlds[0]))))
        self._shards = RemoteObjects(shards)
        info: _ShardInfo = self._call("info")[0]
        self.behaviours, self.state_names = info.behaviours, info.state_names
        self.episode_steps, self.decision_seconds = info.episode_steps, info.decision_seconds
        self.action_dim = len(info.action_low)
        self._set_last(self._call("observe"))
        self._make_specs(torch.from_numpy(info.action_low), torch.from_numpy(info.action_high))

    @property
    def counters(self) -> dict[str, int]:
        parts = self._call("counters")
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    # ---- torchrl ----

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action: torch.Tensor = tensordict.get("action").detach()  # (B, A)
        check_no_nan(action)
        parts = self._call("step", self._split(action))
        self._set_last(parts)
        self.broken = _joined(parts, "broken")
        reward, terminated, truncated = (_joined(parts, name) for name in ("reward", "terminated", "truncated"))
        ends = flags(terminated[:, 0], truncated[:, 0])
        self._note_done(ends["done"])
        return self._tensordict(self._last | ends | {"reward": reward})

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDictBase:
        self._set_last(self._call("reset", self._split(self._mask(tensordict)[:, None])))
        return self.observe()

    def _set_seed(self, seed: int | None) -> None:
        seed = torch.Generator().seed() if seed is None else seed
        self._call("set_seed", [seed] * len(self._worlds))

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Ends the processes."""
        super().close(raise_if_closed=raise_if_closed)
        self._shards.close()

    # ---- saving ----

    def worlds_state(self) -> dict[str, torch.Tensor]:
        """What `WarpEnv.worlds_state` of all the worlds in one process would be."""
        parts = self._call("worlds_state")
        totals = {name: torch.as_tensor(sum(part[name] for part in parts)) for name in _TOTALS}
        alike = {name: torch.from_numpy(parts[0][name]) for name in _ALIKE}
        by_world = parts[0].keys() - totals.keys() - alike.keys()
        return {name: _joined(parts, name) for name in by_world} | totals | alike

    def load_worlds_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continues from what `worlds_state` returned, here or in a `WarpEnv`.

        Raises:
            ValueError: for the state of another task or another number of worlds.
        """
        missing = {*_TOTALS, *_ALIKE} - state.keys()
        by_world = {name: x for name, x in state.items() if name not in (*_TOTALS, *_ALIKE)}
        if missing or any(x.shape[_axis(name)] != self.num_envs for name, x in by_world.items()):
            raise ValueError(f"Saved worlds do not fit: they are not {self.num_envs} worlds of backend=warp.")
        parts: list[dict[str, np.ndarray]] = [{} for _ in self._worlds]
        for index, part in enumerate(parts):
            part |= {name: self._split(x, _axis(name))[index] for name, x in by_world.items()}
            part |= {name: state[name].numpy() for name in _ALIKE}
            part |= {name: state[name].numpy() * (index == 0) for name in _TOTALS}  # the first counts on for all
        self._call("load_worlds_state", parts)
        self._set_last(self._call("observe"))

    # ---- processes ----

    def _call(self, what: str, arguments: Sequence[Any] | None = None) -> list[Any]:
        """Calls a method of every shard, with one argument for each if there are any, and repeats their warnings."""
        calls = [(what,) if arguments is None else (what, argument) for argument in arguments or self._worlds]
        answers = self._shards.call("call", calls)
        for message, category in dict.fromkeys(warning for _, warned in answers for warning in warned):
            warnings.warn(message, category, stacklevel=3)
        return [answer for answer, _ in answers]

    def _split(self, x: torch.Tensor, axis: int = 0) -> list[np.ndarray]:
        """The parts of `x` that belong to each shard; its `axis` is that of the worlds."""
        return [x.numpy().take(worlds, axis) for worlds in self._worlds]

    def _set_last(self, parts: list[dict[str, np.ndarray]]) -> None:
        self._last = {name: _joined(parts, name) for name in self.observations}


def _joined(parts: list[dict[str, np.ndarray]], name: str) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([part[name] for part in parts], _axis(name)))


def _axis(name: str) -> int:
    return int(name in _SECOND)


class _ShardInfo(NamedTuple):
    """Attributes of `Worlds`, and the bounds of an action, (A,) each."""

    behaviours: tuple[str, ...]
    state_names: tuple[str, ...]
    episode_steps: int
    decision_seconds: float
    action_low: np.ndarray
    action_high: np.ndarray


class _Shard:
    """Some of the worlds, in their process, with numpy arrays in and out."""

    def __init__(self, make: Callable[[], WarpEnv]):
        with warnings.catch_warnings(record=True) as self._warned:
            warnings.simplefilter("always")
            self._env = make()

    def call(self, what: str, *arguments: Any) -> tuple[Any, list[tuple[str, type[Warning]]]]:
        """A method's result and its warnings, which would be lost in this process."""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            answer = getattr(self, what)(*arguments)
        heard, self._warned = [*self._warned, *warned], []
        return answer, [(str(one.message), one.category) for one in heard]

    def info(self) -> _ShardInfo:
        env = self._env
        named = env.behaviours, env.state_names, env.episode_steps, env.decision_seconds
        return _ShardInfo(*named, env.sim.ctrl_low.numpy(), env.sim.ctrl_high.numpy())

    def observe(self) -> dict[str, np.ndarray]:
        return self._arrays(self._env.observe(), *self._env.observations)

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        after = self._env.step(self._env.observe().set("action", torch.from_numpy(action)))["next"]
        arrays = self._arrays(after, *self._env.observations, "reward", "terminated", "truncated")
        return arrays | {"broken": self._env.broken.numpy()}

    def reset(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        fresh = self._env.reset(self._env.observe().set("_reset", torch.from_numpy(mask)))
        return self._arrays(fresh, *self._env.observations)

    def set_seed(self, seed: int) -> None:
        self._env.set_seed(seed)

    def counters(self) -> dict[str, int]:
        return self._env.counters

    def worlds_state(self) -> dict[str, np.ndarray]:
        return {name: x.numpy() for name, x in self._env.worlds_state().items()}

    def load_worlds_state(self, state: dict[str, np.ndarray]) -> None:
        self._env.load_worlds_state({name: torch.as_tensor(x) for name, x in state.items()})

    def close(self) -> None:
        self._env.close(raise_if_closed=False)

    def _arrays(self, tensordict: TensorDictBase, *names: str) -> dict[str, np.ndarray]:
        return {name: tensordict.get(name).numpy() for name in names}
