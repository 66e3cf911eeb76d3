"""Encoders probed side by side, as a user does it: rollouts, pretraining, every suite, and going on from there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mindreel import assembly, cli
from mindreel.agents.checkpoint import load_checkpoint, save_checkpoint
from mindreel.encoders import CNNConfig, CNNEncoder, PixelsConfig, make_encoder
from mindreel.probing import compare as comparing
from mindreel.probing.cache_keys import rollouts_key
from mindreel.probing.printing import over_seeds, over_tasks, print_comparison
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.run_probes import probe_table
from mindreel.probing.settings import CompareConfig
from mindreel.probing.suites import SUITES
from mindreel.rollouts.dataset import Rollouts
from mindreel.run_config import GROUPS, RunConfig
from mindreel.transfer import find_encoder
from mindreel.viz.probe_page import write_probes

pytestmark = pytest.mark.timeout(600)

SMALL = (
    "rollouts.policies=[noise,medium,expert]",
    "rollouts.episodes=4",
    "rollouts.decisions=40",
    "rollouts.agent_updates=4",
    "rollouts.agent_repeat=2",
    "world_model=xs",
    "pretrain.steps=3",
    "pretrain.batch_size=8",
    "pretrain.min_effective_rank=1.0",
    "probe.rows=120",
    "probe.held_out_rows=60",
    "probe.steps=4",
    "probe.batch_size=16",
    "probe.resamples=20",
    "movies=3",
)
FEWEST = ("rollouts.policies=[noise]", "rollouts.episodes=2", "rollouts.decisions=4")


def test_the_encoder_pixels_is_not_taken_for_the_pixels_beside_it(tmp_path) -> None:
    tiny = ["env.num_envs=2", "env.action_repeat=50", "loop.seed_decisions=40", "world_model=xs", "probe.rows=60"]
    config = cli.compose(RunConfig, GROUPS, ["encoder=pixels", "encoder.components=2", *tiny, "probe.steps=2"])
    parts = assembly.build(config)
    trainer = assembly.build_trainer(config, parts, print, None, tmp_path / "last.pt")
    trainer.prepare()
    rows = probe_table(config, parts, trainer.replay, None)
    assert {row["encoder"] for row in rows} == {"pixels"}
    assert all(row["effective_rank"] <= 2.001 for row in rows)  # two components, and not all pixels


def test_encoders_side_by_side(call_script, capsys, tmp_path) -> None:
    folder, out = tmp_path / "probe", tmp_path / "rows.json"
    listed = ("task=cartpole-swingup", "encoder=vjepa,untrained", f"folder={folder}", f"out={out}", *SMALL)
    assert call_script("probe", *listed) == 0, capsys.readouterr()
    rows = json.loads(out.read_text())
    assert {row["encoder"] for row in rows} == {"vjepa", "untrained"}
    scored = {row["suite"] for row in rows}
    assert scored == {"pretraining", "state", "recognition", "retrieval", "anomaly", "frontend", "dynamics"}
    for row in rows:
        assert row["task"] == "cartpole-swingup" and {"probe", "target", "score"} <= row.keys()
        if "low" in row:
            assert row["low"] - 1e-4 <= row["score"] <= row["high"] + 1e-4, row
    probes = {row["probe"] for row in rows if row["suite"] == "state"}
    assert probes == {"linear", "mlp", "attentive", "linear on tokens", "mlp on tokens", "features"}
    assert len(list(folder.glob("encoders/*/tokens.safetensors"))) == 2
    (made,) = folder.glob("encoders/*-vjepa-*")  # what was trained here can be used elsewhere
    taken = find_encoder(str(made), 4, torch.device("cpu"), "encoder.teacher")
    saved = load_checkpoint(made / "checkpoints" / "last.pt")["encoder"]
    assert all(torch.equal(weight, saved[name]) for name, weight in taken.state_dict().items())
    capsys.readouterr()
    assert call_script("evaluate", f"run={made}") == 2  # but it has no agent
    assert "an encoder that scripts/probe.py trained" in capsys.readouterr().err
    assert call_script("pretrain", f"data={made}", f"run={tmp_path / 'run'}") == 2  # and no replay
    assert f"encoder_from={made} starts from it" in capsys.readouterr().err
    page = (folder / "probes.html").read_text()
    assert "What encoders know" in page and "http" not in page.replace("http-equiv", "")

    # Again: nothing is made anew, though one suite is missing.
    state = sorted(folder.glob("encoders/*/state-*.json"))
    state[0].unlink()
    before = {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "probes.html"
    }
    assert call_script("probe", *listed) == 0
    assert json.loads(out.read_text()) == rows
    assert {path: path.stat().st_mtime_ns for path in before if path not in state} == {
        path: time for path, time in before.items() if path not in state
    }


def test_a_preset_does_not_play_the_rollouts(call_script, tmp_path, monkeypatch) -> None:
    """Its run may stand there with an agent of its own, as the demo's does, or not at all."""
    monkeypatch.chdir(tmp_path)
    suite = ("encoder=untrained,pixels", "probes=retrieval", "probe.rows=40", "probe.held_out_rows=20")
    assert call_script("probe", "preset=smoke", *suite, *FEWEST, "folder=probe") == 0
    assert not Path("runs").exists()


