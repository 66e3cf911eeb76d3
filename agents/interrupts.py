"""Ctrl-C between two steps, where a run can be saved as it stands."""

import os
import signal
import threading
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
