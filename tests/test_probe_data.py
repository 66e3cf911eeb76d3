"""Rollouts in a file, and an encoder that is probed on them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mindreel import cli
from mindreel.encoders import UntrainedEncoder, make_encoder
from mindreel.pretraining.dataset_encoder import pretrained
from mindreel.probing import compare as comparing
from mindreel.probing import probe_data as probed
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.settings import CompareConfig
from mindreel.probing.suites import SUITES, retrieval, state
from mindreel.rollouts.dataset import RolloutConfig, Rollouts
from mindreel.run_config import GROUPS

pytestmark = pytest.mark.timeout(600)

SMALL = (
    "pretrain.steps=3",
    "pretrain.batch_size=8",
    "pretrain.min_effective_rank=1.0",
    "probe.rows=120",
    "probe.held_out_rows=60",
    "probe.steps=4",
    "probe.batch_size=16",
    "probe.resamples=20",
)


@pytest.fixture(scope="module")
def rollouts(call_script, tmp_path_factory) -> Rollouts:
    file = tmp_path_factory.mktemp("rollouts") / "reacher.safetensors"
    few = ("rollouts.policies=[random,noise]", "rollouts.episodes=4", "rollouts.decisions=6")
    assert call_script("rollouts", "task=reacher-easy", f"out={file}", *few) == 0
    assert call_script("rollouts", "task=reacher-easy", f"out={file}", *few) == 2  # never overwritten
    return Rollouts.load(file)


def test_rollouts_are_of_the_worlds_that_the_config_describes(call_script, capsys, tmp_path) -> None:
    few = ("task=reacher-easy", "rollouts.policies=[random]", "rollouts.episodes=4", "rollouts.decisions=2")
    file = tmp_path / "coloured.safetensors"
    assert call_script("rollouts", *few, f"out={file}", "env.randomize.colors=0.5") == 0
    corners = Rollouts.load(file).pixels[:, 0, :, 0, 0]  # (E, 3): the table, at the edge of the first picture
    assert len(corners.unique(dim=0)) == 4, "each world should have its own colour"
    assert call_script("rollouts", *few, f"out={tmp_path / 'b'}", "env.backend=dm_control") == 2
    assert "needs the worlds of env.backend=warp" in capsys.readouterr().err


BALL = """<mujoco><option gravity="0 0 0"/><worldbody><camera pos="0 -3 0" xyaxes="1 0 0 0 0 1"/>
<body><joint name="slide" type="slide"/><geom size=".1"/></body></worldbody>
<actuator><motor joint="slide" gear="0.01" ctrlrange="-1 1"/></actuator></mujoco>"""
ENDING = """
XML = "ball.xml"
CONTROL_TIMESTEP = 0.02
def reset(sim, mask, generator): sim.qvel[:, 0] = 1.0 + sim.qvel.new_tensor(range(len(mask)))
def reward(sim): return sim.qpos[:, 0]
def terminated(sim): return sim.qpos[:, 0] > LIMIT
"""


def test_episodes_that_end_before_their_time_are_counted(call_script, capsys, tmp_path) -> None:
    """Eight balls of speeds 1 to 8 run until they are too far away, or until twenty decisions are over."""
    few = ("rollouts.policies=[random]", "rollouts.episodes=8", "rollouts.decisions=20", "env.action_repeat=1")
    (tmp_path / "ball.xml").write_text(BALL)
    step = 20 * 0.02
    for limit, status in ((4.5 * step, 0), (0.5 * step, 2)):
        task, file = tmp_path / f"ball_{status}.py", tmp_path / f"{status}.safetensors"
        task.write_text(ENDING.replace("LIMIT", str(limit)))
        assert call_script("rollouts", f"task={task}", f"out={file}", *few) == status
        said = capsys.readouterr()
        assert "episodes by random ended before" in (said.err if status else said.out), said
        assert file.exists() == (status == 0)
    assert len(Rollouts.load(tmp_path / "0.safetensors")) == 4


def test_text_is_not_learned_from_rollouts_without_any(rollouts, tmp_path) -> None:
    silent = replace(rollouts, behaviour=torch.full_like(rollouts.behaviour, -1))
    config = cli.compose(CompareConfig, GROUPS, [*SMALL, "task=reacher-easy", "encoder=internvideo"])
    with pytest.raises(ValueError, match="encoder=internvideo learns from sentences, and none describes any"):
        pretrained(config, silent, tmp_path / "encoder.pt")
    pretrained(config, rollouts, tmp_path / "encoder.pt")


def untrained(rollouts: Rollouts, folder: Path, others: dict | None = None) -> ProbeData:
    """The untrained network, learning from the episodes that it is scored on."""
    config = cli.compose(CompareConfig, GROUPS, ["task=reacher-easy", "encoder=untrained", *SMALL])
    encoder = make_encoder(config.encoder, 2, 1).eval()
    encoder.fit_readout(rollouts.sample(40, 1, encoder.clip_frames)[0][:, :-1])
    common = {"in_view": True, "movies": 0, "device": torch.device("cpu"), "folder": folder, "env": config.env}
    return ProbeData(encoder, "reacher-easy", rollouts, rollouts, others or {}, config.probe, **common)


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


def test_large_tokens_are_not_cut_off_at_the_end_of_half_precision(rollouts, tmp_path) -> None:
    data = untrained(rollouts, tmp_path)
    assert isinstance(data.encoder, UntrainedEncoder)
    small = [part.tokens for part in data.drawn(lambda rollouts: None)]
    with torch.no_grad():
        data.encoder.vit.norm.weight.mul_(1e6)
        data.encoder.vit.norm.bias.mul_(1e6)
    large = [part.tokens for part in data.drawn(lambda rollouts: None)]
    for before, after in zip(small, large, strict=True):
        assert before.dtype == torch.float16 and after.dtype == torch.float32 and after.abs().max() > 65_504
        torch.testing.assert_close(after / 1e6, before.float(), rtol=1e-2, atol=1e-3)
    assert all(math.isfinite(row["score"]) for row in state(data))


def test_scores_are_kept_for_the_other_tasks_rollouts_that_they_are_of(rollouts, monkeypatch, tmp_path) -> None:
    data, asked = untrained(rollouts, tmp_path), []
    monkeypatch.setitem(SUITES, "recognition", lambda data: asked.append(1) or [])
    config = cli.compose(CompareConfig, GROUPS, [])
    for key in ("0123abcd", "4567cdef", "0123abcd"):
        comparing.suite_rows(config, "recognition", data, {"reacher-hard": key})
    assert len(asked) == 2


def test_only_the_frames_that_are_asked_for_are_encoded(rollouts, tmp_path) -> None:
    data, read = untrained(rollouts, tmp_path), []
    data.encoder.register_forward_hook(lambda module, clips, features: read.append(len(features)))
    frames = torch.tensor([0, 5, 7]), torch.tensor([6, 0, 3])
    alone = data.features_at(rollouts, *frames)
    assert sum(read) == 3
    every = data.features(rollouts)
    assert every.shape[:2] == (8, 7) and sum(read) == 3 + 8 * 7
    torch.testing.assert_close(every[frames].float(), alone, rtol=1e-2, atol=1e-3)  # float16, in other batches
    assert len({tuple(row) for row in alone.tolist()}) == 3
    assert torch.equal(data.features_at(rollouts, *frames), every[frames].float()) and sum(read) == 3 + 8 * 7


def test_rollouts_hold_what_was_asked_for(rollouts) -> None:
    assert len(rollouts) == 8 and rollouts.steps == 6
    assert [len(part) for part in rollouts.pick(rollouts.episode % 4 < 2).split(0.25)] == [2, 2]  # never none
    assert rollouts.metadata.policies == ("random", "noise") and len(rollouts.metadata.returns) == 2
    assert rollouts.policy.tolist() == [0] * 4 + [1] * 4
    train, test = rollouts.split(0.25)
    assert test.episode.tolist() == [3, 7] and len(train) == 6
    assert rollouts.in_view.all()  # the camera sees all of the table
    names, values = rollouts.targets()
    assert names[:4] == ["cos position[0]", "sin position[0]", "cos position[1]", "sin position[1]"]
    torch.testing.assert_close(values[..., 1], rollouts.qpos[..., 0].sin())
    assert values.shape[-1] == len(names) == len(rollouts.metadata.state_names) + 2
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
    with pytest.raises(ValueError, match=r"held_out=0\.9 of rollouts\.episodes=2 leaves no episode to learn from"):
        RolloutConfig(episodes=2, held_out=0.9)
    RolloutConfig(episodes=3, held_out=0.8)
