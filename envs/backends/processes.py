"""Objects in processes of their own, whose methods are called from here."""

import multiprocessing
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn, Protocol

import torch

_UNGUARDED = 71  # exit status of a process that found no guard in the script that it imported


class WorkerDiedError(ValueError):
    """A worker process is gone, and with it the worlds that it held."""


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
        ValueError: what an object raised as its user's mistake when it was made, a script that starts processes when
            it is imported, or processes that could not be started, as for want of memory or file descriptors.
    """

    def __init__(self, makes: Sequence[Callable[[], Closable]]):
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self.close = weakref.finalize(self, _stop, self._pipes, self._processes)
        try:
            for make in makes:
                self._start(make)
            self._receive(range(len(makes)))
        except OSError as error:
            raise ValueError(
                f"Only {len(self._processes)} of {len(makes)} worker processes could be started ({error.strerror}): "
                "use fewer (env.workers), or raise the machine's limits (ulimit -n, ulimit -u)."
            ) from error
        except WorkerDiedError:
            if self._processes[0].exitcode == _UNGUARDED:
                raise ValueError(
                    "Processes that play worlds import your script anew, which starts processes itself: put what makes "
                    'the worlds under `if __name__ == "__main__":`, or pass workers=0.'
                ) from None
            raise
        finally:
            if sys.exc_info()[0] is not None:
                self.close()  # or those that did start would live on

    def _start(self, make: Callable[[], Closable]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's and Warp's threads half
        ours, theirs = context.Pipe()
        self._pipes.append(ours)
        process: Any = context.Process(target=_serve, args=(theirs, make), daemon=True)
        try:
            process.start()
        except RuntimeError:
            # What multiprocessing itself asks: whether this is such a process, still importing the script.
            if not getattr(multiprocessing.current_process(), "_inheriting", False):
                raise
            raise SystemExit(_UNGUARDED) from None
        finally:
            theirs.close()
        self._processes.append(process)

    def call(self, what: str, arguments: Sequence[tuple | None]) -> list[Any]:
        """Calls a method of the objects, all at the same time.

        Args:
            what: the method's name.
            arguments: its arguments for each object; None for an object that is not called.

        Returns:
            The results of those that were called, in their order.

        Raises:
            ValueError: what a method raised as its caller's mistake.
            WorkerDiedError: a process is gone; the others have been ended.
            RuntimeError: what else went wrong there, which ends that object's process.
        """
        called = [index for index, those in enumerate(arguments) if those is not None]
        for index in called:
            try:
                self._pipes[index].send((what, arguments[index]))
            except OSError:  # it is gone
                self._raise_death(index)
        return self._receive(called)

    def _receive(self, indices: Sequence[int]) -> list[Any]:
        answers = []  # all of them first, or the next call would read what is left of this one
        for index in indices:
            try:
                answers.append(self._pipes[index].recv())
            except (EOFError, OSError):
                self._raise_death(index)
        return [_checked(*answer) for answer in answers]

    def _raise_death(self, index: int) -> NoReturn:
        process = self._processes[index]
        process.join(timeout=5)
        code, process_id = process.exitcode, process.pid
        self.close()
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        often = ", as systems do when memory runs out: try fewer env.num_envs or env.workers" if code == -9 else ""
        raise WorkerDiedError(f"Worker process {process_id}, which steps some of the worlds, {how}{often}.")


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
            process.join(timeout=5)
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
