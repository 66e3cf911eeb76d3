"""The phases of an encoder in a run: what is fitted, what is stored, and whose losses reach it."""

from pathlib import Path

import pytest
import torch

from mindreel.agents.collector import Collector
from mindreel.agents.mpc import MPCAgent, MPCConfig
from mindreel.agents.replay import Replay
from mindreel.agents.replay_clips import encode_batch
from mindreel.agents.trainer import LoopConfig, Trainer
from mindreel.encoders import CNNConfig, InternVideo2Config, VICRegConfig, VideoMAEConfig, VJEPAConfig, make_encoder
from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.encoders.objectives.sentences import SENTENCE_DIM
from mindreel.encoders.pretrainer import PretrainConfig, Pretrainer
from mindreel.envs import RenderConfig, WarpEnv, make_env
from mindreel.world_model import LatentModel
from mindreel.world_model.latent_model import LatentModelXS

SIDE, WORLDS = 40, 4
VIT = ViTConfig(image_size=SIDE, frames=2, tubelet=2, patch=8, dim=24, depth=1, heads=2)


@pytest.fixture(scope="module")
def env() -> WarpEnv:
    render = RenderConfig(width=SIDE, height=SIDE)
    observations = ("pixels", "state", "behaviour")
    return make_env("cartpole-swingup", WORLDS, seed=3, render=render, observations=observations)


def fitted(env: WarpEnv, config) -> Trainer:
    """A run after forty decisions of noise, its encoder fitted to them."""
    torch.manual_seed(0)
    encoder = make_encoder(config, env.action_dim, len(env.state_names)).eval()
    pretrainer = Pretrainer(PretrainConfig(batch_size=8, future_steps=3), encoder) if encoder.has_objective else None
    collector = Collector(env, encoder, Replay(400, WORLDS), store_latents=not encoder.trained_by_agent)
    model = LatentModel(LatentModelXS(), encoder.feature_dim, env.action_dim)
    found = Trainer(LoopConfig(), collector, MPCAgent(MPCConfig(), model, 0.99), pretrainer, Path(), lambda row: None)
    for _ in range(40):
        collector.step(None, 1.0, found.encoder_id)
    found.encoder_phases.fit()
    return found


def test_features_in_replay_are_those_of_the_readout_fitted_last(env):
    found = fitted(env, VideoMAEConfig(vit=VIT, embedding_dim=6))
    assert found.encoder.mean_frame.std() > 0
    first = found.encoder.identity()
    with torch.no_grad():
        found.encoder.vit.norm.weight[:12] = 2.0  # as if it had been trained
    found.refit_and_reencode()
    assert found.encoder_id == found.encoder.identity() == found.replay.encoder_id != first
    batch = found.replay.sample(64, 1, ("latent",), 2)
    features = found.encoder(batch["frames"][:, :2])
    torch.testing.assert_close(batch["latent"][:, 0].float(), features, atol=2e-2, rtol=1e-2)
    torch.testing.assert_close(features.std(0), torch.ones(6), atol=0.5, rtol=0)
    torch.testing.assert_close(found.collector.worker.features, found.encoder(found.collector.worker.clip_encoder.clip))


def test_the_objective_gets_the_behaviour_of_the_newest_frame(env):
    found = fitted(env, VideoMAEConfig(vit=VIT, embedding_dim=6))
    rows = found.replay._data
    rows["behaviour"].copy_(torch.arange(len(rows)))  # each row its own
    frames, action, reward, behaviour = found.encoder_phases.sample()
    assert frames.shape == (8, 5, 3, SIDE, SIDE) and frames.dtype == torch.uint8
    assert action.shape == (8, 3, 1) and reward.shape == (8, 3)
    assert behaviour.shape == (8,) and behaviour.dtype == torch.int64
    for newest, row in zip(frames[:, 1], behaviour, strict=True):
        assert torch.equal(rows["pixels"][row], newest)
    assert not torch.equal(frames[:, 1], frames[:, 2])


@pytest.mark.parametrize(
    ("config", "own"),
    [
        (VICRegConfig(vit=VIT, embedding_dim=6, training_mode="finetune"), False),
        (VICRegConfig(vit=VIT, embedding_dim=6, training_mode="cotrain"), True),
        (CNNConfig(image_size=SIDE, frames=2), False),
    ],
)
def test_whose_losses_reach_it(env, config, own):
    found = fitted(env, config)
    features, extra, batch = encode_batch(found.encoder, found.clips, 8, 3)
    assert features.shape == (8, 4, found.encoder.feature_dim) and batch["action"].shape == (8, 3, 1)
    assert not found.encoder.training and not found.collector.store_latents
    parameter = next(found.encoder.parameters())
    for part, reaches in ((features[:, 0], True), (features[:, 1:], False)):
        (gradient,) = torch.autograd.grad(part.square().sum(), parameter, retain_graph=True)
        assert gradient.any() == reaches
    assert (extra is not None) == own
    if extra is not None:
        (reached,) = torch.autograd.grad(extra, parameter)
        assert reached.any()


