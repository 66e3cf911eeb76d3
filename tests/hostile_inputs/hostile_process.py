"""Reads hostile inputs one after another, in a process that watches itself, and says in JSON what became of each."""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

SECONDS = 20
"""What one input may take."""


def read(reader: str, path: Path) -> None:
    """Reads an input to the end: until frames are drawn, weights are used, a state is taken over."""
    import torch

    if reader == "data":
        from mindreel.encoders.data.clips import ClipConfig, Clips, find_recordings

        Clips(ClipConfig(cache_mb=50.0), find_recordings(path), 2, 1, 8).sample(4)
    elif reader == "checkpoint":
        from mindreel.agents.checkpoint import load_checkpoint

        load_checkpoint(path)
    elif reader == "weights":
        from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig

        Pretrained(PretrainedConfig(source=str(path), heads=2 if path.is_file() else 0, frames=2, readout="tokens"))
    elif reader == "background":
        from mindreel.envs.warp.backgrounds import Videos

        Videos(str(path), 1, 8, 8, torch.device("cpu"))
    else:
        _take_over(path)


def _take_over(path: Path) -> None:
    """Puts a checkpoint's parts in the place of a replay's, a layer's and an optimizer's."""
    import torch

    from mindreel.agents.checkpoint import fitting, load_checkpoint
    from mindreel.agents.replay import Replay

    state = load_checkpoint(path)
    with fitting(path):
        layer = torch.nn.Linear(2, 2)
        layer.load_state_dict(state["encoder"])
        torch.optim.Adam(layer.parameters()).load_state_dict(state["optimizer"])
        Replay(100, 2).load_state_dict(state["replay"])


def watch(allowed: Path, seen: list[str]) -> None:
    """Notes what goes on outside a folder: programs, connections, files written, secrets read."""
    started = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect")

    def hook(event: str, arguments: tuple) -> None:
        if event in started:
            seen.append(event)
        elif event == "open" and isinstance(arguments[0], str):
            path, flags = os.path.abspath(arguments[0]), arguments[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            # torch and transformers keep caches of their own.
            if "secret" in path or writes and not path.startswith((str(allowed), "/dev/", "/proc/self")):
                seen.append(f"open {path}")

    sys.addaudithook(hook)


def child(readers: list[str], folder: Path) -> None:
    """Reads every input of a folder for some readers, and prints a line of JSON before and after each."""
    listed = json.loads((folder / "inputs.json").read_text())
    import torch

    torch.set_num_threads(1)
    if "weights" in readers:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
    for reader in readers:  # a sound input first, so that all is imported
        read(reader, Path(listed[reader].pop("sound")))
    seen: list[str] = []
    watch(folder, seen)
    for reader, name, path in [(one, *item) for one in readers for item in listed[one].items()]:
        print(json.dumps({"name": name}), flush=True)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here on
        before, start = _memory("VmRSS"), time.monotonic()
        signal.alarm(2 * SECONDS)  # ends the process where Python does not come to it
        result = read_quietly(reader, Path(path))
        signal.alarm(0)
        took = {"seconds": time.monotonic() - start, "megabytes": _memory("VmHWM") - before}
        print(json.dumps({"name": name, **result, **took, "seen": seen[:]}), flush=True)
        seen.clear()


def read_quietly(reader: str, path: Path) -> dict[str, str]:
    try:
        read(reader, path)
        return {"kind": "accepted", "said": ""}
    except (ValueError, FileNotFoundError) as error:
        return {"kind": "refused", "said": str(error)}
    except Exception as error:  # every other one is a fault that the test names
        return {"kind": type(error).__name__, "said": str(error)[:500]}


def _memory(what: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (16 << 30, 16 << 30))
    child(sys.argv[2:], Path(sys.argv[1]))
