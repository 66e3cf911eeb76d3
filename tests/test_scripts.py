"""The scripts as a user runs them: every stage once, what it leaves behind, and what mistakes are answered with."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.timeout(600)  # the first of them may have to compile kernels

ROOT = Path(__file__).parents[1]
SUMMARY_KEYS = {
    "task",
    "eval_return_mean",
    "eval_return_ci95",
    "no_planning_return_mean",
    "random_return_mean",
    "env_frames",
    "updates",
    "wall_time_s",
    "hardware",
    "versions",
    "git_commit",
    "probes",
}


class Scripts:
    """Runs scripts in this process, so that each call does not import everything anew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def call(self, script: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        path = str(ROOT / "scripts" / f"{script}.py")
        self.monkeypatch.setattr(sys, "argv", [path, *arguments])
        self.capsys.readouterr()
        status = 0
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        return status, *self.capsys.readouterr()

    def succeed(self, script: str, *arguments: str) -> str:
        status, output, errors = self.call(script, *arguments)
        assert status == 0, output + errors
        check_quiet(output + errors)
        return output

    def fail(self, script: str, *arguments: str) -> str:
        """The one line that a mistake is answered with."""
        status, _, errors = self.call(script, *arguments)
        assert status == 2, errors
        return check_one_line(errors)


def check_quiet(output: str) -> None:
    for noise in ("Traceback", "Warning", "warning:", "LazyTensorStorage", "[INFO]"):
        assert noise not in output, output


def check_one_line(errors: str) -> str:
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0]


