"""`import mindreel`: the README's example, and what a notebook gets of a run."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mindreel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, call_script: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("api") / "demo"
    settings = ("preset=smoke", "loop.updates=20", "decoder_steps=20", "probe.rows=200", f"run={folder}")
    assert call_script("train", *settings) == 0
    return folder


def test_the_example_of_the_readme_runs(run: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict = {}
    exec(example.replace('"runs/demo"', repr(str(run))), names)
    assert names["action"].shape == (4, 1) and names["action"].abs().max() <= 1
    assert names["future"]["reward"].shape == (4, 12) and names["future"]["value"].shape == (4, 13)
    assert names["frames"].shape == (4, 13, 3, 64, 64) and names["frames"].dtype == torch.uint8


def test_a_loaded_agent_acts_as_the_run_evaluates(run: Path) -> None:
    agent = mindreel.load(run)
    env = mindreel.make_env("cartpole-swingup", agent.config.env, seed=3)
    root = env.reset()
    features = []
    agent.parts.encoder.register_forward_hook(lambda module, given, result: features.append(given[0]))
    for step in range(6):
        root["action"] = agent.act(root)
        _, root = env.step_and_maybe_reset(root)
        assert features[-1].shape == (len(root), 4, 3, 64, 64)
        if step:  # the newest frames of the clip before are the older ones of this clip
            assert torch.equal(features[-1][:, :-1], features[-2][:, 1:])
    assert torch.equal(features[0][:, 0], features[0][:, -1])  # an episode's first frame stands for those before it


def test_imagining_follows_the_model_step_by_step(run: Path) -> None:
    agent, model = mindreel.load(run), None
    model = agent.parts.agent.model
    root = mindreel.make_env("cartpole-swingup", num_envs=2).reset()
    actions = torch.tensor([[[0.5], [-1.0]], [[0.0], [0.25]]])
    future = agent.imagine(root, actions)
    z = future["latent"][:, 0]
    with torch.no_grad():
        torch.testing.assert_close(z[0], agent.encode(root["pixels"][:1].permute(0, 2, 3, 1))[0])
        for t in range(2):
            torch.testing.assert_close(future["reward"][:, t], model.reward(z, actions[:, t]))
            z = model.next(z, actions[:, t])
            torch.testing.assert_close(future["latent"][:, t + 1], z)


def test_an_encoder_reads_any_video_and_looks_at_no_later_frame(run: Path) -> None:
    encode = mindreel.load_encoder(run)
    video = np.random.default_rng(0).integers(256, size=(9, 48, 96, 3), dtype=np.uint8)
    features = encode(video)
    assert features.shape == (9, encode.encoder.feature_dim)
    changed = video.copy()
    changed[6:] = 0
    torch.testing.assert_close(encode(changed)[:6], features[:6])
    assert not torch.equal(encode(changed)[6:], features[6:])


def test_mistakes_are_named(run: Path, tmp_path: Path) -> None:
    agent = mindreel.load(run)
    observation = mindreel.make_env("cartpole-swingup", num_envs=2, observations=("state",)).reset()
    with pytest.raises(ValueError, match="reads pixels"):
        agent.act(observation)
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\), got torch.float32"):
        agent.encode(torch.zeros(2, 64, 64, 3))
    seen = mindreel.make_env("cartpole-swingup", num_envs=2).reset()
    with pytest.raises(ValueError, match=r"Expected actions \(2, T, 1\), got \(2, 1\)"):
        agent.imagine(seen, torch.zeros(2, 1))
    with pytest.raises(FileNotFoundError, match="no run at"):
        mindreel.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        mindreel.load_encoder(tmp_path / "nothing")
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        _ = mindreel.loda  # type: ignore[attr-defined]