def test_a_frozen_cnn_is_stored_and_stays(env):
    found = fitted(env, CNNConfig(image_size=SIDE, frames=2, training_mode="frozen"))
    assert not found.encoder.trained_by_agent and not any(p.requires_grad for p in found.encoder.parameters())
    found.refit_and_reencode()
    batch = found.replay.sample(16, 1, ("latent",), 2)
    features = found.encoder(batch["frames"][:, :2])
    torch.testing.assert_close(batch["latent"][:, 0].float(), features, atol=2e-2, rtol=1e-2)
    with pytest.raises(ValueError, match="training_mode=cotrain: expected one of frozen, finetune"):
        make_encoder(CNNConfig(training_mode="cotrain"), 1, 0)


def spread_of_latents(env: WarpEnv, normalised: bool, lr_scale: float) -> float:
    """Standard deviation of the latents of many pictures after twenty updates through a convolutional network."""
    found = fitted(env, CNNConfig(image_size=SIDE, frames=2))
    encoder = found.encoder
    if not normalised:  # [-0.5, 0.5], as TD-MPC2 has it
        encoder.mean_frame.fill_(127.5)
        encoder.pixel_std.fill_(255.0)
    model = LatentModel(LatentModelXS(), encoder.feature_dim, env.action_dim)
    config = MPCConfig(lr=1e-3, trained_encoder_lr_scale=lr_scale)
    agent = MPCAgent(config, model, 0.99, list(encoder.parameters()))
    for _ in range(20):
        features, _, batch = encode_batch(found.encoder, found.clips, 32, config.horizon)
        agent.update(features, batch["action"], batch["reward"], batch["terminated"])
    with torch.no_grad():
        return model.encode(encode_batch(found.encoder, found.clips, 64, 1)[0][:, 0]).std(0).mean().item()


def test_latents_of_a_convolutional_network_do_not_collapse(env):
    """Measured: 0.03 with both, 0.005 without the one or the other."""
    kept = spread_of_latents(env, normalised=True, lr_scale=0.1)
    assert kept > 0.015
    assert kept > 2.5 * spread_of_latents(env, normalised=False, lr_scale=0.1)
    assert kept > 2.5 * spread_of_latents(env, normalised=True, lr_scale=1.0)


def test_a_cnn_moves_frames_only_while_it_learns(env):
    found = fitted(env, CNNConfig(image_size=SIDE, frames=2))
    encoder = found.encoder
    clips = found.replay.sample(8, 1, (), 2)["frames"][:, :2]
    torch.testing.assert_close(encoder.normalise(clips).std(), torch.tensor(1.0), atol=0.3, rtol=0)
    torch.testing.assert_close(encoder(clips), encoder.net(encoder.normalise(clips).flatten(1, 2)).flatten(1))
    still = encoder(clips)
    encoder.train()
    assert not torch.allclose(encoder(clips), still, atol=1e-4)
    encoder.random_shift = 0
    torch.testing.assert_close(encoder(clips), still)
    with pytest.raises(ValueError, match="random_shift must be 0 or more, got -1"):
        make_encoder(CNNConfig(random_shift=-1), 1, 0)


def test_beside_an_agent_the_last_stage_goes_on_and_a_teacher_keeps_its_share(env):
    stages = {"stage1_fraction": 0.6, "stage2_fraction": 0.2, "training_mode": "cotrain"}
    found = fitted(env, InternVideo2Config(vit=VIT, embedding_dim=6, **stages))
    found.encoder.text.sentences = torch.eye(len(env.behaviours), SENTENCE_DIM)
    found.replay._data["behaviour"].zero_()
    for progress in (0.0, 1.0):  # without pretraining, and after it
        found.encoder.update_teacher(progress)
        _, extra, _ = encode_batch(found.encoder, found.clips, 8, 3)
        (gradient,) = torch.autograd.grad(extra, found.encoder.text.classifier.weight)
        assert gradient.any()  # the behaviours are told
    found = fitted(env, VJEPAConfig(vit=VIT, embedding_dim=6, training_mode="cotrain", ema_start=0.5, ema_end=0.7))
    before = found.encoder.teacher.norm.weight.clone()
    with torch.no_grad():
        found.encoder.vit.norm.weight += 1.0
    encode_batch(found.encoder, found.clips, 8, 3)
    torch.testing.assert_close(found.encoder.teacher.norm.weight, before + 0.4)


def test_a_replay_in_which_no_sentence_holds_is_named(env):
    found = fitted(env, InternVideo2Config(vit=VIT, embedding_dim=6))
    behaviour = found.replay._data["behaviour"]
    behaviour.fill_(-1)
    with pytest.raises(ValueError, match="learns from sentences, and none describes any frame"):
        found.encoder_phases.fit()
    behaviour[5] = 0  # in one frame of hundreds: most batches have none
    found.encoder_phases.fit()
