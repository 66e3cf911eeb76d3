"""scripts/pretrain.py on files: killed and resumed, in several processes, and what mistakes are answered with."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mindreel.agents.checkpoint import load_checkpoint
from mindreel.benchmarks.encoder_rates import encoder_rows
from mindreel.encoders import CNNConfig, PretrainedConfig, StateConfig, make_encoder
from mindreel.encoders.pretrainer import PretrainConfig
from mindreel.envs import EnvConfig, RenderConfig
from mindreel.run_config import RunConfig, TrainConfig, check_picture_size
from mindreel.runs.folder import tell_how_to_go_on
from mindreel.transfer import encoder_of

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


def test_a_run_that_is_killed_or_interrupted_resumes_exactly(script, recordings: Path, tmp_path: Path) -> None:
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
    command = [sys.executable, SCRIPT, f"resume={broken}", "loop.checkpoint_seconds=1000"]
    written = len(rows(broken))
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        while len(rows(broken)) <= written:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert f"Continue with: python scripts/pretrain.py resume={broken}" in process.communicate()[0]
    assert process.returncode == 130
    assert state(broken)["pretrainer"]["done"] == len(rows(broken)) < 40, "it is saved where it stands"

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
    assert summary["throughput"]["clips_per_s"] > 0 and summary["throughput"]["peak_fraction"] > 0


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
    further, sizes = tmp_path / "further", [*SMALL, *exportable, "pretrain.steps=0"]
    status, _, errors = script(f"data={recordings}", *sizes, f"encoder_from={exported}", f"run={further}")
    assert status == 0, errors
    ours = encoder_of(str(further), torch.device("cpu"))
    torch.testing.assert_close(ours.tokens(clip), saved.tokens(clip), atol=1e-5, rtol=1e-5)
    assert ours.config == saved.config and torch.equal(ours.predictor.mask_tokens, saved.predictor.mask_tokens)


def test_torchrun(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT]
    out = tmp_path / "rows.json"
    arguments = [f"data={recordings}", *SMALL, "pretrain.steps=6", f"run={folder}", f"out={out}"]
    done = subprocess.run([*torchrun, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("168 clips of 6 recordings") == done.stdout.count("Rows: ") == 1
    assert [row["step"] for row in rows(folder)] == list(range(1, 7))
    saved = state(folder)
    assert len(saved["processes"]) == 2
    assert not torch.equal(saved["processes"][0]["torch"], saved["processes"][1]["torch"])


def test_several_processes_resume_as_several(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    monkeypatch.setenv("WORLD_SIZE", "2")
    tell_how_to_go_on("pretrain", tmp_path)
    expected = f"Continue with: torchrun --nproc-per-node=2 scripts/pretrain.py resume={tmp_path}"
    assert expected in capsys.readouterr().out


def test_videos_have_no_actions(script, recordings: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "silent.h5", "w") as file, h5py.File(recordings / "demos.hdf5") as demos:
        file["pixels"] = demos["data/demo_0/obs/image"][:]
    arguments = [*SMALL, "pretrain.steps=2", "encoder.auxiliary.inverse_coef=1"]
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
        (["pretrain.precision=b16"], "pretrain.precision=b16: expected one of auto, float32, bf16"),
        (["pretrain.accumulate=0"], "expected an integer (at least 1)"),
        (["clips.camera=side"], "has no camera 'side': valid are: obs/image"),
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


def test_a_run_that_has_ended_goes_on_to_more_steps(script, recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    status, _, errors = script(f"data={recordings}", *SMALL, "pretrain.steps=3", f"run={folder}")
    assert status == 0, errors
    status, output, errors = script(f"resume={folder}")
    assert status == 0 and "has ended: its 3 steps are done. To continue, add" in output, errors
    assert [row["step"] for row in rows(folder)] == [1, 2, 3]
    status, output, errors = script(f"resume={folder}", "pretrain.steps=5")
    assert status == 0 and "It had 3 steps and continues to step 5." in output, errors
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4, 5]
    assert state(folder)["pretrainer"]["step"] == 5 and state(folder)["counters"]["finished"]
    assert "its 5 steps are done" in script(f"resume={folder}")[1]  # the new number is in its config


def test_a_public_checkpoint_is_trained_on_files(script, recordings: Path, vjepa2: Path, tmp_path: Path) -> None:
    flags = ["encoder=pretrained", f"encoder.source={vjepa2}", "encoder.training_mode=refresh", "encoder.width=32"]
    small = [flag for flag in SMALL if flag.startswith("pretrain.")]
    status, _, errors = script(f"data={recordings}", *flags, *small, "pretrain.steps=2", f"run={tmp_path / 'run'}")
    assert status == 0, errors
    theirs = make_encoder(PretrainedConfig(source=str(vjepa2)), 1, 0).model.state_dict(prefix="model.")
    own = state(tmp_path / "run")["encoder"]
    assert any(not torch.equal(own[name], weight) for name, weight in theirs.items())


def test_a_replay_that_has_changed_is_named(script, tmp_path: Path) -> None:
    rollouts = ["preset=smoke", "loop.seed_decisions=30", "env.num_envs=2", "pretrain.steps=2", "encoder=lejepa"]
    rollouts += ["pretrain.batch_size=8", "pretrain.min_effective_rank=1.0", "probe.rows=60", "probe.held_out_rows=30"]
    for seed in (1, 2):
        status, _, errors = script(*rollouts, f"seed={seed}", f"run={tmp_path / str(seed)}")
        assert status == 0, errors
    folder = tmp_path / "run"
    status, _, errors = script(*rollouts, f"data={tmp_path / '1'}", f"run={folder}")
    assert status == 0, errors
    shutil.copy(tmp_path / "2" / "checkpoints" / "last.pt", tmp_path / "1" / "checkpoints" / "last.pt")
    status, _, errors = script(f"resume={folder}", "pretrain.steps=4")
    assert status == 2 and "The replay has changed since this run was saved." in errors


def test_a_run_on_rollouts_that_has_ended_goes_on_too(script, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    few = ("env.action_repeat=50", "loop.seed_decisions=30", "probe.steps=1", "probe.rows=60", "probe.held_out_rows=60")
    status, _, errors = script("preset=smoke", *few, "pretrain.steps=2", "pretrain.log_every=1", f"run={folder}")
    assert status == 0, errors
    status, output, errors = script(f"resume={folder}", "pretrain.steps=2")
    assert status == 0 and "has ended: its 2 steps are done" in output, errors
    status, output, errors = script(f"resume={folder}", "pretrain.steps=4")
    assert status == 0 and "continues to step 4" in output, errors
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4]


# ---- starting from a model of transformers ----

THEIRS = {"patch_size": 8, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "frames_per_clip": 8}
FITTING = ["encoder.vit.stem=linear", "encoder.vit.positions=rotary", "encoder.vit.tubelet=2"]


@pytest.fixture
def vjepa2(tmp_path: Path) -> Path:
    """A folder of a small V-JEPA 2 of transformers, with a predictor of our kind."""
    transformers = pytest.importorskip("transformers")
    predictor = {"pred_hidden_size": 64, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = transformers.VJEPA2Config(crop_size=64, tubelet_size=2, pred_num_mask_tokens=1, **THEIRS, **predictor)
    model = transformers.VJEPA2Model(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def in_the_hub(folder: Path, cache: Path) -> str:
    """Lays a folder out as the hub's cache does; its OWNER/NAME."""
    place, commit = cache / "models--owner--name", "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)
    return "owner/name"