def test_mistakes_are_named_before_anything_is_made(call_script, capsys, tmp_path) -> None:
    folder = tmp_path / "probe"
    for argument, answer in (
        ("probes=state,dynamic", "did you mean 'dynamics'?"),
        ("encoder=vjepa,state", "nothing to probe"),
        ("encoder=vjepa,rndom", "rndom"),
        ("task=cartpole-swingup,walker-wlk", "walker-walk"),
        ("encoder=untrained,pretrained", "encoder.source"),
        ("run=a,b", "give run one value"),
        ("encoder.vit.image_size=32", "add env.render.height=32 env.render.width=32"),
        ("rollouts.policies=[noise,export]", "expected some of random"),
        ("rollouts.held_out=0.99", "leaves no episode to learn from"),
    ):
        assert call_script("probe", f"folder={folder}", argument) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1 and answer in errors[0], errors
    assert not folder.exists()


@pytest.fixture
def cnn_run(tmp_path) -> tuple[Path, CNNEncoder]:
    """Folder of a run, with its config and its encoder alone, and that encoder."""
    folder, config = tmp_path / "run", cli.compose(RunConfig, GROUPS, ["encoder=cnn"])
    encoder = CNNEncoder(config.encoder, 1, 5)
    (folder / "checkpoints").mkdir(parents=True)
    cli.save(config, GROUPS, folder / "config.yaml")
    save_checkpoint(folder / "checkpoints" / "last.pt", {"encoder": encoder.state_dict()})
    return folder, encoder


def test_an_encoder_that_only_agents_train_is_said_to_be_untrained(cnn_run, capsys) -> None:
    comparing._say_untrained.cache_clear()  # another test of this process may have been told
    others = (["encoder=vjepa", "encoder.training_mode=finetune"], ["encoder=untrained"], ["encoder=pixels"])
    for arguments in (*others, ["encoder=cnn", f"encoder_from={cnn_run[0]}"]):
        comparing.check(cli.compose(CompareConfig, GROUPS, arguments), None)
    assert "untrained" not in capsys.readouterr().out
    for task in ("cartpole-swingup", "reacher-easy"):
        comparing.check(cli.compose(CompareConfig, GROUPS, ["encoder=cnn", f"task={task}"]), None)
    assert capsys.readouterr().out.count("encoder=cnn is probed untrained") == 1


