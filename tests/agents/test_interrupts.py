"""Saving between two steps: every so often, and when a signal asks to stop."""

import os
import signal

import pytest

from mindreel.agents.interrupts import Autosave


def test_a_run_is_saved_when_it_is_time() -> None:
    saved = []
    never, always = (Autosave(lambda: saved.append(1), seconds) for seconds in (1000.0, 0.0))
    never.step()
    assert not saved
    always.step()
    always.step()
    assert len(saved) == 2


def test_a_signal_saves_once_and_stops(capfd: pytest.CaptureFixture) -> None:
    saved, before = [], signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Autosave(lambda: saved.append(1), 1000.0) as autosave:
        autosave.step()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not saved, "the step that runs is ended first"
        autosave.step()
    assert saved == [1] and signal.getsignal(signal.SIGTERM) is before
    assert "Stopping after this step" in capfd.readouterr().out


def test_several_processes_do_what_one_of_them_says() -> None:
    saved = []
    with pytest.raises(KeyboardInterrupt):
        Autosave(lambda: saved.append(1), 1000.0, lambda late, asked: (False, True)).step()
    Autosave(lambda: saved.append(2), 0.0, lambda late, asked: (False, False)).step()
    assert saved == [1]
