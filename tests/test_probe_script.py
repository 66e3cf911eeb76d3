"""Encoders probed side by side, as a user does it: rollouts, pretraining, every suite, and going on from there."""

import json
from dataclasses import replace
from pathlib import Path

import cli

import pytest
import torch

import assemble
import comparing
import subject as probed
from assemble import GROUPS
from comparing import CompareConfig, pretrained
from corpus import RolloutConfig, Rollouts
from encoders import make_encoder
from probing import over_seeds, over_tasks, print_comparison
from subject import Subject
from suites import SUITES, retrieval, state
from viz.probes import write_probes

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


def test_encoders_side_by_side(call_script, capsys, tmp_path) -> None:
    folder, out = tmp_path / "probe", tmp_path / "rows.json"
    grid = ("task=cartpole-swingup", "encoder=vjepa,random", f"folder={folder}", f"out={out}", *SMALL)
    assert call_script("probe", *grid) == 0, capsys.readouterr()
    rows = json.loads(out.read_text())
    assert {row["encoder"] for row in rows} == {"vjepa", "random"}
    scored = {row["suite"] for row in rows}
    assert scored == {"pretraining", "state", "recognition", "retrieval", "anomaly", "frontend", "dynamics"}
    for row in rows:
        assert row["task"] == "cartpole-swingup" and {"probe", "target", "score"} <= row.keys()
        if "low" in row and row["target"] != "mean":
            assert row["low"] <= row["high"], row
    probes = {row["probe"] for row in rows if row["suite"] == "state"}
    assert probes == {"linear", "mlp", "attentive", "linear on tokens", "features"}
    assert len(list(folder.glob("cells/*/tokens.safetensors"))) == 2
    page = (folder / "probes.html").read_text()
    assert "What encoders know" in page and "http" not in page.replace("http-equiv", "")

    # Again: nothing is made anew, though one suite is missing.
    state = sorted(folder.glob("cells/*/state-*.json"))
    state[0].unlink()
    before = {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "probes.html"
    }
    assert call_script("probe", *grid) == 0
    assert json.loads(out.read_text()) == rows
    assert {path: path.stat().st_mtime_ns for path in before if path not in state} == {
        path: time for path, time in before.items() if path not in state
    }


def test_mistakes_are_named_before_anything_is_made(call_script, capsys, tmp_path) -> None:
    folder = tmp_path / "probe"
    for argument, answer in (
        ("probes=state,dynamic", "expected some of state"),
        ("encoder=vjepa,state", "nothing to probe"),
        ("encoder=vjepa,rndom", "rndom"),
        ("task=cartpole-swingup,walker-wlk", "walker-walk"),
        ("encoder=random,pretrained", "encoder.source"),
        ("run=a,b", "give run one value"),
        ("encoder.vit.image_size=32", "add env.render.height=32 env.render.width=32"),
        ("rollouts.policies=[noise,export]", "expected some of random"),
    ):
        assert call_script("probe", f"folder={folder}", argument) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1 and answer in errors[0], errors
    assert not folder.exists()


def test_an_untrained_teacher_is_warned_of_once(capsys) -> None:
    config = cli.compose(CompareConfig, GROUPS, ["encoder=internvideo2"])
    assemble._warn_of_untrained_teacher.cache_clear()  # another test of this process may have been told
    for _ in range(2):  # as comparing does: once to see that it can be made, once to train it
        encoder = make_encoder(config.encoder, 1, 1)
        assemble.prepare_encoder(config, encoder, ("a pole hanging", "a pole standing"), torch.device("cpu"))
    assert capsys.readouterr().out.count("matches an untrained network") == 1


