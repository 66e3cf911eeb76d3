"""The time rule in replay with real worlds, and clips that never show what is yet to come."""

import pytest
import torch
from tensordict import TensorDict

from mindreel.agents.collector import Collector
from mindreel.agents.replay import Replay
from mindreel.agents.rollout_worker import ClipEncoder, action_range, evaluate
from mindreel.encoders import StateConfig, VJEPAConfig, make_encoder
from mindreel.encoders.backbone.vit import ViTConfig
from mindreel.envs import RenderConfig, WarpEnv, make_env

WORLDS, SIDE, DECISIONS = 2, 32, 12
VIT = ViTConfig(image_size=SIDE, frames=3, tubelet=3, patch=8, dim=24, depth=1, heads=2)


def worlds(seed: int = 3) -> WarpEnv:
    env = make_env("cartpole-swingup", WORLDS, seed=seed, render=RenderConfig(width=SIDE, height=SIDE))
    env.episode_steps = 5  # episodes end within the test
    return env


def video_encoder():
    torch.manual_seed(0)
    config = VJEPAConfig(
        vit=VIT,
        readout="embedding",
        embedding_dim=16,
        token_channels=4,
        predictor_dim=24,
        training_mode="frozen",
    )
    return make_encoder(config, 1, 5).eval()


@pytest.fixture(scope="module")
def collected():
    """A collector after some decisions, and its encoder."""
    torch.manual_seed(0)
    encoder = video_encoder()
    collector = Collector(worlds(), encoder, Replay(100, WORLDS), store_latents=True)
    for _ in range(DECISIONS):
        collector.step(None, 1.0, encoder.identity())
    return collector, encoder


def rows(collector: Collector, world: int) -> TensorDict:
    replay = collector.replay
    start = world * replay.rows
    return replay._data[start : start + int(replay._written[world])]


def test_rows_hold_what_a_second_environment_gives(collected):
    """Row t: the observation that action[t] answered, and the reward that followed; then its successor."""
    collector, _ = collected
    data = [rows(collector, world) for world in range(WORLDS)]
    env = worlds()
    root = env.reset()
    at = 0
    for step in range(DECISIONS):
        for key in ("pixels", "state"):
            for world in range(WORLDS):
                assert torch.equal(data[world][key][at], root[key][world]), (step, key)
        root["action"] = torch.stack([data[world]["action"][at] for world in range(WORLDS)])
        stepped, root = env.step_and_maybe_reset(root)
        after = stepped["next"]
        for world in range(WORLDS):
            assert data[world]["reward"][at] == after["reward"][world, 0]
            assert not data[world]["terminated"][at]  # time cuts off: no termination
        at += 1
        if after["done"].all():  # the observation that ends the episode has a row of its own
            for key in ("pixels", "state"):
                for world in range(WORLDS):
                    assert torch.equal(data[world][key][at], after[key][world])
                    assert not torch.equal(data[world][key][at], root[key][world])
            at += 1
    assert at == len(data[0]) == DECISIONS + DECISIONS // 5
    assert (data[0]["action"].abs() > 0.05).float().mean() > 0.5  # something was done


def test_stored_latents_are_those_of_their_clips(collected):
    """Re-encoding replay's clips gives the features that were acted on, final observations included."""
    collector, encoder = collected
    before = collector.replay._data["latent"].clone()
    collector.replay.reencode(encoder, encoder.identity())
    after = collector.replay._data["latent"]
    for world in range(WORLDS):
        start = world * collector.replay.rows
        filled = slice(start, start + int(collector.replay._written[world]))
        torch.testing.assert_close(after[filled], before[filled], atol=2e-3, rtol=1e-2)
        assert before[filled].float().std(0).max() > 1e-3


def test_collection_continues_where_it_was_saved(collected):
    """A second collector, restored, does and stores the same."""
    collector, encoder = collected
    other = Collector(worlds(seed=9), encoder, Replay(100, WORLDS), store_latents=True)
    other.load_state_dict(collector.state_dict())
    other.replay.load_state_dict(collector.replay.state_dict())
    for each in (collector, other):
        torch.manual_seed(4)
        for _ in range(4):
            each.step(None, 1.0, encoder.identity())
    for world in range(WORLDS):
        one, two = rows(collector, world), rows(other, world)
        for key in ("pixels", "state", "action", "reward", "episode", "latent"):
            assert torch.equal(one[key], two[key]), key


