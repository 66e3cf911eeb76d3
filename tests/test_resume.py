"""A run that is killed and resumed gives the numbers of one that was never stopped."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mindreel.agents.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
# Every stage of the loop with two refreshes, and a planner that carries its plans from one decision to the next.
TINY = [
    "preset=smoke",
    "env.num_envs=2",
    "env.action_repeat=20",
    "loop.seed_decisions=60",
    "loop.updates=30",
    "loop.refreshes=2",
    "loop.log_every=1",
    "loop.checkpoint_seconds=0.2",
    "pretrain.steps=60",
    "pretrain.refresh_steps=6",
    "pretrain.batch_size=8",
    "pretrain.log_every=1",
    "agent.batch_size=16",
    "agent.plan_in_training=true",
    "encoder.vit.dim=16",
    "encoder.vit.depth=1",
    "encoder.vit.heads=2",
    "encoder.embedding_dim=32",
    "eval_episodes=1",
    "decoder_steps=0",
    "probe.steps=1",
]


SCRIPT = str(ROOT / "scripts" / "train.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}  # the order of sums must not depend on the machine's load


@pytest.fixture
def finish(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Iterator[Callable[..., str]]:
    """Runs to the end, in this process, which has imported everything already; returns what was printed."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [SCRIPT, *arguments])
        runpy.run_path(SCRIPT, run_name="__main__")
        return capsys.readouterr().out

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield call
    torch.set_num_threads(threads)


def rows(folder: Path) -> list[dict]:
    """Whole lines of metrics.jsonl; one that is being written is left out."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_in(stage: str, folder: Path, *arguments: str) -> None:
    """Runs until `stage` has written a row, then a checkpoint, and two rows after that; then kills."""
    checkpoint = folder / "checkpoints" / "last.pt"
    before = None  # when the checkpoint was written that stood there at the stage's first row
    command = [sys.executable, SCRIPT, *arguments]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        at_checkpoint = None
        while at_checkpoint is None or len(rows(folder)) < at_checkpoint + 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
            written = rows(folder)
            if at_checkpoint is not None or not written or written[-1]["stage"] != stage:
                continue
            before = saved_at(checkpoint) if before is None else before
            if saved_at(checkpoint) > before:
                at_checkpoint = len(written)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def interrupt(number: int, folder: Path, ready: Callable[[str], bool], *arguments: str) -> None:
    """Runs until `ready`, which is told what was printed so far; then sends a signal and waits for the end."""
    command = [sys.executable, SCRIPT, *arguments, "loop.checkpoint_seconds=1000"]
    log = folder.with_suffix(".txt")
    with log.open("w") as file, subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=file) as process:
        try:
            while not ready(log.read_text()):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            process.send_signal(number)
            process.wait(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 130, log.read_text()
    assert f"Continue with: python scripts/train.py resume={folder}" in log.read_text()


def saved_at(checkpoint: Path) -> int:
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def counters(folder: Path) -> dict:
    return load_checkpoint(folder / "checkpoints" / "last.pt")["counters"]


def tensors(value: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of nested dicts and lists, with its place."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from tensors(inner, f"{name}.{index}")


@pytest.mark.timeout(900)
def test_a_run_that_is_killed_or_interrupted_resumes_exactly(finish: Callable[..., str], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(*TINY, f"run={whole}")
    interrupt(signal.SIGTERM, broken, lambda printed: "collect:" in printed, *TINY, f"run={broken}")
    assert 0 < counters(broken)["decisions"] <= 60 and not rows(broken)  # while noise was collected
    kill_in("pretrain", broken, f"resume={broken}", "loop.checkpoint_seconds=0.2")
    assert not counters(broken)["pretrained"]
    kill_in("train", broken, f"resume={broken}", "loop.checkpoint_seconds=0.2")
    assert 0 < counters(broken)["updates"] < counters(whole)["updates"]
    begun = len(rows(broken))
    interrupt(signal.SIGINT, broken, lambda _: len(rows(broken)) > begun, f"resume={broken}")
    trained = [row for row in rows(broken) if row["stage"] == "train"]
    assert counters(broken)["updates"] == trained[-1]["updates"] < 30, "it is saved where it stands"
    output = finish(f"resume={broken}")
    assert "Resumed at" in output

    assert rows(broken) == rows(whole)
    one, other = (load_checkpoint(folder / "checkpoints" / "last.pt") for folder in (whole, broken))
    for part in ("encoder", "agent", "pretrainer", "collector", "replay", "random"):
        expected = dict(tensors(one[part]))
        found = dict(tensors(other[part]))
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), f"{part}{name}"
    assert counters(whole) == counters(broken)
    scores = [json.loads((folder / "summary.json").read_text()) for folder in (whole, broken)]
    assert scores[0]["eval_returns"] == scores[1]["eval_returns"]
    assert scores[0]["probes"] == scores[1]["probes"]