def test_a_cell_that_fails_leaves_the_others(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    grid = ("task=cartpole-swingup", "encoder=vjepa,random", "probes=state", f"folder={tmp_path}", f"out={out}")
    collapse = ("pretrain.min_feature_std=1000",)
    assert call_script("probe", *grid, *SMALL, *collapse) == 1
    errors = capsys.readouterr().err
    assert "failed: vjepa, cartpole-swingup, 1: The encoder has collapsed" in errors and "1 of 2 failed" in errors
    assert {row["encoder"] for row in json.loads(out.read_text())} == {"random"}


def test_whatever_fails_leaves_the_others(call_script, capsys, monkeypatch, tmp_path) -> None:
    out = tmp_path / "rows.json"
    grid = ("task=cartpole-swingup,reacher-easy,pendulum-swingup", "encoder=random", f"folder={tmp_path}", f"out={out}")
    made = comparing.make_rollouts

    def making(config: CompareConfig, *others) -> Rollouts:
        if config.task == "reacher-easy":
            raise ValueError("no room on the table")
        return made(config, *others)

    def dynamics(subject: Subject) -> list[dict]:
        if subject.task == "cartpole-swingup":
            raise RuntimeError("out of memory")
        return []

    monkeypatch.setattr(comparing, "make_rollouts", making)
    monkeypatch.setitem(SUITES, "dynamics", dynamics)
    few = ("rollouts.policies=[noise]", "probes=state,dynamics")
    assert call_script("probe", *grid, *SMALL, *few) == 1
    errors = capsys.readouterr().err
    assert "failed: random, cartpole-swingup, 1: RuntimeError: out of memory" in errors and "in dynamics" in errors
    assert "failed: random, reacher-easy, 1: no rollouts: no room on the table" in errors
    assert {row["task"] for row in json.loads(out.read_text())} == {"pendulum-swingup"}


def test_variants_and_seeds_are_told_apart(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    grid = ("task=cartpole-swingup", "encoder=vjepa", "encoder.jepa_coef=0,1", "seed=1,2")
    few = ("rollouts.policies=[noise]", "rollouts.episodes=2", "pretrain.tflop=0.012", "probes=state")
    arguments = (*grid, *SMALL, *few, f"folder={tmp_path}", f"out={out}")
    assert call_script("probe", *arguments) == 0, capsys.readouterr().err
    rows = json.loads(out.read_text())
    cells = {(row["task"], row["variant"], row["seed"]) for row in rows}
    assert len(cells) == 4 and {variant for _, variant, _ in cells} == {"jepa_coef=0", "jepa_coef=1"}
    printed = capsys.readouterr().out
    assert "vjepa, jepa_coef=0" in printed
    # Without masks a clip costs less, so equal compute buys more of them.
    clips = {row["variant"]: row["score"] for row in rows if row["target"] == "clips"}
    tflop = [row["score"] for row in rows if row["target"] == "TFLOP"]
    assert clips["jepa_coef=0"] > clips["jepa_coef=1"] > 0
    assert max(tflop) < 1.5 * min(tflop)


def test_variants_of_the_worlds_have_rollouts_of_their_own(call_script, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    grid = ("task=cartpole-swingup", "encoder=random", "env.action_repeat=2,6", f"folder={tmp_path}", f"out={out}")
    assert call_script("probe", *grid, *SMALL, "rollouts.policies=[noise]", "probes=state") == 0, capsys.readouterr()
    rows = json.loads(out.read_text())
    ranks = {row["variant"]: row["score"] for row in rows if row["target"] == "effective rank"}
    assert len(ranks) == 2 and len(set(ranks.values())) == 2
    assert len(list(tmp_path.glob("rollouts/*.safetensors"))) == 2


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


@pytest.fixture(scope="module")
def rollouts(call_script, tmp_path_factory) -> Rollouts:
    file = tmp_path_factory.mktemp("rollouts") / "reacher.safetensors"
    few = ("rollouts.policies=[random,noise]", "rollouts.episodes=4", "rollouts.decisions=6")
    assert call_script("rollouts", "task=reacher-easy", f"out={file}", *few) == 0
    assert call_script("rollouts", "task=reacher-easy", f"out={file}", *few) == 2  # never overwritten
    return Rollouts.load(file)


def test_features_of_principal_components_are_not_taken_for_collapsed(call_script, capsys, tmp_path) -> None:
    one = ("task=cartpole-swingup", "encoder=videomae", "probes=state", f"folder={tmp_path}")
    watched = ("pretrain.log_every=1", "pretrain.min_effective_rank=1.5")
    assert call_script("probe", *one, *SMALL, *watched) == 0, capsys.readouterr().err


def test_rollouts_are_of_the_worlds_that_the_config_describes(call_script, capsys, tmp_path) -> None:
    few = ("task=reacher-easy", "rollouts.policies=[random]", "rollouts.episodes=4", "rollouts.decisions=2")
    file = tmp_path / "coloured.safetensors"
    assert call_script("rollouts", *few, f"out={file}", "env.randomize.colors=0.5") == 0
    corners = Rollouts.load(file).pixels[:, 0, :, 0, 0]  # (E, 3): the table, at the edge of the first picture
    assert len(corners.unique(dim=0)) == 4, "each world should have its own colour"
    assert call_script("rollouts", *few, f"out={tmp_path / 'b'}", "env.backend=dm_control") == 2
    assert "needs the worlds of env.backend=warp" in capsys.readouterr().err


def test_text_is_not_learned_from_rollouts_without_any(rollouts, tmp_path) -> None:
    silent = replace(rollouts, behaviour=torch.full_like(rollouts.behaviour, -1))
    config = cli.compose(CompareConfig, GROUPS, [*SMALL, "task=reacher-easy", "encoder=internvideo"])
    with pytest.raises(ValueError, match="encoder=internvideo reads text, and no sentence holds"):
        pretrained(config, silent, tmp_path / "encoder.pt")
    pretrained(config, rollouts, tmp_path / "encoder.pt")


def untrained(rollouts: Rollouts, folder: Path, others: dict | None = None) -> Subject:
    """The untrained network, learning from the episodes that it is scored on."""
    config = cli.compose(CompareConfig, GROUPS, ["task=reacher-easy", "encoder=random", *SMALL])
    encoder = make_encoder(config.encoder, 2, 1).eval()
    encoder.fit_readout(rollouts.sample(40, 1, encoder.clip_frames)[0][:, :-1])
    common = {"in_view": True, "movies": 0, "device": torch.device("cpu"), "folder": folder, "env": config.env}
    return Subject(encoder, "reacher-easy", rollouts, rollouts, others or {}, config.probe, **common)


def test_a_clip_of_another_task_with_the_same_sentence_is_a_match(rollouts, tmp_path) -> None:
    both = untrained(rollouts, tmp_path, {"reacher-hard": (rollouts, rollouts)})
    found = {(row["probe"], row["target"]): row["score"] for row in retrieval(both)}
    assert found["clip to clip", "recall at 1"] == 1  # its twin in the other task
    alone = {(row["probe"], row["target"]): row["score"] for row in retrieval(untrained(rollouts, tmp_path))}
    assert found["text to clip, chance", "recall at 1"] == pytest.approx(alone["text to clip, chance", "recall at 1"])


def test_frames_without_sentences_or_view(rollouts, tmp_path) -> None:
    silent = replace(rollouts, behaviour=torch.full_like(rollouts.behaviour, -1))
    assert [SUITES[name](untrained(silent, tmp_path)) for name in ("retrieval", "frontend")] == [[], []]
    assert {row["target"] for row in SUITES["recognition"](untrained(silent, tmp_path))} == {"policy"}
    hidden = replace(rollouts, in_view=torch.zeros_like(rollouts.in_view))
    with pytest.raises(ValueError, match="in_view=false"):
        state(untrained(hidden, tmp_path))


def test_tokens_that_would_fill_the_memory_are_fewer(rollouts, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(probed, "_TOKEN_BYTES", 20 * 64 * 64 * 2 + 1)  # 64 tokens of 64 numbers of two bytes
    train, test = untrained(rollouts, tmp_path).drawn(lambda rollouts: None)
    assert len(train.tokens) == len(test.features) == 20
    assert "20 clips are probed in place of 120" in capsys.readouterr().out


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
        keys.add(comparing._rollouts_key(config))
        assert comparing._rollouts_file(config).parent == tmp_path / "probe" / "rollouts"
    assert len(keys) == 3 and comparing._rollouts_key(config) in keys


def test_only_the_frames_that_are_asked_for_are_encoded(rollouts, tmp_path) -> None:
    subject, read = untrained(rollouts, tmp_path), []
    subject.encoder.register_forward_hook(lambda module, clips, features: read.append(len(features)))
    frames = torch.tensor([0, 5, 7]), torch.tensor([6, 0, 3])
    alone = subject.features_at(rollouts, *frames)
    assert sum(read) == 3
    every = subject.features(rollouts)
    assert every.shape[:2] == (8, 7) and sum(read) == 3 + 8 * 7
    torch.testing.assert_close(every[frames].float(), alone, rtol=1e-2, atol=1e-3)  # float16, in other batches
    assert len({tuple(row) for row in alone.tolist()}) == 3
    assert torch.equal(subject.features_at(rollouts, *frames), every[frames].float()) and sum(read) == 3 + 8 * 7


def test_rollouts_hold_what_was_asked_for(rollouts) -> None:
    assert len(rollouts) == 8 and rollouts.steps == 6
    assert [len(part) for part in rollouts.pick(rollouts.episode % 4 < 2).split(0.25)] == [2, 2]  # never none
    assert rollouts.facts.policies == ("random", "noise") and len(rollouts.facts.returns) == 2
    assert rollouts.policy.tolist() == [0] * 4 + [1] * 4
    train, test = rollouts.split(0.25)
    assert test.episode.tolist() == [3, 7] and len(train) == 6
    assert rollouts.in_view.all()  # the camera sees all of the table
    names, values = rollouts.targets()
    assert names[:4] == ["cos position[0]", "sin position[0]", "cos position[1]", "sin position[1]"]
    torch.testing.assert_close(values[..., 1], rollouts.qpos[..., 0].sin())
    assert values.shape[-1] == len(names) == len(rollouts.facts.state_names) + 2
    assert (rollouts.geom_xpos[1:] != rollouts.geom_xpos[:-1]).flatten(1).any(1).all()  # other targets


def test_clips_and_batches_stay_inside_their_episode(rollouts) -> None:
    clips = rollouts.clips(torch.tensor([2, 2]), torch.tensor([0, 5]), frames=3, ahead=1)
    assert torch.equal(clips[0], rollouts.pixels[2, [0, 0, 0, 1]])
    assert torch.equal(clips[1], rollouts.pixels[2, [3, 4, 5, 6]])
    frames, action, reward, behaviour = rollouts.sample(16, steps=2, frames=3)
    assert frames.shape == (16, 5, 3, 64, 64) and behaviour.shape == (16,)
    for one, acted, gained in zip(frames, action, reward, strict=True):
        found = [
            (e, t)
            for e in range(8)
            for t in range(5)
            if torch.equal(rollouts.action[e, t : t + 2], acted) and torch.equal(rollouts.reward[e, t : t + 2], gained)
        ]
        ((e, t),) = found
        assert torch.equal(one[2:], rollouts.pixels[e, t : t + 3])


def test_files_that_hold_no_rollouts_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scripts/rollouts\.py"):
        Rollouts.load(tmp_path / "none.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"not much")
    with pytest.raises(ValueError, match="holds no rollouts"):
        Rollouts.load(tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="held_out between 0 and 1"):
        RolloutConfig(held_out=1.0)


def row(encoder: str, score: float, **others: object) -> dict:
    known = {"task": "cartpole-swingup", "suite": "state", "probe": "linear", "target": "position[0]"}
    return {"encoder": encoder, "score": score} | known | others


def test_scores_stand_side_by_side(capsys) -> None:
    print_comparison([row("vjepa", 0.913, low=0.9, high=0.92), row("random", -0.5), row("vjepa", 0.25, target="mean")])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.strip().splitlines()]
    assert lines == [
        "task suite probe target vjepa random",
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