def frames(count: int) -> list[TensorDict]:
    pixels = torch.randint(256, (count, WORLDS, 3, SIDE, SIDE), dtype=torch.uint8)
    return [TensorDict({"pixels": p}, batch_size=[WORLDS]) for p in pixels]


def test_later_frames_move_no_latent():
    encoder, new, old = (
        video_encoder(),
        torch.ones(WORLDS, dtype=torch.bool),
        torch.zeros(WORLDS, dtype=torch.bool),
    )
    one, two = frames(8), frames(8)
    two[:5] = one[:5]  # the same up to frame 4, another future
    seen = []
    for observations in (one, two):
        clips = ClipEncoder(encoder)
        seen.append(torch.stack([clips.encode_next(o, new if t == 0 else old) for t, o in enumerate(observations)]))
    assert torch.equal(seen[0][:5], seen[1][:5])
    for t in range(5, 8):
        assert not torch.equal(seen[0][t], seen[1][t])
    assert not torch.equal(seen[0][4], encoder(one[4]["pixels"][:, None].expand(-1, 3, -1, -1, -1)))  # it has a past


def test_an_episode_starts_with_a_clip_of_its_first_frame():
    encoder, observations = video_encoder(), frames(4)
    clips = ClipEncoder(encoder)
    still = [encoder(o["pixels"][:, None].expand(-1, 3, -1, -1, -1)) for o in observations]
    none, second = torch.tensor([False, False]), torch.tensor([False, True])
    torch.testing.assert_close(clips.encode_next(observations[0], none), still[0])  # nothing came before
    clips.encode_next(observations[1], none)
    final = clips.encode_final(observations[2])
    features = clips.encode_next(observations[2], second)
    torch.testing.assert_close(features[1], still[2][1])
    assert not torch.allclose(features[0], still[2][0])
    torch.testing.assert_close(features[0], final[0])  # the same where no episode begins
    past = torch.stack([o["pixels"] for o in observations[:3]], 1)
    torch.testing.assert_close(final, encoder(past))


def test_a_policy_sees_the_present_and_where_episodes_start():
    env = make_env("cartpole-swingup", WORLDS, observations=("state",), seed=1)
    env.episode_steps = 3
    encoder = make_encoder(StateConfig(), 1, 5)
    collector = Collector(env, encoder, Replay(100, WORLDS), store_latents=True)
    seen = []

    def policy(features: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        seen.append((features.clone(), bool(first.all())))
        return torch.full((WORLDS, 1), 0.5)

    returns = [collector.step(policy, 0.0, "state") for _ in range(7)]
    assert [len(r) for r in returns] == [0, 0, 2, 0, 0, 2, 0]
    assert [first for _, first in seen] == [True, False, False, True, False, False, True]
    data = rows(collector, 0)
    assert torch.equal(data["action"][[0, 1, 2, 4, 5, 6, 8]], torch.full((7, 1), 0.5))
    assert torch.equal(torch.stack([f[0] for f, _ in seen]), data["state"][[0, 1, 2, 4, 5, 6, 8]])
    assert returns[2][0] == pytest.approx(float(data["reward"][:3].sum()), abs=1e-5)


def test_evaluation_plays_one_episode_in_every_world():
    env = worlds()
    encoder = video_encoder()
    result = evaluate(env, encoder, lambda features, first: torch.full((WORLDS, 1), 1.0))
    assert result["frames"].shape == (6, 3, SIDE, SIDE) and result["actions"].shape == (5, 1)
    clips = torch.stack([result["frames"][t - 2 : t + 1] for t in (2, 3, 4, 5)])  # the last one ends the episode
    torch.testing.assert_close(result["features"][2:], encoder(clips))
    again = worlds()
    root, total = again.reset(), torch.zeros(WORLDS)
    for t in range(5):
        assert torch.equal(result["frames"][t], root["pixels"][0])
        root["action"] = torch.ones(WORLDS, 1)
        stepped, root = again.step_and_maybe_reset(root)
        total += stepped["next", "reward"][:, 0]
    assert torch.equal(result["frames"][5], stepped["next", "pixels"][0])
    torch.testing.assert_close(result["returns"], total)


def test_an_actuator_without_limits_is_used_between_minus_one_and_one():
    middle, half = action_range(make_env("lqr-lqr_2_1", num_envs=2, observations=("state",)))
    assert torch.equal(middle, torch.zeros_like(middle)) and torch.equal(half, torch.ones_like(half))
