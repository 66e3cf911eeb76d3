"""Sources of clips: whatever they draw from, they give an encoder the same things."""

import pytest
import torch
from tensordict import TensorDict

from mindreel.agents.protocols import ClipSource
from mindreel.agents.replay import Replay
from mindreel.agents.replay_clips import ReplayClips
from mindreel.pretraining.clip_sources import RolloutClips, SavedReplay
from mindreel.rollouts.dataset import Metadata, Rollouts

EPISODES, STEPS, FRAMES, AHEAD = 3, 9, 4, 2
"""Frame t of episode e shows 20 e + t everywhere; its action is that, its reward twice that."""


def numbers() -> torch.Tensor:
    """What the frames show, (E, T + 1)."""
    return 20 * torch.arange(EPISODES)[:, None] + torch.arange(STEPS + 1)


def pictures(shown: torch.Tensor) -> torch.Tensor:
    return shown[..., None, None, None].expand(*shown.shape, 3, 8, 8).to(torch.uint8)


def replay(behaviour: int) -> Replay:
    found, shown = Replay(100, EPISODES), numbers()

    def observation(t: int) -> TensorDict:
        which = torch.full((EPISODES,), behaviour)
        return TensorDict({"pixels": pictures(shown[:, t]), "behaviour": which}, batch_size=[EPISODES])

    for t in range(STEPS):
        now, last = shown[:, t].float(), torch.full((EPISODES,), t == STEPS - 1)
        found.add(observation(t), now[:, None], 2 * now, torch.zeros_like(last), last, observation(t + 1), "")
    return found


def rollouts(behaviour: int) -> Rollouts:
    shown, nothing = numbers(), torch.zeros(EPISODES, STEPS + 1, 1)
    metadata = Metadata("task", ("noise",), (0.0,), ("x",), (), ("a sentence",), 1)
    return Rollouts(
        metadata,
        pixels=pictures(shown),
        action=shown[:, :-1, None].float(),
        reward=2 * shown[:, :-1].float(),
        state=nothing,
        behaviour=torch.full((EPISODES, STEPS + 1), behaviour),
        policy=torch.zeros(EPISODES, dtype=torch.long),
        episode=torch.arange(EPISODES),
        in_view=nothing[..., 0] == 0,
        qpos=nothing,
        qvel=nothing,
        geom_xpos=torch.zeros(EPISODES, 1, 3),
    )


def source(kind: str, behaviour: int = 0) -> ClipSource:
    if kind == "rollouts":
        return RolloutClips(rollouts(behaviour), FRAMES, AHEAD, torch.device("cpu"))
    found = replay(behaviour)
    if kind == "replay":
        return ReplayClips(found, FRAMES, AHEAD)
    return SavedReplay(found, found.state_dict(), FRAMES, AHEAD, ("a sentence",))


KINDS = pytest.mark.parametrize("kind", ["replay", "saved replay", "rollouts"])


@KINDS
def test_batches_are_clips_with_what_followed_them(kind: str) -> None:
    frames, action, reward, behaviour = source(kind).sample(64)
    assert frames.shape == (64, FRAMES + AHEAD, 3, 8, 8) and frames.dtype == torch.uint8
    assert action.shape == (64, AHEAD, 1) and reward.shape == (64, AHEAD) and behaviour.tolist() == [0] * 64
    shown = frames[:, :, 0, 0, 0].long()
    newest = shown[:, FRAMES - 1]
    begins = newest // 20 * 20
    for place in range(FRAMES + AHEAD):  # the first frame of an episode is repeated before it
        assert torch.equal(shown[:, place], torch.maximum(newest + place - FRAMES + 1, begins))
    assert torch.equal(action[..., 0].long(), torch.stack([newest, newest + 1], 1))
    assert torch.equal(reward, 2 * action[..., 0])
    assert len(newest.unique()) > 10 and (newest % 20).max() <= STEPS - AHEAD


@KINDS
def test_what_encoders_are_fitted_to(kind: str) -> None:
    clips = source(kind)
    frames, reward = clips.pairs(32)
    shown = frames[:, :, 0, 0, 0].long()
    assert frames.shape == (32, 2, 3, 8, 8) and torch.equal(shown[:, 1], shown[:, 0] + 1)
    assert torch.equal(reward, 2.0 * shown[:, 0])
    assert clips.clips(32).shape == (32, FRAMES, 3, 8, 8)


@KINDS
def test_whether_sentences_describe_them(kind: str) -> None:
    assert source(kind).described and not source(kind, -1).described


def test_rows_of_replay_that_were_never_written_describe_nothing() -> None:
    found = replay(-1)
    assert len(found.column("behaviour")) == len(found) == EPISODES * (STEPS + 1)
    assert set(found.keys) >= {"pixels", "behaviour", "action", "reward"}
