"""The examples of docs/architecture.md: an encoder, a task and an agent of one's own."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from mindreel.encoders import ENCODERS, make_encoder
from mindreel.envs import make_env
from mindreel.run_config import GROUPS, RunConfig, choice
from mindreel.world_model import LatentModel, LatentModelConfig

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
ENCODER, TASK, AGENT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def module_of(source: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # dataclasses look their module up
    exec(compile(source, "architecture.md", "exec"), module.__dict__)
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == "builtins":
            value.__module__ = "example"
    return module


def test_the_encoder_becomes_a_choice_and_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(ENCODER, monkeypatch)
    monkeypatch.setitem(ENCODERS, "coarse", (module.CoarseConfig, module.CoarseEncoder))
    monkeypatch.setitem(GROUPS["encoder"], "coarse", module.CoarseConfig)
    config = module.CoarseConfig(side=4)
    assert choice(RunConfig(encoder=config), "encoder") == "coarse"
    encoder = make_encoder(config, 1, 0)
    clips = torch.zeros(2, 3, 3, 64, 64, dtype=torch.uint8)
    clips[1, 2, 0, :16, :16] = 255
    features = encoder(clips)
    assert features.shape == (2, encoder.feature_dim) == (2, 3 * 3 * 16)
    assert (features[0] == -0.5).all()
    assert (features[1] == 0.5).nonzero().flatten().tolist() == [2 * 48]  # the last frame, red, the first of 16 places


def test_the_task_is_played(tmp_path: Path) -> None:
    file = tmp_path / "spin.py"
    file.write_text(TASK)
    env = make_env(str(file), num_envs=3, observations=("state", "behaviour"))
    root = env.reset()
    root["action"] = torch.ones(3, 1)
    after = env.step(root)["next"]
    assert after["reward"].shape == (3, 1) and after["state"].shape == (3, 3)
    assert env.behaviours == ("a pendulum spinning", "a pendulum swinging")


def test_the_agent_takes_the_best_of_its_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(AGENT, monkeypatch)
    model = LatentModel(LatentModelConfig(latent_dim=16, hidden_dim=16, encoder_hidden_dim=16), 5, 2).eval()
    agent = module.BestOfAgent(module.BestOfConfig(proposals=64), model, 0.99, None)
    features, first = torch.randn(4, 5), torch.zeros(4, dtype=torch.bool)
    monkeypatch.setattr(model, "q", lambda z, action: action[:, :1].T.expand(2, -1))  # the larger, the better
    best, explored = agent.act(features, first, False), agent.act(features, first, True)
    assert best.shape == explored.shape == (4, 2)
    assert (best[:, 0] > explored[:, 0]).float().mean() == 1
