"""Worlds of other simulators, one player each, in worker processes that step several one after another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from mindreel.envs.backends.processes import LocalObject, RemoteObjects

Observation = dict[str, np.ndarray]


@dataclass(frozen=True)
class WorldInfo:
    """Sizes, bounds and times of a player's world."""

    action_low: np.ndarray
    """Lower bounds of an action, (A,)."""
    action_high: np.ndarray
    """Upper bounds of an action, (A,)."""
    state_names: tuple[str, ...]
    """Names of the entries of `state`."""
    control_steps: float
    """Control steps in an episode; infinite if it has no end."""
    control_seconds: float
    """Simulated time of one control step."""
    notes: tuple[str, ...] = ()
    """Sentences that a user should read once."""


class StepResult(NamedTuple):
    """The result of one decision, in one world or, stacked, in several."""

    observation: Observation
    reward: Any  # float or (n,)
    terminated: Any  # bool or (n,)
    truncated: Any  # bool or (n,)
    broken: Any  # bool or (n,); such a world is truncated as well


class Player(Protocol):
    """One world."""

    info: WorldInfo

    def reset(self, seed: int | None) -> Observation:
        """Starts an episode, with a new seed if one is given."""
        ...

    def step(self, action: np.ndarray) -> StepResult:
        """Holds an action (A,), within its bounds, for the action repeat."""
        ...

    def close(self) -> None:
        """Frees what the world holds."""
        ...


class PlayerGroup:
    """Several players, which one process steps one after another.

    Args:
        make: makes one player.
        count: their number.
    """

    def __init__(self, make: Callable[[], Player], count: int):
        self.players: list[Player] = []
        try:
            self.players += [make() for _ in range(count)]
        except BaseException:
            self.close()
            raise

    def info(self) -> WorldInfo:
        """Sizes, bounds and times of these worlds, which are alike."""
        return self.players[0].info

    def reset(self, worlds: list[int], seeds: list[int | None]) -> Observation:
        """Starts episodes in the worlds of these indices: observations (n, ...)."""
        return _stack([self.players[i].reset(seed) for i, seed in zip(worlds, seeds, strict=True)])

    def step(self, actions: np.ndarray) -> StepResult:
        """Takes one decision in every world, actions (n, A): the results, stacked over worlds."""
        results = [player.step(action) for player, action in zip(self.players, actions, strict=True)]
        return StepResult(
            _stack([one.observation for one in results]),
            np.array([one.reward for one in results], dtype=np.float32),
            *(np.array([one[i] for one in results], dtype=bool) for i in range(2, 5)),
        )

    def close(self) -> None:
        """Frees what the worlds hold."""
        for player in self.players:
            player.close()


class Players:
    """`num_worlds` players in `count` processes, or in this one if `count` is 0.

    Args:
        make: makes one player; called in the processes, so it must be importable there.
        num_worlds: number of worlds, B.
        count: number of processes, at most `num_worlds`.

    Raises:
        ValueError: what a player raised as its user's mistake, or a script that starts processes when it is imported.
    """

    def __init__(self, make: Callable[[], Player], num_worlds: int, count: int):
        self._worlds = np.array_split(np.arange(num_worlds), max(1, count))  # of each group
        groups = [partial(PlayerGroup, make, len(worlds)) for worlds in self._worlds]
        self._groups = RemoteObjects(groups) if count else LocalObject(groups[0])
        self.close = self._groups.close
        self.info: WorldInfo = self._groups.call("info", [()] * len(groups))[0]

    def reset(self, worlds: np.ndarray, seeds: list[int | None]) -> Observation:
        """Starts episodes in the worlds of these indices (n,), ascending: observations (n, ...)."""
        arguments: list[tuple | None] = []
        for group in self._worlds:
            here = np.flatnonzero(np.isin(worlds, group))
            arguments.append(((worlds[here] - group[0]).tolist(), [seeds[i] for i in here]) if len(here) else None)
        parts: list[Observation] = self._groups.call("reset", arguments)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def step(self, actions: np.ndarray) -> StepResult:
        """Takes one decision in every world, actions (B, A): the results, stacked over worlds."""
        parts = self._groups.call("step", [(actions[group],) for group in self._worlds])
        observation = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
        return StepResult(observation, *(np.concatenate([part[i] for part in parts]) for i in range(1, 5)))


def _stack(observations: list[Observation]) -> Observation:
    return {name: np.stack([one[name] for one in observations]) for name in observations[0]}
