"""The scripts as a user runs them: every stage once, what it leaves behind, and what mistakes are answered with."""

import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from mindreel import cli
from mindreel.agents.checkpoint import load_checkpoint, save_checkpoint
from mindreel.encoders import Encoder, make_encoder
from mindreel.encoders.public.public_encoder import PretrainedConfig
from mindreel.run_config import GROUPS, TrainConfig
from mindreel.transfer import encoder_config, encoder_of, find_encoder, start_from

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

EXPORTABLE = ("encoder.vit.stem=linear", "encoder.vit.positions=rotary")  # what VJEPA2Model can express
# Every stage of the preset, in less time.
SMOKE = (
    "preset=smoke",
    "env.action_repeat=25",
    "loop.seed_decisions=60",
    "loop.updates=20",
    "loop.log_every=10",
    "pretrain.steps=10",
    "pretrain.refresh_steps=5",
    "pretrain.log_every=5",
    "probe.steps=10",
    "probe.rows=200",
    "probe.held_out_rows=100",
    "decoder_steps=20",
)
SHORT = (
    "env.action_repeat=50",
    "loop.seed_decisions=30",
    "loop.updates=2",
    "loop.refreshes=0",
    "eval_episodes=1",
    "decoder_steps=0",
    "probe.steps=1",
    "probe.rows=60",
    "probe.held_out_rows=60",
)


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
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *SMOKE, f"run={folder}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    check_quiet(output)
    assert "with random actions" in output and "Held-out R2 of linear probes" in output
    assert "with planning" in output and f"Page: {folder}/report.html" in output
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one smoke run of pretrain.py, with its rows beside it. Read only."""
    folder = tmp_path_factory.mktemp("encoders") / "pretrained"
    script = str(ROOT / "scripts" / "pretrain.py")
    arguments = ["preset=smoke", f"run={folder}", f"out={folder}.json", "pretrain.steps=3", *EXPORTABLE, *SHORT]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
    return folder


@pytest.fixture
def copy(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the smoke run to spoil."""
    return shutil.copytree(smoke, tmp_path / "copy")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("env.action_repeat=2", "env.action_repeat=25 and continues with it, not with 2"),
        ("task=walker-walk", "task=cartpole-swingup"),
        ("seed=9", "seed="),
        ("run=elsewhere", "run="),
        ("overwrite=true", "leave one of them out"),
    ],
)
def test_a_run_resumes_with_its_own_environments(scripts: Scripts, copy: Path, argument: str, said: str) -> None:
    before = (copy / "checkpoints" / "last.pt").stat()
    assert said in scripts.fail("train", f"resume={copy}", argument)
    assert (copy / "checkpoints" / "last.pt").stat() == before


