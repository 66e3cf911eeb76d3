"""Saving a run every so often, and when Ctrl-C asks it to stop."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType


class Interrupts:
    """While it is entered, a first SIGINT or SIGTERM is only noted; a second one interrupts at once.

    A signal that the process ignores stays ignored. Other threads than the main one receive no signals: entered
    in one, nothing is noted.

    Attributes:
        asked: whether a signal came.
    """

    def __init__(self):
        self.asked = False
        self._before: dict = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not by print, which a signal may have interrupted: it would raise.
        os.write(1, b"\nStopping after this step; once more stops at once.\n")


class Autosave:
    """Saves a run between two of its steps: every so often, and when a signal asks it to stop.

    Signals are held back only while it is entered.

    Args:
        save: writes the checkpoint.
        seconds: time between two checkpoints.
        agree: takes whether it is time to save and whether to stop, and returns both; for several processes that
            have to do the same.
    """

    def __init__(
        self,
        save: Callable[[], None],
        seconds: float,
        agree: Callable[[bool, bool], tuple[bool, bool]] = lambda late, asked: (late, asked),
    ):
        self._save, self.seconds, self._agree = save, seconds, agree
        self._saved = time.monotonic()
        self._interrupts = Interrupts()

    def __enter__(self) -> "Autosave":
        self._interrupts.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._interrupts.__exit__(*error)

    def step(self) -> None:
        """To be called between two steps.

        Raises:
            KeyboardInterrupt: a signal asked to stop; the run is saved as it stands.
        """
        late = time.monotonic() - self._saved >= self.seconds
        late, asked = self._agree(late, self._interrupts.asked)
        if late or asked:
            self.save()
        if asked:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Saves at once."""
        self._save()
        self._saved = time.monotonic()
