"""The training loop's warning of a collapse; the loop as a whole is tested by the scripts and by resuming."""

from pathlib import Path

import pytest
import torch

from mindreel.agents.collector import Collector
from mindreel.agents.mpc import MPCAgent, MPCConfig
from mindreel.agents.planner import PlannerConfig
from mindreel.agents.replay import Replay
from mindreel.agents.trainer import LoopConfig, Trainer
from mindreel.encoders import CNNConfig, make_encoder
from mindreel.envs import RenderConfig, WarpEnv, make_env
from mindreel.world_model import LatentModel
from mindreel.world_model.latent_model import LatentModelXS

SIDE, WORLDS = 40, 4
PLANNER = PlannerConfig(samples=8, policy_samples=4, elites=4, iterations=1)


@pytest.fixture(scope="module")
def env() -> WarpEnv:
    return make_env("cartpole-swingup", WORLDS, seed=3, render=RenderConfig(width=SIDE, height=SIDE))


def rows_of_a_run(env: WarpEnv, path: Path, lr: float) -> list[dict]:
    """What a run of forty updates through a convolutional network logs."""
    torch.manual_seed(0)
    rows = []
    encoder = make_encoder(CNNConfig(image_size=SIDE, frames=2), env.action_dim, 0).eval()
    model = LatentModel(LatentModelXS(), encoder.feature_dim, env.action_dim)
    agent = MPCAgent(MPCConfig(batch_size=32, lr=lr, planner=PLANNER), model, 0.99, list(encoder.parameters()))
    collector = Collector(env, encoder, Replay(600, WORLDS), store_latents=False)
    loop = LoopConfig(seed_decisions=40, updates=40, log_every=20)
    Trainer(loop, collector, agent, None, path, rows.append).run()
    return rows


def test_a_collapse_of_the_latents_is_named_once(env, tmp_path):
    healthy = rows_of_a_run(env, tmp_path / "last.pt", 3e-4)  # warnings are errors here
    assert all(row["latent_std"] > 0.02 for row in healthy) and len(healthy) == 2
    with pytest.warns(UserWarning, match="After 20 updates the latents are nearly the same") as warned:
        collapsed = rows_of_a_run(env, tmp_path / "last.pt", 1e-2)
    assert all(row["latent_std"] < 0.01 for row in collapsed)
    assert len(warned) == 1 and "a lower agent.trained_encoder_lr_scale helps" in str(warned[0].message)