def test_a_run_leaves_everything_behind(smoke: Path) -> None:
    summary = json.loads((smoke / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert len(summary["eval_returns"]) == 2 and summary["eval_return_ci95"] is None  # two say nothing of the spread
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


def test_suites_of_a_run(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "rows.json", ("rollouts.policies=[noise,expert]", "rollouts.episodes=2", "probe.rows=200")
    # An episode has fewer decisions than a corpus takes by default: then it takes whole episodes.
    small = (*few, "env.action_repeat=50", "probe.held_out_rows=100", "probe.resamples=20")
    scripts.succeed("probe", f"run={smoke}", "probes=state,dynamics", f"folder={tmp_path}", f"out={out}", *small)
    rows = read_rows(out)
    assert {(row["encoder"], row["suite"]) for row in rows} == {("vjepa", "state"), ("vjepa", "dynamics")}
    probes = {"linear", "mlp", "attentive", "linear on tokens", "mlp on tokens", "features", "predictor"}
    assert {row["probe"] for row in rows} == probes


def test_pretrain_and_train_from_there(scripts: Scripts, pretrained: Path, tmp_path: Path) -> None:
    assert {row["encoder"] for row in read_rows(Path(f"{pretrained}.json"))} == {"vjepa", "untrained", "pixels"}
    folder = shutil.copytree(pretrained, tmp_path / "agent")
    assert "Resumed at 30 decisions and 0 updates" in scripts.succeed("train", f"resume={folder}")
    assert json.loads((folder / "summary.json").read_text())["updates"] == 2


# ---- encoders of other runs ----


def saved_encoder(run: Path) -> tuple[Encoder, dict[str, torch.Tensor]]:
    """The encoder of a run and its weights, both as the checkpoint has them."""
    encoder = make_encoder(cli.load(run, TrainConfig, GROUPS).encoder, 1, 5).eval()
    weights = load_checkpoint(run / "checkpoints" / "last.pt")["encoder"]
    encoder.load_state_dict(weights)
    return encoder, weights


def test_a_run_starts_from_the_encoder_of_another(scripts: Scripts, pretrained: Path, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "run"
    shutil.copytree(pretrained, source)
    arguments = ("preset=smoke", f"encoder_from={source}", *EXPORTABLE, *SHORT)
    scripts.succeed("train", f"run={folder}", "seed=7", "pretrain.steps=0", *arguments)
    (_, theirs), (_, own) = saved_encoder(pretrained), saved_encoder(folder)
    # Only the targets of the auxiliary losses, which no feature depends on, and the components of the tokens are fitted
    # to this run's rollouts.
    fitted = ("auxiliary.", "readout.mean", "readout.axes")
    kept = [name for name in theirs if not name.startswith(fitted)]
    assert {"mean_frame", "pixel_std", "vit.norm.weight"} <= set(kept)
    assert theirs["mean_frame"].std() > 1  # of rollouts, not the grey that it starts with
    for name in kept:
        assert torch.equal(own[name], theirs[name]), name
    shutil.rmtree(source)  # what is going on needs it no more
    assert "Resumed at" in scripts.succeed("train", f"resume={folder}", "loop.updates=4")


def test_networks_of_other_actions_start_anew(pretrained: Path) -> None:
    _, theirs = saved_encoder(pretrained)
    config = cli.load(pretrained, TrainConfig, GROUPS).encoder
    encoder = make_encoder(config, 3, 5)
    new = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    start_from(encoder, config, str(pretrained), torch.device("cpu"))
    of_actions = [name for name in new if "_model." in name]  # biases and last layers, too
    assert len(of_actions) == 3 * 6
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, new[name] if name in of_actions else theirs[name]), name


def test_a_public_checkpoint_is_trained_on_rollouts(scripts: Scripts, tmp_path: Path) -> None:
    source, folder = tmp_path / "dinov2", tmp_path / "run"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(source)
    published = load_file(source / "model.safetensors")
    eyes = ("encoder=pretrained", f"encoder.source={source}", "encoder.places=2", "encoder.width=32")
    line = scripts.fail("pretrain", "preset=smoke", *eyes, f"run={folder}")
    assert "encoder=pretrained has no objective to pretrain it with: encoder.training_mode=refresh gives it one" in line
    assert not folder.exists()
    arguments = ("loop.refreshes=1", "loop.refresh_until=0.5", "pretrain.steps=3", "pretrain.refresh_steps=2")
    scripts.succeed("train", *SMOKE, *eyes, "encoder.training_mode=refresh", *arguments, f"run={folder}")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any({"future_loss", "reward_loss"} <= row.keys() for row in metrics)
    summary = json.loads((folder / "summary.json").read_text())
    assert {row["encoder"] for row in summary["probes"]} == {"pretrained", "as published", "pixels"}
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["pretrainer"]["step"] == 5
    _, own = saved_encoder(folder)
    assert not torch.equal(own["model.model.layernorm.weight"], published["layernorm.weight"])


def test_features_are_those_of_the_other_run(pretrained: Path) -> None:
    trained, _ = saved_encoder(pretrained)
    config = encoder_config(str(pretrained))
    clip = torch.randint(256, (2, 4, 3, 64, 64), dtype=torch.uint8)
    for actions in (1, 6):  # networks that read actions are learned anew where there are others
        encoder = make_encoder(config, actions, 0).eval()
        assert not torch.equal(encoder(clip), trained(clip))
        start_from(encoder, config, str(pretrained), torch.device("cpu"))
        assert torch.equal(encoder(clip), trained(clip))
    assert torch.equal(encoder_of(str(pretrained), torch.device("cpu")).tokens(clip), trained.tokens(clip))


def test_encoders_that_do_not_fit_are_named(scripts: Scripts, pretrained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = scripts.fail("train", "preset=smoke", "encoder=lejepa", f"encoder_from={pretrained}", f"run={folder}")
    assert "that run has a vjepa encoder, this one has lejepa" in line
    assert not folder.exists()
    config = encoder_config(str(pretrained))
    wider = replace(config, vit=replace(config.vit, dim=96), predictor_depth=2)
    with pytest.raises(ValueError, match=r"Set as there: encoder.vit.dim=64, encoder.predictor_depth=1\.$"):
        start_from(make_encoder(wider, 1, 0), wider, str(pretrained), torch.device("cpu"))
    # Neither has a weight of its own: the network would be another one, and nothing would show it.
    turned = replace(config, vit=replace(config.vit, heads=2, positions="sincos"))
    with pytest.raises(ValueError, match=r"Set as there: encoder.vit.heads=4, encoder.vit.positions=rotary\.$"):
        start_from(make_encoder(turned, 1, 0), turned, str(pretrained), torch.device("cpu"))
    line = scripts.fail("train", f"resume={pretrained}", "encoder.vit.heads=2")
    assert f"resume={pretrained}: its encoder does not fit this one. Set as there: encoder.vit.heads=4." in line
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is missing"):
        encoder_of(str(folder), torch.device("cpu"))


def test_the_encoder_of_another_run_teaches(scripts: Scripts, pretrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = tmp_path / "run"
    stages = ("pretrain.steps=5", "pretrain.log_every=1", "encoder.stage1_fraction=0.3", "encoder.stage2_fraction=0.2")
    sizes = ("encoder=internvideo2", "encoder.embedding_dim=16", f"encoder.teacher={pretrained}")
    scripts.succeed("pretrain", "preset=smoke", f"run={folder}", *sizes, *stages, *SHORT)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [" ".join({"text_loss", "label_loss"} & row.keys()) for row in rows]
    assert told == ["", "", "", "text_loss", "label_loss"]
    assert all(0 < row["match_loss"] < 4 for row in rows)
    weights = load_checkpoint(folder / "checkpoints" / "last.pt")["encoder"]
    assert not any(name.startswith("untrained.") for name in weights)  # nobody else teaches
    # So does a public checkpoint, for which an export stands here; a name that is mistyped is none.
    exported = tmp_path / "export"
    scripts.succeed("export", f"run={pretrained}", f"out={exported}")
    public = find_encoder(str(exported), 4, torch.device("cpu"), "encoder.teacher")
    clip = torch.randint(256, (2, 4, 3, 64, 64), dtype=torch.uint8)
    ours = encoder_of(str(pretrained), torch.device("cpu"))
    torch.testing.assert_close(public.tokens(clip), ours.tokens(clip), atol=1e-4, rtol=1e-4)
    sizes = (*sizes[:2], f"encoder.teacher={exported}", "pretrain.steps=2")
    scripts.succeed("pretrain", "preset=smoke", f"run={tmp_path / 'other'}", *sizes, *SHORT)
    mistyped = f"encoder.teacher={tmp_path / 'exprt'}"
    line = scripts.fail("pretrain", "preset=smoke", f"run={tmp_path / 'none'}", *sizes[:2], mistyped, *SHORT)
    assert "exprt/config.yaml is missing" in line
    empty = tmp_path / "empty"
    empty.mkdir()
    line = scripts.fail("pretrain", "preset=smoke", f"run={tmp_path / 'none'}", *sizes[:2], f"encoder.teacher={empty}")
    assert f"encoder.teacher={empty} is read as encoder=pretrained" in line
    weights[next(iter(weights))] = torch.zeros(1)
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    save_checkpoint(changed / "checkpoints" / "last.pt", {"encoder": weights})
    with pytest.raises(ValueError, match=rf"^encoder.teacher={changed}: .* another network's: {next(iter(weights))}"):
        find_encoder(str(changed), 4, torch.device("cpu"), "encoder.teacher")


def test_export(scripts: Scripts, smoke: Path, pretrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert "python scripts/export.py run=runs/demo" in scripts.succeed("export", "--help")
    line = scripts.fail("export", f"run={smoke}", f"out={tmp_path / 'refused'}")
    assert "encoder.vit.stem=linear encoder.vit.positions=rotary" in line
    assert not (tmp_path / "refused").exists()
    folder = tmp_path / "export"
    assert str(folder) in scripts.succeed("export", f"run={pretrained}", f"out={folder}")
    assert "cartpole-swingup" in (folder / "README.md").read_text()
    back = make_encoder(PretrainedConfig(source=str(folder), readout="tokens", places=0), 1, 0).eval()
    clip = torch.randint(256, (2, 4, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(back.tokens(clip), saved_encoder(pretrained)[0].tokens(clip), atol=1e-5, rtol=1e-5)
    assert "is not empty" in scripts.fail("export", f"run={pretrained}", f"out={folder}")


def test_pretrain_on_the_replay_of_a_run(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "again", tmp_path / "rows.json"
    small = ("pretrain.steps=4", "pretrain.log_every=2", "pretrain.batch_size=16", "pretrain.min_effective_rank=1.0")
    probes = ("probe.steps=2", "probe.rows=100", "probe.held_out_rows=100", f"out={out}")
    output = scripts.succeed("pretrain", f"data={smoke}", f"run={folder}", *small, *probes)
    assert "Replay of" in output and "clips/s" in output
    assert {row["encoder"] for row in read_rows(out)} == {"vjepa", "untrained", "pixels"}
    assert "action_repeat: 25" in (folder / "config.yaml").read_text()  # of the run that the replay is of
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == [2, 4]
    assert all(-1 <= row["probe_r2"] <= 1 for row in logged)


def test_benchmark(scripts: Scripts, smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    small = ("worlds=[2,4]", "seconds=0.05", "pretrain.batch_size=4", f"out={out}")
    output = scripts.succeed("benchmark", f"run={smoke}", *small)
    rows = read_rows(out)
    assert {row["benchmark"] for row in rows} == {"env", "agent", "encoder"}
    env = [row for row in rows if row["benchmark"] == "env"]
    measured = {(row["backend"], row["worlds"], row["what"]) for row in env}
    for what in ("physics", "render", "both", "both with reset"):
        assert {("warp", 2, what), ("warp", 4, what)} <= measured
    assert ("dm_control", 1, "physics") in measured
    assert all(row["frames_per_s"] > 0 and row["memory_mb"] >= 0 and row["device"] == "cpu" for row in env)
    agent = [row for row in rows if row["benchmark"] == "agent"]
    assert {row["measure"] for row in agent} == {"update", "replay sample", "action"}
    assert all(row["measured_ms"] > 0 and row["device"] == "cpu" for row in agent)
    cited = {row["measure"]: row["cited_ms"] for row in agent if row["worlds"] in (None, 1)}
    assert cited == {"update": 2040, "replay sample": 77, "action": 590}
    assert all(row["cited_ms"] is None for row in agent if (row["worlds"] or 1) > 1)
    assert "It was not run here" in output and "cited ms" in output
    encoder = [row for row in rows if row["benchmark"] == "encoder"]
    assert {(row["engine"], row["what"]) for row in encoder} >= {
        ("Mindreel vjepa", "pretraining"),
        ("Mindreel vjepa", "encoding"),
    }
    assert all(row["clips_per_s"] > 0 and 0 < row["peak_fraction"] < 1.5 for row in encoder)
    missing = importlib.util.find_spec("transformers") is None
    assert missing == ("V-JEPA 2 of transformers is not measured" in output)
    assert missing != any(row["engine"] == "transformers VJEPA2Model" for row in encoder)


def test_a_part_of_the_benchmark(scripts: Scripts, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    arguments = ("encoder=untrained", "seconds=0.01", "pretrain.batch_size=2", f"out={out}")
    scripts.succeed("benchmark", "encoder", *arguments)
    assert {row["what"] for row in read_rows(out) if row["engine"] == "Mindreel untrained"} == {"encoding"}
    assert "expected one of all, env, agent, encoder" in scripts.fail("benchmark", "encodr")


@pytest.mark.parametrize("script", ["train", "evaluate", "probe", "pretrain", "benchmark", "ablate", "rollouts"])
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
def test_a_device_that_is_not_there(scripts: Scripts, tmp_path: Path) -> None:
    assert "no CUDA device" in scripts.fail("train", "preset=smoke", "device=cuda", f"run={tmp_path / 'run'}")


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
