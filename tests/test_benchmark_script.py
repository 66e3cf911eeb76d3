"""The speed of worlds and encoders: what its figures contain, and what is measured."""

import time
from pathlib import Path

import pytest
import torch
from dm_control.suite import pendulum as reference

from mindreel import cli
from mindreel.agents.checkpoint import save_checkpoint
from mindreel.benchmarks import env_rates as benchmark_env
from mindreel.benchmarks.encoder_rates import encoder_rows
from mindreel.benchmarks.env_rates import env_rows, estimate, whole_episode
from mindreel.encoders import make_encoder
from mindreel.envs import TASKS
from mindreel.envs.backends.dm_control import DMControlEnv
from mindreel.envs.tasks.pendulum import Pendulum
from mindreel.run_config import GROUPS, RunConfig

pytestmark = pytest.mark.timeout(600)  # the first of them may have to compile kernels

CPU = torch.device("cpu")
SLOW, DECISIONS = 0.1, 5  # seconds that a reset takes, decisions of an episode
SETTINGS = ("task=pendulum-swingup", "env.render.height=16", "env.render.width=16", f"env.time_limit={DECISIONS}")


def rates(rows: list[dict], backend: str) -> dict[str, float]:
    return {row["what"]: row["frames_per_s"] for row in rows if row["backend"] == backend}


def test_both_with_reset_holds_its_share_of_resets_on_both_sides(monkeypatch):
    class Slow(Pendulum):
        def reset(self, *args) -> None:
            time.sleep(SLOW)
            super().reset(*args)

    initialize = reference.SwingUp.initialize_episode

    def slow(self, physics) -> None:
        time.sleep(SLOW)
        initialize(self, physics)

    monkeypatch.setitem(TASKS, "pendulum-swingup", Slow)
    monkeypatch.setattr(reference.SwingUp, "initialize_episode", slow)
    config = cli.compose(RunConfig, GROUPS, SETTINGS)
    rows = env_rows(config, (2,), 0.01, CPU)
    ours, theirs = rates(rows, "warp"), rates(rows, "dm_control")
    assert 0 < ours["both with reset"] <= 2 * DECISIONS / SLOW < ours["physics"]
    assert theirs["physics"] > DECISIONS / SLOW  # no reset in it
    assert 0 < theirs.get("both with reset", 1) <= DECISIONS / SLOW  # absent without a GL library
    assert all(row["compile_s"] >= 0 for row in rows if row["backend"] == "warp")


def test_mean_decision_of_an_episode():
    assert whole_episode(ordinary=2.0, last=7.0, decisions=5) == pytest.approx((4 * 2 + 7) / 5)
    assert whole_episode(ordinary=2.0, last=7.0, decisions=1) == 7
    assert whole_episode(2.0, 7.0, DMControlEnv("lqr-lqr_2_1").episode_steps) == 2  # never ends


def test_memory_grows_as_between_two_sizes_and_what_worlds_share_counts_once():
    assert estimate({64: 100.0, 128: 164.0}, 512) == pytest.approx(164 + 384)
    assert estimate({64: 100.0, 128: 164.0, 256: 196.0}, 512) == pytest.approx(196 + 256 * 32 / 128)
    assert estimate({64: 100.0, 128: 90.0}, 4096) == 90  # of pages that were free already


@pytest.mark.parametrize(("free", "measured"), [(2_000.0, {1, 512}), (-1.0, {1})])
def test_a_size_that_fits_is_measured_and_one_that_does_not_is_left_out(monkeypatch, capsys, free, measured):
    monkeypatch.setattr(benchmark_env, "memory_free", lambda device: free)
    rows = env_rows(cli.compose(RunConfig, GROUPS, SETTINGS), (1, 512), 0.0, CPU)
    assert {row["worlds"] for row in rows if row["backend"] == "warp"} == measured
    assert ("they are left out" in capsys.readouterr().out) == (512 not in measured)


def test_an_encoder_is_measured_with_the_teacher_of_another_run(tmp_path: Path) -> None:
    small = [f"encoder.{field}" for field in ("vit.image_size=32", "vit.dim=16", "vit.depth=1", "vit.heads=2")]
    teacher = cli.compose(RunConfig, GROUPS, ["encoder=untrained", *small])
    (tmp_path / "checkpoints").mkdir()
    cli.save(teacher, GROUPS, tmp_path / "config.yaml")
    weights = make_encoder(teacher.encoder, 2, 2).state_dict()
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", {"encoder": weights})
    taught = ["encoder=internvideo2", f"encoder.teacher={tmp_path}", "encoder.stage1_fraction=1.0"]
    others = ["encoder.stage2_fraction=0.0", "pretrain.batch_size=2", "encoder_from=a/run/that/speed/does/not/need"]
    rows = encoder_rows(cli.compose(RunConfig, GROUPS, [*taught, *small, *others]), 0.01, CPU)
    rates = {row["what"]: row["clips_per_s"] for row in rows if row["engine"] == "Mindreel internvideo2"}
    assert rates.keys() == {"pretraining", "encoding"} and min(rates.values()) > 0