@pytest.mark.parametrize("hub", [False, True])
def test_vjepa_starts_from_a_vjepa2_of_transformers(
    script, recordings: Path, vjepa2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: bool
) -> None:
    """Frames and their size are this run's; normalisation is ImageNet's, and readout and auxiliary losses are new."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source = in_the_hub(vjepa2, tmp_path / "hub") if hub else str(vjepa2)
    arguments = [f"data={recordings}", f"encoder_from={source}", *SMALL, *FITTING]
    status, _, errors = script(*arguments, "pretrain.steps=0", f"run={tmp_path / 'taken'}")
    assert status == 0, errors
    clip = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    expected = make_encoder(PretrainedConfig(source=str(vjepa2), image_size=32, readout="tokens", places=0), 1, 0)
    taken = encoder_of(str(tmp_path / "taken"), torch.device("cpu"))
    torch.testing.assert_close(taken.tokens(clip), expected.eval().tokens(clip), atol=1e-4, rtol=1e-4)
    theirs = load_file(vjepa2 / "model.safetensors")
    assert torch.equal(taken.predictor.mask_tokens.flatten(), theirs["predictor.embeddings.mask_tokens"].flatten())
    status, _, errors = script(*arguments, "pretrain.steps=2", f"run={tmp_path / 'further'}")
    assert status == 0, errors
    further = encoder_of(str(tmp_path / "further"), torch.device("cpu"))
    assert torch.equal(further.mean_frame, taken.mean_frame)
    assert not torch.equal(further.vit.norm.weight, taken.vit.norm.weight)


def test_a_model_of_transformers_that_does_not_fit_is_named(
    script, recordings: Path, vjepa2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest.importorskip("huggingface_hub").constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "run"
    for flags, line in (
        ([], "Set as there: encoder.vit.tubelet=2, encoder.vit.stem=linear, encoder.vit.positions=rotary."),
        ([*FITTING, "encoder.vit.dim=32"], "Set as there: encoder.vit.dim=16."),
        (["encoder=videomae"], "encoder=vjepa can start and encoder=videomae cannot"),
        (["encoder_from=owner/none"], "encoder_from=owner/none: no such file or folder here, and the hub did not"),
    ):
        status, _, errors = script(f"data={recordings}", f"encoder_from={vjepa2}", f"run={folder}", *SMALL, *flags)
        assert status == 2 and line in errors and not folder.exists(), errors


# ---- sizes of pictures ----


def test_pictures_of_another_size_are_named_before_anything_is_made(script, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    status, _, errors = script("preset=smoke", "encoder.vit.image_size=32", f"run={folder}")
    assert status == 2 and len(errors.strip().splitlines()) == 1
    assert "encoder.vit.image_size=32 does not fit the pictures of 64 x 64 pixels" in errors
    assert "env.render.height=32 env.render.width=32" in errors
    assert not folder.exists()


def test_which_pictures_fit() -> None:
    two = TrainConfig(env=EnvConfig(render=RenderConfig(height=32, width=64, cameras=(0, 1))), encoder=CNNConfig())
    check_picture_size(two)  # one below the other
    with pytest.raises(ValueError, match=r"encoder.image_size=80 .* env.render.height=40 env.render.width=80"):
        check_picture_size(replace(two, encoder=CNNConfig(image_size=80)))
    for other in (PretrainedConfig(image_size=80), StateConfig()):
        check_picture_size(replace(two, encoder=other))


def test_benchmark_of_a_public_checkpoint(vjepa2: Path) -> None:
    config = RunConfig(
        encoder=PretrainedConfig(source=str(vjepa2), readout="pooled"), pretrain=PretrainConfig(batch_size=2)
    )
    (row,) = encoder_rows(config, 0.01, torch.device("cpu"))
    assert row["what"] == "encoding" and row["clips_per_s"] > 0 and row["gflop_per_clip"] > 0


def test_several_processes_want_recordings(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, errors = script("preset=smoke", f"run={tmp_path / 'run'}")
    assert status == 2 and "give data=" in errors