def in_a_process(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Scripts:
    return Scripts(monkeypatch, capsys)


def read_rows(file: Path) -> list[dict]:
    rows = json.loads(file.read_text())
    assert rows
    for row in rows:
        assert not any(isinstance(value, dict | list) for value in row.values()), row
    return rows


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one smoke run. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    result = in_a_process("train", "preset=smoke", f"run={folder}")
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    check_quiet(output)
    assert "random policy" in output
    assert "without planning" in output
    return folder


@pytest.fixture
def copy(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the smoke run to spoil."""
    return shutil.copytree(smoke, tmp_path / "copy")


def test_a_run_leaves_everything_behind(smoke: Path) -> None:
    summary = json.loads((smoke / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    low, high = summary["eval_return_ci95"]
    assert low <= summary["eval_return_mean"] <= high
    assert {"collect", "pretrain", "train", "evaluate", "total"} <= summary["wall_time_s"].keys()
    assert {row["encoder"] for row in summary["probes"]} == {"vjepa", "untrained", "pixels"}

    stages = [json.loads(line)["stage"] for line in (smoke / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["pretrain", "train", "refresh"]
    assert list((smoke / "tensorboard").glob("events.*"))
    assert (smoke / "videos" / "evaluation.mp4").read_bytes()[4:8] == b"ftyp"
    assert (smoke / "imagination.npz").is_file()
    assert (smoke / "checkpoints" / "last.pt").is_file()
    assert not list(smoke.rglob("*.partial"))
    assert "name: vjepa" in (smoke / "config.yaml").read_text()


def test_the_report_stands_alone(smoke: Path) -> None:
    page = (smoke / "report.html").read_text()
    assert "cartpole-swingup" in page
    for outside in ('src="http', "src='http", 'href="http', "@import", 'src="/'):
        assert outside not in page


def test_evaluate(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    out, video = tmp_path / "rows.json", tmp_path / "episode.mp4"
    output = scripts.succeed(
        "evaluate", f"run={smoke}", "eval_episodes=3", f"out={out}", f"video={video}", "env.action_repeat=50"
    )
    assert "without planning" in output
    rows = read_rows(out)
    assert [row["acting"] for row in rows] == ["agent", "policy", "random"]
    assert all(row["episodes"] == 3 for row in rows)
    assert all(row["return_low"] <= row["return_mean"] <= row["return_high"] for row in rows)
    assert video.read_bytes()[4:8] == b"ftyp"


def test_evaluate_by_the_other_agent(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    arguments = ("eval_episodes=2", "env.action_repeat=50", f"out={out}")
    scripts.succeed("evaluate", f"run={smoke}", "agent=actor_critic", *arguments)
    rows = read_rows(out)
    assert [row["acting"] for row in rows] == ["agent", "random"]
    assert rows[0]["agent"] == "actor_critic"


def test_probe(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    output = scripts.succeed("probe", f"run={smoke}", f"out={out}")
    assert "effective rank" in output
    rows = read_rows(out)
    assert {row["encoder"] for row in rows} == {"vjepa", "untrained", "pixels"}
    assert {row["probe"] for row in rows} == {"linear", "mlp"}
    assert all(row["effective_rank"] >= 1 and row["feature_std"] > 0 for row in rows)


def test_pretrain_and_train_from_there(scripts: Scripts, tmp_path: Path) -> None:
    folder, out = tmp_path / "encoder", tmp_path / "rows.json"
    output = scripts.succeed("pretrain", "preset=smoke", f"run={folder}", f"out={out}", "pretrain.steps=3")
    assert "untrained" in output
    assert {row["encoder"] for row in read_rows(out)} == {"vjepa", "untrained", "pixels"}
    assert (folder / "checkpoints" / "last.pt").is_file()
    short = ("loop.updates=2", "loop.refreshes=0", "eval_episodes=1", "decoder_steps=0", "probe.steps=1")
    assert "Resumed" in scripts.succeed("train", f"resume={folder}", *short)


def test_benchmark(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    scripts.succeed("benchmark", f"run={smoke}", "worlds=[4]", "seconds=0.05", f"out={out}")
    rows = read_rows(out)
    measured = {(row["measure"], row["engine"]) for row in rows}
    for measure in ("physics", "render", "both", "update", "replay sample", "pretraining step", "action"):
        assert (measure, "Mindreel") in measured
    assert ("physics", "dm_control") in measured
    assert ("update", "TD-MPC2 public code") in measured
    assert all(row["value"] > 0 for row in rows)


@pytest.mark.parametrize("script", ["train", "evaluate", "probe", "pretrain", "benchmark"])
def test_help(scripts: Scripts, script: str) -> None:
    text = scripts.succeed(script, "--help")
    assert "python scripts/" in text
    assert "encoder=vjepa" in text


@pytest.mark.parametrize(
    ("argument", "nearest"),
    [
        ("task=cartpole-swingupp", "cartpole-swingup"),
        ("encoder=vjep", "vjepa"),
        ("loop.update=5", "loop.updates"),
        ("preset=smok", "smoke"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(
    scripts: Scripts, argument: str, nearest: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert nearest in scripts.fail("train", argument, f"run={folder}")
    assert not folder.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    result = in_a_process("train", "preset=smoke", "device=cuda", f"run={tmp_path / 'run'}")
    assert result.returncode == 2
    assert "no CUDA device" in check_one_line(result.stderr)


def test_a_run_is_not_overwritten(scripts: Scripts, smoke: Path) -> None:
    before = (smoke / "summary.json").read_bytes()
    line = scripts.fail("train", "preset=smoke", f"run={smoke}")
    assert "overwrite=true" in line
    assert "resume=" in line
    assert (smoke / "summary.json").read_bytes() == before


def test_a_folder_that_is_no_run_is_never_deleted(scripts: Scripts, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    line = scripts.fail("train", "preset=smoke", f"run={tmp_path}", "overwrite=true")
    assert "does not look like a run" in line
    assert (tmp_path / "thesis.tex").is_file()


def test_nothing_to_resume(scripts: Scripts, tmp_path: Path) -> None:
    assert "config.yaml is missing" in scripts.fail("train", f"resume={tmp_path / 'nowhere'}")


def test_spoilt_checkpoints_are_named(scripts: Scripts, copy: Path) -> None:
    checkpoint = copy / "checkpoints" / "last.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    line = scripts.fail("train", f"resume={copy}")
    assert str(checkpoint) in line
    assert "truncated" in line

    torch.save({"weights": torch.zeros(2)}, checkpoint)
    line = scripts.fail("evaluate", f"run={copy}")
    assert str(checkpoint) in line
    assert "not a checkpoint of Mindreel" in line

    checkpoint.unlink()
    assert str(checkpoint) in scripts.fail("probe", f"run={copy}")


def test_a_checkpoint_of_another_config_is_named(scripts: Scripts, smoke: Path) -> None:
    line = scripts.fail("evaluate", f"run={smoke}", "world_model=m")
    assert "last.pt" in line
    assert "another config" in line


def test_evaluate_asks_which_run(scripts: Scripts) -> None:
    assert "run=runs/demo" in scripts.fail("evaluate")
