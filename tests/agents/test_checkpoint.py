"""Checkpoints: whole or not at all, and nothing in them is ever executed."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from mindreel.agents.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]


def test_round_trip(tmp_path):
    state = {
        "weights": {"a": torch.randn(3, 4), "b": torch.arange(5, dtype=torch.uint8)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}},
            "groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}],
        },
        "counters": {"updates": 7, "owed": 0.5, "done": True, "name": "x", "nothing": None},
    }
    path = tmp_path / "deep" / "last.pt"
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"]["a"], state["weights"]["a"])
    assert loaded["weights"]["b"].dtype == torch.uint8
    assert loaded["counters"] == state["counters"]
    assert loaded["optimizer"]["groups"] == state["optimizer"]["groups"]
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]  # nothing temporary stays


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*gone.pt"):
        load_checkpoint(tmp_path / "gone.pt")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_truncated(tmp_path, fraction):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"x": torch.randn(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=r"last\.pt cannot be read: it is truncated"):
        load_checkpoint(path)


def test_foreign(tmp_path):
    path = tmp_path / "last.pt"
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (60, 200), generator=generator, dtype=torch.uint8)
    for content in (
        b"",
        b"hello world\n",
        b'{"a": 1}',
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        *map(bytes, noise.tolist()),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.pt cannot be read: it is not a checkpoint of Mindreel"):
            load_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    with pytest.raises(ValueError, match="not a checkpoint of Mindreel"):
        load_checkpoint(path)
    for other in ({"state_dict": {}}, [1, 2], {"format": "mindreel-checkpoint-0"}):
        torch.save(other, path)
        with pytest.raises(ValueError, match=r"last\.pt is a PyTorch file, but not a checkpoint of Mindreel"):
            load_checkpoint(path)


class Trap:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_is_refused_and_not_run(tmp_path):
    path, mark = tmp_path / "last.pt", tmp_path / "executed"
    torch.save({"format": "mindreel-checkpoint-1", "x": Trap(mark)}, path)
    with pytest.raises(ValueError, match=r"last\.pt cannot be read: it is not a checkpoint of Mindreel"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Trap(mark), protocol=2))
    with pytest.raises(ValueError, match=r"last\.pt cannot be read: it is not a checkpoint of Mindreel"):
        load_checkpoint(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the trap works
    assert mark.exists()


WRITER = """
import sys, torch
from pathlib import Path
from mindreel.agents.checkpoint import save_checkpoint
n = 0
while True:
    n += 1
    save_checkpoint(Path(sys.argv[1]), {"n": n, "x": torch.full((4_000_000,), float(n))})
    print(n, flush=True)
"""


def sizes_of_partial_files(folder: Path) -> list[int]:
    sizes = []
    for file in folder.glob(".last.pt.*.partial"):
        with contextlib.suppress(FileNotFoundError):  # it has just been renamed
            sizes.append(file.stat().st_size)
    return sizes


def test_a_kill_while_writing_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        for _ in range(2):
            written = int(writer.stdout.readline())
        deadline = time.monotonic() + 30
        while not any(size > 100_000 for size in sizes_of_partial_files(tmp_path)):  # in the middle of a write
            assert time.monotonic() < deadline
        os.kill(writer.pid, signal.SIGKILL)
    finally:
        writer.kill()
        writer.communicate()
    state = load_checkpoint(path)
    assert state["n"] >= written
    assert (state["x"] == state["n"]).all()
    save_checkpoint(path, {"n": 0})
    assert load_checkpoint(path)["n"] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]  # what the kill left behind does not stay


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"n": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint(path, {"n": (x for x in ())})
    assert load_checkpoint(path)["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
