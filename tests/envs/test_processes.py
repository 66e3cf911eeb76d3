"""Worker processes that are killed, cannot be started, or outlive the one that started them."""

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
import torch

from mindreel.envs import make_env
from mindreel.envs.backends.processes import RemoteObjects, WorkerDiedError


class Counter:
    """An object for a process to hold."""

    def __init__(self, first: int):
        self.value = first

    def add(self, by: int) -> int:
        if by == 13:
            os._exit(3)
        self.value += by
        return self.value

    def close(self) -> None:
        pass


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(pids: list[int], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(running, pids))


@pytest.mark.parametrize("when", ["between calls", "in a call", "before it reads"])
def test_a_worker_that_dies_is_named_and_ends_the_others(when):
    objects = RemoteObjects([partial(Counter, 10 * i) for i in range(3)])
    pids = [process.pid for process in objects._processes]
    assert objects.call("add", [(1,), None, (2,)]) == [1, 22]
    if when == "between calls":
        os.kill(pids[1], signal.SIGKILL)
        assert ended(pids[1:2])
        by, how = 1, f"{pids[1]}.* was killed by SIGKILL.*memory.*env.workers"
    elif when == "before it reads":  # a reset connection then, no closed one
        os.kill(pids[1], signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (pids[1], signal.SIGKILL)).start()
        by, how = 1, f"{pids[1]}.* was killed by SIGKILL"
    else:
        by, how = 13, f"{pids[1]}.* ended with 3"
    with pytest.raises(WorkerDiedError, match=how) as caught:
        objects.call("add", [(1,), (by,), (1,)])
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
    assert ended(pids) and not objects.close.alive


def test_worlds_whose_worker_is_killed_say_so_in_one_sentence():
    env = make_env("Pendulum-v1", 2, observations=("state",), backend="gym", workers=2)
    children = [process.pid for process in env._players._groups._processes]
    os.kill(children[0], signal.SIGKILL)
    assert ended(children[:1])
    with pytest.raises(ValueError, match="Worker process .* was killed by SIGKILL"):
        env.step(env.observe().set("action", torch.zeros(2, 1)))
    assert ended(children)
    env.close()


def test_processes_that_cannot_be_started_leave_none_behind():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before, taken = set(multiprocessing.active_children()), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for free in taken[-11:]:
            os.close(free)
        del taken[-11:]
        message = r"Only \d of 4 worker processes .*Too many open files.*env.workers.*ulimit -n"
        with pytest.raises(ValueError, match=message):
            RemoteObjects([partial(Counter, 0)] * 4)
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(multiprocessing.active_children()) <= before


SCRIPT = """
import sys, time
from mindreel.envs import make_env

if __name__ == "__main__":
    env = make_env("Pendulum-v1", 2, observations=("state",), backend="gym", workers=2)
    print(*(process.pid for process in env._players._groups._processes), flush=True)
    time.sleep(60)
"""


def test_workers_end_with_a_program_that_is_killed(tmp_path):
    (tmp_path / "play.py").write_text(SCRIPT)
    program = subprocess.Popen([sys.executable, str(tmp_path / "play.py")], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    children = [int(pid) for pid in program.stdout.readline().split()]
    assert len(children) == 2 and all(map(running, children))
    program.kill()
    program.wait()
    program.stdout.close()
    assert ended(children)
