"""Worlds of other simulators: each is a player, and a process plays a share of them one after another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from mindreel.envs.backends.processes import Here, Processes

Observation = dict[str, np.ndarray]


@dataclass(frozen=True)
class About:
    """What a player's worlds are like."""

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


class Outcome(NamedTuple):
    """What one decision led to, in one world or, stacked, in several."""

    observation: Observation
    reward: Any  # float or (n,)
    terminated: Any  # bool or (n,)
    truncated: Any  # bool or (n,)
    broken: Any  # bool or (n,); such a world is truncated as well


class Player(Protocol):
    """One world."""

    about: About

    def reset(self, seed: int | None) -> Observation:
        """Starts an episode, with a new seed if one is given."""
        ...

    def step(self, action: np.ndarray) -> Outcome:
        """Holds an action (A,), within its bounds, for the action repeat."""
        ...

    def close(self) -> None:
        """Frees what the world holds."""
        ...


class Share:
    """Several players, which one process plays one after another.

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

    def about(self) -> About:
        """What these worlds are like."""
        return self.players[0].about

    def reset(self, worlds: list[int], seeds: list[int | None]) -> Observation:
        """Starts episodes in the worlds of these indices: observations (n, ...)."""
        return _stack([self.players[i].reset(seed) for i, seed in zip(worlds, seeds, strict=True)])

    def step(self, actions: np.ndarray) -> Outcome:
        """Takes one decision in every world, actions (n, A): the outcome, stacked over worlds."""
        outcomes = [player.step(action) for player, action in zip(self.players, actions, strict=True)]
        return Outcome(
            _stack([one.observation for one in outcomes]),
            np.array([one.reward for one in outcomes], dtype=np.float32),
            *(np.array([one[i] for one in outcomes], dtype=bool) for i in range(2, 5)),
        )

    def close(self) -> None:
        """Frees what the worlds hold."""
        for player in self.players:
            player.close()


class Workers:
    """`num_worlds` players in `count` processes, or in this one if `count` is 0.

    Args:
        make: makes one player; called in the processes, so it must be importable there.
        num_worlds: number of worlds, B.
        count: number of processes, at most `num_worlds`.

    Raises:
        ValueError: what a player raised as its user's mistake, or a script that starts processes when it is imported.
    """

    def __init__(self, make: Callable[[], Player], num_worlds: int, count: int):
        self._worlds = np.array_split(np.arange(num_worlds), max(1, count))  # of each share
        shares = [partial(Share, make, len(share)) for share in self._worlds]
        self._shares = Processes(shares) if count else Here(shares[0])
        self.close = self._shares.close
        self.about: About = self._shares.ask("about", [()] * len(shares))[0]

    def reset(self, worlds: np.ndarray, seeds: list[int | None]) -> Observation:
        """Starts episodes in the worlds of these indices (n,), ascending: observations (n, ...)."""
        asked: list[tuple | None] = []
        for share in self._worlds:
            here = np.flatnonzero(np.isin(worlds, share))
            asked.append(((worlds[here] - share[0]).tolist(), [seeds[i] for i in here]) if len(here) else None)
        parts: list[Observation] = self._shares.ask("reset", asked)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def step(self, actions: np.ndarray) -> Outcome:
        """Takes one decision in every world, actions (B, A): the outcome, stacked over worlds."""
        parts = self._shares.ask("step", [(actions[share],) for share in self._worlds])
        observation = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
        return Outcome(observation, *(np.concatenate([part[i] for part in parts]) for i in range(1, 5)))


def _stack(observations: list[Observation]) -> Observation:
    return {name: np.stack([one[name] for one in observations]) for name in observations[0]}
