"""What Warp compiles is announced and counted, and what it finds ready is not."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import warp as wp

from mindreel.envs.warp.startup import announced

ROOT = Path(__file__).parents[2]
SCRIPT = """
import warp as wp

from mindreel.envs.warp.startup import announced, compiled


@wp.kernel
def double(x: wp.array(dtype=float)):
    i = wp.tid()
    x[i] = 2.0 * x[i]


assert compiled() == (0, 0.0)
x = wp.full(3, 2.0, dtype=float, device="cpu")
with announced(), announced():
    wp.launch(double, dim=3, inputs=[x], device="cpu")
assert x.list() == [4.0] * 3
print(compiled().modules, compiled().seconds > 0.01)
"""


def test_compiling_is_announced_and_counted_once(tmp_path):
    script, cache = tmp_path / "script.py", tmp_path / "kernels"
    script.write_text(SCRIPT)
    variables = os.environ | {"WARP_CACHE_PATH": str(cache), "PYTHONPATH": str(ROOT)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True, check=True)

    first, second = run(), run()
    assert first.stderr.startswith(f"Compiling Warp's kernels, once on this machine (kept in {cache}")
    assert "0 modules in 0 s so far, now " in first.stderr and first.stderr.count("\n") == 1
    assert first.stdout == "1 True\n"
    assert (second.stdout, second.stderr) == ("0 False\n", "")


def test_warp_is_as_it_was_once_all_have_left_even_if_one_raises():
    def state() -> tuple:
        return wp.Module._compile, wp.Module._run_codegen, wp.config.log_level

    before = state()
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with announced():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    with pytest.raises(ZeroDivisionError), announced():
        thread.start()
        entered.wait(10)
        raise ZeroDivisionError
    assert state() != before, "the other thread is still within"
    leave.set()
    thread.join()
    assert state() == before