def test_encoders_of_the_runs_kind_start_from_it_and_others_do_not(
    call_script, cnn_run, capsys, monkeypatch, tmp_path
) -> None:
    folder, theirs = cnn_run

    def dynamics(data: ProbeData) -> list[dict]:
        own = dict(data.encoder.named_parameters()).get("net.0.weight", torch.zeros(()))
        same = torch.equal(own, theirs.get_parameter("net.0.weight"))
        return [{"probe": "weights", "target": "same as there", "score": float(same)}]

    monkeypatch.setitem(SUITES, "dynamics", dynamics)
    out = tmp_path / "rows.json"
    common = ("task=cartpole-swingup", "probes=dynamics", f"folder={tmp_path / 'probe'}", f"out={out}")
    few = (*SMALL, *FEWEST, "encoder.vit.dim=16", "encoder.vit.depth=1", "encoder.vit.heads=2")
    start = f"encoder_from={folder}"
    assert call_script("probe", "encoder=cnn,untrained", start, *common, *few) == 0
    assert f"{start} is for encoder=cnn; probed without it: untrained." in capsys.readouterr().out
    assert {row["encoder"]: row["score"] for row in json.loads(out.read_text())} == {"cnn": 1, "untrained": 0}

    assert call_script("probe", "encoder=untrained,pixels", start, *common, *FEWEST) == 2
    assert "that run has a cnn encoder" in capsys.readouterr().err
    missing = f"encoder_from={tmp_path / 'VJEPA2Model'}"  # what is no run is a model of transformers, if anything
    assert call_script("probe", "encoder=vjepa,untrained", missing, *common, *FEWEST) == 2
    said = capsys.readouterr()
    assert f"{missing} is for encoder=vjepa; probed without it: untrained." in said.out and "no run at" in said.err


def test_an_untrained_teacher_is_warned_of_once(capsys) -> None:
    config = cli.compose(CompareConfig, GROUPS, ["encoder=internvideo2"])
    assembly._warn_of_untrained_teacher.cache_clear()  # another test of this process may have been told
    for _ in range(2):  # as comparing does: once to see that it can be made, once to train it
        encoder = make_encoder(config.encoder, 1, 1)
        assembly.prepare_encoder(config, encoder, ("a pole hanging", "a pole standing"), torch.device("cpu"))
    assert capsys.readouterr().out.count("matches an untrained network") == 1


