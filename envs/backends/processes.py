"""Objects in processes of their own, whose methods are called from here."""

import multiprocessing
import signal
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch

_UNGUARDED = 71  # exit status of a process that found no guard in the script that it imported


class Closable(Protocol):
    """An object that a process holds."""

    def close(self) -> None:
        """Frees what the object holds."""
        ...


class RemoteObjects:
    """A process for each object, which calls the object's methods there.

    Args:
        makes: make the objects, one each; called in the processes, so they must be importable there.

    Raises:
        ValueError: what an object raised as its user's mistake when it was made, or a script that starts processes when
            it is imported.
    """

    def __init__(self, makes: Sequence[Callable[[], Closable]]):
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's and Warp's threads half
        self._pipes: list[Connection] = []
        processes: list[Any] = []
        for make in makes:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make), daemon=True)
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
        self.close = weakref.finalize(self, _stop, self._pipes, processes)
        try:
            for pipe in self._pipes:
                _checked(*_answer(pipe))
        except RuntimeError:
            processes[0].join(timeout=5)
            if processes[0].exitcode == _UNGUARDED:
                raise ValueError(
                    "Processes that play worlds import your script anew, which starts processes itself: put what makes "
                    'the worlds under `if __name__ == "__main__":`, or pass workers=0.'
                ) from None
            raise

    def call(self, what: str, arguments: Sequence[tuple | None]) -> list[Any]:
        """Calls a method of the objects, all at the same time.

        Args:
            what: the method's name.
            arguments: its arguments for each object; None for an object that is not asked.

        Returns:
            What those that were asked answered, in their order.

        Raises:
            ValueError: what a method raised as its caller's mistake.
            RuntimeError: what else went wrong there, which ends that object's process.
        """
        asked = []
        for pipe, those in zip(self._pipes, arguments, strict=True):
            if those is not None:
                pipe.send((what, those))
                asked.append(pipe)
        answers = [_answer(pipe) for pipe in asked]  # all of them, or the next call would read what is left of this one
        return [_checked(*answer) for answer in answers]


class LocalObject:
    """One object in this process, called like those of `RemoteObjects`.

    Args:
        make: makes the object.
    """

    def __init__(self, make: Callable[[], Closable]):
        self._target = make()
        self.close = weakref.finalize(self, self._target.close)

    def call(self, what: str, arguments: Sequence[tuple | None]) -> list[Any]:
        """Calls a method of the object, with the arguments of `arguments[0]` unless that is None."""
        return [getattr(self._target, what)(*those) for those in arguments if those is not None]


def _answer(pipe: Connection) -> tuple[str, Any]:
    try:
        return pipe.recv()
    except EOFError as error:
        raise RuntimeError("A process that played worlds has died; what it said stands above, if anything.") from error


def _checked(status: str, answer: Any) -> Any:
    if status == "mistake":
        raise ValueError(answer)
    if status == "error":
        raise RuntimeError(f"A world failed in its process:\n{answer}")
    return answer


def _stop(pipes: list[Connection], processes: list) -> None:
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


def _serve(pipe: Connection, make: Callable[[], Closable]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks may want to save the worlds before it stops
    torch.set_num_threads(1)
    target: Closable | None = None
    try:
        target = make()
        pipe.send(("done", None))
        while (request := pipe.recv()) is not None:
            what, arguments = request
            try:
                answer = "done", getattr(target, what)(*arguments)
            except ValueError as error:
                answer = "mistake", str(error)
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
        pass
    except ValueError as error:  # of what makes the object
        pipe.send(("mistake", str(error)))
    except Exception:  # whatever a simulator raises is shown where it can be seen
        pipe.send(("error", traceback.format_exc()))
    finally:
        if target is not None:
            target.close()
