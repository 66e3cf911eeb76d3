"""A run that is killed and resumed gives the numbers of one that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from agents.checkpoint import load_checkpoint

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
    "loop.checkpoint_seconds=1",
    "pretrain.steps=30",
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


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*arguments: str) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def rows(folder: Path) -> list[dict]:
    """Whole lines of metrics.jsonl; one that is being written is left out."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_in(stage: str, folder: Path, *arguments: str) -> int:
    """Runs until a checkpoint was written in `stage` and two more rows after it, then kills; rows that stand."""
    process = start(*arguments)
    checkpoint = folder / "checkpoints" / "last.pt"
    seen: dict[str, float] = {"rows": float("inf")}
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    deadline = time.monotonic() + 250
    try:
        while True:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, f"no checkpoint in {stage}"
            written = rows(folder)
            saved = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            if saved > before and written and written[-1]["stage"] == stage:
                seen["rows"] = min(seen["rows"], len(written))
                if len(written) >= seen["rows"] + 2:
                    return len(written)
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


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
def test_a_killed_run_resumes_exactly(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(*TINY, f"run={whole}")
    kill_in("pretrain", broken, *TINY, f"run={broken}")
    kill_in("train", broken, f"resume={broken}")
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
    assert one["counters"] == other["counters"]
    scores = [json.loads((folder / "summary.json").read_text()) for folder in (whole, broken)]
    assert scores[0]["eval_returns"] == scores[1]["eval_returns"]
    assert scores[0]["probes"] == scores[1]["probes"]