def test_an_encoder_that_fails_leaves_the_others(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    listed = ("task=cartpole-swingup", "encoder=vjepa,untrained", "probes=state", f"folder={tmp_path}", f"out={out}")
    collapse = ("pretrain.min_feature_std=1000",)
    assert call_script("probe", *listed, *SMALL, *collapse) == 1
    errors = capsys.readouterr().err
    assert (
        "failed: vjepa, cartpole-swingup, 1: The encoder has collapsed" in errors and "1 of 2 encoders failed" in errors
    )
    assert {row["encoder"] for row in json.loads(out.read_text())} == {"untrained"}


def test_a_suite_that_fails_leaves_the_others(call_script, capsys, tmp_path) -> None:
    """Episodes of four decisions are too short for movies of violations."""
    out = tmp_path / "rows.json"
    listed = (
        "task=cartpole-swingup",
        "encoder=untrained",
        "probes=anomaly,dynamics",
        f"folder={tmp_path}",
        f"out={out}",
    )
    assert call_script("probe", *listed, *SMALL, *FEWEST) == 1
    assert "failed: untrained, cartpole-swingup, 1, anomaly: A movie has" in capsys.readouterr().err
    assert {row["suite"] for row in json.loads(out.read_text())} == {"dynamics"}


def test_whatever_fails_leaves_the_others(call_script, capsys, monkeypatch, tmp_path) -> None:
    out = tmp_path / "rows.json"
    listed = (
        "task=cartpole-swingup,reacher-easy,pendulum-swingup",
        "encoder=untrained",
        f"folder={tmp_path}",
        f"out={out}",
    )
    made = comparing.make_rollouts

    def making(config: CompareConfig, *others) -> Rollouts:
        if config.task == "reacher-easy":
            raise ValueError("no room on the table")
        return made(config, *others)

    def dynamics(data: ProbeData) -> list[dict]:
        if data.task == "cartpole-swingup":
            raise RuntimeError("out of memory")
        return []

    monkeypatch.setattr(comparing, "make_rollouts", making)
    monkeypatch.setitem(SUITES, "dynamics", dynamics)
    few = ("rollouts.policies=[noise]", "probes=state,dynamics")
    assert call_script("probe", *listed, *SMALL, *few) == 1
    errors = capsys.readouterr().err
    assert (
        "failed: untrained, cartpole-swingup, 1, dynamics: RuntimeError: out of memory" in errors
        and "in dynamics" in errors
    )
    assert "failed: untrained, reacher-easy, 1: no rollouts: no room on the table" in errors
    kept = {(row["task"], row["suite"]) for row in json.loads(out.read_text())}
    assert kept == {("cartpole-swingup", "state"), ("pendulum-swingup", "state")}


def test_variants_and_seeds_are_told_apart(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    listed = ("task=cartpole-swingup", "encoder=vjepa", "encoder.jepa_coef=0,1", "seed=1,2")
    few = ("rollouts.policies=[noise]", "rollouts.episodes=2", "pretrain.tflop=0.012", "probes=state")
    arguments = (*listed, *SMALL, *few, f"folder={tmp_path}", f"out={out}")
    assert call_script("probe", *arguments) == 0, capsys.readouterr().err
    rows = json.loads(out.read_text())
    probed = {(row["task"], row["variant"], row["seed"]) for row in rows}
    assert len(probed) == 4 and {variant for _, variant, _ in probed} == {"jepa_coef=0", "jepa_coef=1"}
    printed = capsys.readouterr().out
    assert "vjepa, jepa_coef=0" in printed
    # Without masks a clip costs less, so equal compute buys more of them.
    clips = {row["variant"]: row["score"] for row in rows if row["target"] == "clips"}
    tflop = [row["score"] for row in rows if row["target"] == "TFLOP"]
    assert clips["jepa_coef=0"] > clips["jepa_coef=1"] > 0
    assert max(tflop) < 1.5 * min(tflop)


def test_variants_of_the_worlds_have_rollouts_of_their_own(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    listed = ("task=cartpole-swingup", "encoder=untrained", "env.action_repeat=2,6", f"folder={tmp_path}", f"out={out}")
    assert call_script("probe", *listed, *SMALL, "rollouts.policies=[noise]", "probes=state") == 0, capsys.readouterr()
    rows = json.loads(out.read_text())
    ranks = {row["variant"]: row["score"] for row in rows if row["target"] == "effective rank"}
    assert len(ranks) == 2 and len(set(ranks.values())) == 2
    assert len(list(tmp_path.glob("rollouts/*.safetensors"))) == 2


def test_other_tasks_are_those_of_the_same_worlds(call_script, capsys, monkeypatch, tmp_path) -> None:
    out = tmp_path / "rows.json"
    listed = ("task=cartpole-swingup,reacher-easy", "encoder=cnn", "env.action_repeat=2,6", f"folder={tmp_path}")

    def repeats(data: ProbeData) -> list[dict]:
        parts = [data.train, *(train for train, _ in data.others.values())]
        return [
            {"probe": "worlds", "target": part.metadata.task, "score": float(part.metadata.action_repeat)}
            for part in parts
        ]

    monkeypatch.setitem(SUITES, "recognition", repeats)
    assert call_script("probe", *listed, *SMALL, *FEWEST, "probes=recognition", f"out={out}") == 0, capsys.readouterr()
    rows = json.loads(out.read_text())
    assert len(rows) == 8  # two tasks' for each of four encoders
    assert all(row["variant"] == f"env.action_repeat={row['score']:.0f}" for row in rows), rows


def test_seeds_can_share_rollouts(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    listed = ("task=cartpole-swingup", "encoder=untrained", f"folder={tmp_path}", f"out={out}", "probes=state")
    few = (*SMALL, "rollouts.policies=[noise]", "rollouts.episodes=2")
    assert call_script("probe", *listed, *few, "seed=1,2", "rollouts.seed=1") == 0, capsys.readouterr()
    ranks = {row["seed"]: row["score"] for row in json.loads(out.read_text()) if row["target"] == "effective rank"}
    assert len(ranks) == 2 and len(set(ranks.values())) == 2  # two networks,
    assert len(list(tmp_path.glob("rollouts/*.safetensors"))) == 1  # one set of rollouts,
    made_of = [["seed=1"], ["seed=1", "rollouts.seed=1"], ["seed=2", "rollouts.seed=1"]]
    keys = {rollouts_key(cli.compose(CompareConfig, GROUPS, arguments)) for arguments in made_of}
    assert len(keys) == 1  # that of the seed itself


def test_rollouts_of_agents_that_learn_otherwise_are_told_apart() -> None:
    settings = ([], ["world_model=xs"], ["world_model.latent_dim=64"], ["seed=2"], ["rollouts.agent_updates=5"])
    configs = [cli.compose(CompareConfig, GROUPS, arguments) for arguments in settings]
    assert len({rollouts_key(config) for config in configs}) == len(settings)
    encoders = [replace(configs[0], encoder=config) for config in (CNNConfig(), PixelsConfig())]
    assert {rollouts_key(config) for config in encoders} == {rollouts_key(configs[0])}


def test_seeds_and_tasks_by_hand() -> None:
    rows = [
        row("vjepa", 0.5, low=0.4, high=0.6, seed=1, target="mean"),
        row("vjepa", 0.7, low=0.5, high=0.8, seed=2, target="mean"),
        row("vjepa", 0.2, low=-0.1, high=0.3, seed=1, target="mean", task="walker-walk"),
        row("vjepa", 0.9, seed=1, target="mean", variant="jepa_coef=0"),
    ]
    pooled = over_seeds(rows)
    assert [(one["encoder"], one["task"]) for one in pooled] == [
        ("vjepa", "cartpole-swingup"),
        ("vjepa", "walker-walk"),
        ("vjepa, jepa_coef=0", "cartpole-swingup"),
    ]
    assert pooled[0]["score"] == pytest.approx(0.6) and (pooled[0]["low"], pooled[0]["high"]) == (0.4, 0.8)
    assert "low" not in pooled[2]
    (mean,) = over_tasks(pooled)  # the variant was not measured on both tasks
    assert mean["task"] == "all 2 tasks" and mean["score"] == pytest.approx(0.4)
    assert mean["low"] == pytest.approx(0.4 - (0.2**2 + 0.3**2) ** 0.5 / 2)
    assert mean["high"] == pytest.approx(0.4 + (0.2**2 + 0.1**2) ** 0.5 / 2)


def test_a_task_of_the_users_own_is_known_by_its_content(tmp_path) -> None:
    task = tmp_path / "elsewhere" / "rod.py"
    task.parent.mkdir()
    model = '<mujoco><worldbody><body><joint/><geom size=".1" mass="{}"/></body></worldbody></mujoco>'
    reward = 'XML = "rod.xml"\ndef reward(sim): return {} * sim.qvel[:, 0]\n'
    keys = set()
    for mass, factor in ((1, 1), (2, 1), (2, 3)):
        task.with_suffix(".xml").write_text(model.format(mass))
        task.write_text(reward.format(factor))
        config = cli.compose(CompareConfig, GROUPS, [f"task={task}", f"folder={tmp_path / 'probe'}"])
        keys.add(rollouts_key(config))
    assert len(keys) == 3 and rollouts_key(config) in keys


def row(encoder: str, score: float, **others: object) -> dict:
    known = {"task": "cartpole-swingup", "suite": "state", "probe": "linear", "target": "position[0]"}
    return {"encoder": encoder, "score": score} | known | others


def test_scores_stand_side_by_side(capsys) -> None:
    print_comparison(
        [row("vjepa", 0.913, low=0.9, high=0.92), row("untrained", -0.5), row("vjepa", 0.25, target="mean")]
    )
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.strip().splitlines()]
    assert lines == [
        "task suite probe target vjepa untrained",
        "cartpole-swingup state linear position[0] 0.91 [0.90, 0.92] -0.50",
        "cartpole-swingup state linear mean 0.25",
    ]


def test_the_figure_places_scores_on_one_axis(tmp_path) -> None:
    page = write_probes(
        tmp_path / "new" / "probes.html", [row("a<b", 0.5, low=0.25, high=0.75), row("b", -2.0)]
    ).read_text()
    # The axis goes from -0.5, below which nothing is told apart, to 1.
    assert 'class="ci c1" style="left:50.00%;width:33.33%' in page
    assert 'class="mean c1" style="left:66.67%' in page and 'class="mean c2" style="left:0.00%' in page
    assert "a&lt;b" in page and "a<b" not in page
    with pytest.raises(ValueError, match="got none"):
        write_probes(tmp_path / "empty.html", [])
