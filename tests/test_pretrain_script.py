"""scripts/pretrain.py on files: killed and resumed, in several processes, and what mistakes are answered with."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from agents.checkpoint import load_checkpoint
from encoders import make_encoder
from encoders.pretrained import PretrainedConfig
from other_runs import encoder_of

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "scripts" / "pretrain.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = [
    "encoder.vit.image_size=32",
    "encoder.vit.dim=16",
    "encoder.vit.depth=1",
    "encoder.vit.heads=2",
    "encoder.embedding_dim=32",
    "pretrain.batch_size=8",
    "pretrain.log_every=1",
    "pretrain.min_effective_rank=1.0",
    "pretrain.future_steps=2",
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of a square that actions move to and fro, as robomimic stores them, and a file that is broken."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    with h5py.File(folder / "demos.hdf5", "w") as file:
        for number in range(6):
            action = random.uniform(-1, 1, (30, 1)).astype(np.float32)
            place = np.clip(16 + 4 * np.cumsum(action, 0), 2, 30)[:, 0]
            near = np.abs(np.arange(32)[None] - place[:, None]) < 3  # (T, W)
            frames = np.where(near[:, None, :, None], 250, np.arange(32)[:, None, None])
            group = file.create_group(f"data/demo_{number}")
            group["obs/image"] = np.broadcast_to(frames, (30, 32, 32, 3)).astype(np.uint8)
            group["actions"], group["rewards"] = action, place / 32
    (folder / "broken.h5").write_bytes(b"not HDF5")
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Runs scripts/pretrain.py in this process: exit status, standard output and error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [SCRIPT, *arguments])
        status = 0
        try:
            runpy.run_path(SCRIPT, run_name="__main__")
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        return status, *capsys.readouterr()

    return call


def rows(folder: Path) -> list[dict]:
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def state(folder: Path) -> dict:
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def test_a_killed_run_resumes_exactly(script, recordings: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = [f"data={recordings}", *SMALL, "pretrain.steps=40", "loop.checkpoint_seconds=0.05"]
    command = [sys.executable, SCRIPT, *arguments, f"run={broken}"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(rows(broken)) < 6:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < state(broken)["pretrainer"]["done"] < 40

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums must be that of the other process
    try:
        status, output, errors = script(f"resume={broken}")
        assert status == 0, errors
        assert "Resumed at step" in output
        status, output, errors = script(*arguments, f"run={whole}")
        assert status == 0, errors
    finally:
        torch.set_num_threads(threads)
    assert "168 clips of 6 recordings" in output  # 28 of each, since two steps have to follow
    assert "Skipped, 1 so far" in output and "broken.h5" in output
    assert "clips/s" in output
    assert rows(broken) == rows(whole)
    one, other = state(broken), state(whole)
    assert one["counters"]["finished"] and other["pretrainer"]["step"] == 40
    for name, x in one["encoder"].items():
        assert torch.equal(x, other["encoder"][name]), name
    for name, x in one["pretrainer"]["optimizer"]["state"].items():
        assert torch.equal(x["exp_avg"], other["pretrainer"]["optimizer"]["state"][name]["exp_avg"])
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["data"] == str(recordings)
    assert summary["throughput"]["clips_per_s"] > 0 and summary["throughput"]["peak_share"] > 0


def test_what_was_learned_from_files_is_of_use(script, recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder, exported = tmp_path / "run", tmp_path / "export"
    exportable = ("encoder.vit.stem=linear", "encoder.vit.positions=rotary")
    status, _, errors = script(f"data={recordings}", *SMALL, *exportable, "pretrain.steps=1", f"run={folder}")
    assert status == 0, errors
    for name in ("evaluate", "probe"):
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), f"run={folder}"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"Start from it with encoder_from={folder}." in done.stderr
    command = [sys.executable, str(ROOT / "scripts" / "export.py"), f"run={folder}", f"out={exported}"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Trained on: {recordings}, seed 1, with the objective vjepa." in (exported / "README.md").read_text()
    saved = encoder_of(str(folder), torch.device("cpu"))
    back = make_encoder(PretrainedConfig(source=str(exported), readout="tokens", places=0), 1, 0).eval()
    clip = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(back.tokens(clip), saved.tokens(clip), atol=1e-5, rtol=1e-5)


def test_torchrun(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT]
    arguments = [f"data={recordings}", *SMALL, "pretrain.steps=6", f"run={folder}"]
    done = subprocess.run([*torchrun, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("168 clips of 6 recordings") == 1
    assert [row["step"] for row in rows(folder)] == list(range(1, 7))
    saved = state(folder)
    assert len(saved["processes"]) == 2
    assert not torch.equal(saved["processes"][0]["torch"], saved["processes"][1]["torch"])


def test_videos_have_no_actions(script, recordings: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "silent.h5", "w") as file, h5py.File(recordings / "demos.hdf5") as demos:
        file["pixels"] = demos["data/demo_0/obs/image"][:]
    arguments = [*SMALL, "pretrain.steps=2", "encoder.grounding.inverse_coef=1"]
    status, output, errors = script(f"data={tmp_path / 'silent.h5'}", f"run={tmp_path / 'run'}", *arguments)
    assert status == 0, errors
    assert "no actions, which are taken to be 0; inverse_loss is left out." in output
    assert "no rewards, which are taken to be 0; reward_loss is left out." in output
    found = rows(tmp_path / "run")[-1].keys()
    assert {"vjepa_loss", "future_loss", "contrast_loss"} <= found
    assert not {"reward_loss", "inverse_loss"} & found


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data=nowhere"], "data=nowhere does not exist"),
        (["encoder=cnn"], "encoder=cnn has no objective"),
        (["pretrain.precision=b16"], "did you mean 'bf16'"),
        (["pretrain.accumulate=0"], "must be 1 or more"),
        (["clips.camera=side"], "has no camera 'side': did you mean"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    script, recordings: Path, tmp_path: Path, arguments: list[str], line: str
) -> None:
    given = [f"data={recordings}", f"run={tmp_path / 'run'}"]
    given += [] if arguments[0] == "encoder=cnn" else SMALL
    status, _, errors = script(*given, *arguments)
    assert status == 2
    assert line in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_several_processes_want_recordings(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, errors = script("preset=smoke", f"run={tmp_path / 'run'}")
    assert status == 2 and "give data=" in errors
