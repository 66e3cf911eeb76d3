"""Worlds that live in processes of their own, each process playing a share of them one after another."""

import multiprocessing
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

Observation = dict[str, np.ndarray]
_UNGUARDED = 71  # exit status of a process that found no guard in the script that it imported


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
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's and Warp's threads half
        self._pipes: list[Connection] = []
        processes: list[Any] = []
        self._players = [make() for _ in range(num_worlds)] if count == 0 else []
        self._shares = [] if count == 0 else np.array_split(np.arange(num_worlds), count)
        for share in self._shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, len(share)), daemon=True)
            try:
                process.start()
            except RuntimeError:
                # What multiprocessing itself asks: whether this is such a process, still importing the script.
                if not getattr(multiprocessing.current_process(), "_inheriting", False):
                    raise
                raise SystemExit(_UNGUARDED) from None
            theirs.close()
            self._pipes.append(ours)
            processes.append(process)
        self.close = weakref.finalize(self, _stop, self._pipes, processes, self._players)
        try:
            abouts = [player.about for player in self._players] or [_receive(pipe) for pipe in self._pipes]
        except RuntimeError:
            processes[0].join(timeout=5)
            if processes[0].exitcode == _UNGUARDED:
                raise ValueError(
                    "Processes that play worlds import your script anew, which starts processes itself: put what makes "
                    'the worlds under `if __name__ == "__main__":`, or pass workers=0.'
                ) from None
            raise
        self.about: About = abouts[0]

    def reset(self, worlds: np.ndarray, seeds: list[int | None]) -> Observation:
        """Starts episodes in the worlds of these indices (n,), ascending: observations (n, ...)."""
        parts: list[Observation] = self._ask("reset", worlds, seeds)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def step(self, actions: np.ndarray) -> Outcome:
        """Takes one decision in every world, actions (B, A): the outcome, stacked over worlds."""
        parts = self._ask("step", np.arange(len(actions)), actions)
        observation = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
        return Outcome(observation, *(np.concatenate([part[i] for part in parts]) for i in range(1, 5)))

    def _ask(self, what: str, worlds: np.ndarray, arguments) -> list[Any]:
        """Has the processes work at the same time; the answers of those that had something to do."""
        if self._players:
            return [_play(self._players, what, [(int(i), one) for i, one in zip(worlds, arguments, strict=True)])]
        asked = []
        for pipe, share in zip(self._pipes, self._shares, strict=True):
            here = np.flatnonzero(np.isin(worlds, share))
            if len(here):
                pipe.send((what, [(int(worlds[i] - share[0]), arguments[i]) for i in here]))
                asked.append(pipe)
        return [_receive(pipe) for pipe in asked]


def _receive(pipe: Connection) -> Any:
    try:
        status, answer = pipe.recv()
    except EOFError as error:
        raise RuntimeError("A process that played worlds has died; what it said stands above, if anything.") from error
    if status == "mistake":
        raise ValueError(answer)
    if status == "error":
        raise RuntimeError(f"A world failed in its process:\n{answer}")
    return answer


def _stop(pipes: list[Connection], processes: list, players: list[Player]) -> None:
    for player in players:
        player.close()
    for pipe in pipes:
        try:
            pipe.send(None)
        except OSError:  # it is gone already
            continue
    for process in processes:
        process.join(timeout=5)
        if process.is_alive():
            process.terminate()
    for pipe in pipes:
        pipe.close()


# ---- where the players are ----


def _play(players: list[Player], what: str, arguments: list[tuple[int, Any]]) -> Any:
    """Calls `what` of the players with these indices: what they answer, stacked."""
    if what == "reset":
        return _stack([players[i].reset(seed) for i, seed in arguments])
    outcomes = [players[i].step(action) for i, action in arguments]
    return Outcome(
        _stack([one.observation for one in outcomes]),
        np.array([one.reward for one in outcomes], dtype=np.float32),
        *(np.array([one[i] for one in outcomes], dtype=bool) for i in range(2, 5)),
    )


def _stack(observations: list[Observation]) -> Observation:
    return {name: np.stack([one[name] for one in observations]) for name in observations[0]}


def _serve(pipe: Connection, make: Callable[[], Player], count: int) -> None:
    torch.set_num_threads(1)
    players: list[Player] = []
    try:
        players += [make() for _ in range(count)]
        pipe.send(("done", players[0].about))
        while (request := pipe.recv()) is not None:
            pipe.send(("done", _play(players, *request)))
    except (EOFError, KeyboardInterrupt):  # nobody listens any more
        pass
    except ValueError as error:
        pipe.send(("mistake", str(error)))
    except Exception:  # whatever a simulator raises is shown where it can be seen
        pipe.send(("error", traceback.format_exc()))
    finally:
        for player in players:
            player.close()
