"""Starts Warp without its notice that there is no NVIDIA driver, and says on stderr when our worlds compile kernels.

On a laptop a missing driver is nothing to warn of. A kernel compiled is kept on the machine, and compiling all that a
model needs takes a minute or more, in which nothing else would be said. Where our worlds are not at work, Warp is as it
was.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import warp as wp

_NOTICE = b"Could not find or load the NVIDIA CUDA driver"
_SECONDS_BETWEEN_LINES = 5.0


class Compiled(NamedTuple):
    """What Warp has compiled in this process."""

    modules: int
    """Modules of kernels; those that came from the machine's cache are not counted."""
    seconds: float
    """Time that they took, in all."""


_done = Compiled(0, 0.0)
_last_line = -_SECONDS_BETWEEN_LINES  # when something was said last
_lock = threading.Lock()
_inside = 0  # how many are within `announced`
_undo = contextlib.ExitStack()


def compiled() -> Compiled:
    """What Warp has compiled for our worlds so far, zero where all came from the cache: taken off measured times."""
    return _done


@contextlib.contextmanager
def announced() -> Iterator[None]:
    """Within it, what Warp compiles is counted, with a line on stderr every five seconds.

    Warp's own messages come after each module, cached or not, and name neither how many nor how long in all; they are
    left out unless its log level was changed. Any number of threads may be within it, nested too.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _watch_compiling(_undo)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()


def start_warp() -> None:
    """`wp.init()` without the notice, and without Warp's banner."""
    with announced():
        if not sys.platform.startswith("linux") or _has_driver():
            wp.init()
            return
        # The notice is written by native code, which knows no log level: all but that line is passed on.
        sys.stderr.flush()
        stderr = os.dup(2)
        with tempfile.TemporaryFile() as caught:
            os.dup2(caught.fileno(), 2)
            try:
                wp.init()
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
                caught.seek(0)
                lines = caught.read().splitlines(keepends=True)
                os.write(2, b"".join(line for line in lines if _NOTICE not in line))


def _watch_compiling(undo: contextlib.ExitStack) -> None:
    """Wraps what Warp compiles with; `undo` puts all back.

    `_compile` is called for each module that is loaded and says whether it had to do anything; `_run_codegen` is called
    only if so.
    """
    compile_module, generate, level = wp.Module._compile, wp.Module._run_codegen, wp.config.log_level

    def restore() -> None:
        wp.Module._compile, wp.Module._run_codegen, wp.config.log_level = compile_module, generate, level

    def counting(self: wp.Module, *args, **kwargs) -> bool:
        global _done
        start = time.perf_counter()
        did = compile_module(self, *args, **kwargs)
        if did:
            _done = Compiled(_done.modules + 1, _done.seconds + time.perf_counter() - start)
        return did

    def announcing(self: wp.Module, *args, **kwargs):
        global _last_line
        now = time.perf_counter()
        if now - _last_line > _SECONDS_BETWEEN_LINES:
            _last_line = now
            print(
                f"Compiling Warp's kernels, once on this machine (kept in {wp.config.kernel_cache_dir}): "
                f"{_done.modules} modules in {_done.seconds:.0f} s so far, now {self.name}.",
                file=sys.stderr,
                flush=True,
            )
        return generate(self, *args, **kwargs)

    undo.callback(restore)
    wp.Module._compile, wp.Module._run_codegen = counting, announcing
    if level == wp.LOG_INFO:  # the default; whoever asked for more, or less, gets that
        wp.config.log_level = wp.LOG_WARNING


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
