"""Starts Warp without its notice that there is no NVIDIA driver: on a laptop that is nothing to warn of."""

import ctypes
import os
import sys
import tempfile

import warp as wp

_NOTICE = b"Could not find or load the NVIDIA CUDA driver"


def start_warp() -> None:
    """`wp.init()`, with messages from warnings on."""
    wp.config.log_level = wp.LOG_WARNING
    if not sys.platform.startswith("linux") or _has_driver():
        wp.init()
        return
    # The notice is written by native code, which knows no log level: all but that line is passed on.
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            wp.init()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            lines = caught.read().splitlines(keepends=True)
            os.write(2, b"".join(line for line in lines if _NOTICE not in line))


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
