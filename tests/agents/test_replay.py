"""Replay: entries carry (world, episode, t), so that what is drawn can be checked against what happened."""

import pytest
import torch
from tensordict import TensorDict

from mindreel.agents.replay import Replay, StaleLatentsError

WORLDS, SIDE = 3, 2


def observation(episode: torch.Tensor, t: torch.Tensor) -> TensorDict:
    """Where each world stands, (B,): written into its latent, and into its picture as one number."""
    world = torch.arange(len(t))
    stamp = torch.stack([world, episode, t], -1)  # (B, 3)
    pixels = torch.stack([world, episode % 256, t], -1).byte()[..., None, None].expand(-1, -1, SIDE, SIDE)
    return TensorDict({"pixels": pixels, "latent": stamp.half(), "stamp": stamp}, batch_size=[len(t)])


def fill(replay: Replay, steps: int, shortest: int = 1, longest: int = 9, seed: int = 0, encoder_id: str = "a") -> None:
    """Episodes of random lengths, each world its own; half of them end with a termination."""
    generator = torch.Generator().manual_seed(seed)

    def lengths() -> torch.Tensor:
        return torch.randint(shortest, longest + 1, (WORLDS,), generator=generator)

    episode, t, length = (
        torch.zeros(WORLDS, dtype=torch.long),
        torch.zeros(WORLDS, dtype=torch.long),
        lengths(),
    )
    for _ in range(steps):
        done = t + 1 >= length
        terminated = done & (episode % 2 == 0)
        action = torch.stack([100 * episode + t, torch.arange(WORLDS)], -1).float()
        reward = (1000 * episode + t).float()
        replay.add(observation(episode, t), action, reward, terminated, done, observation(episode, t + 1), encoder_id)
        episode, t = episode + done, torch.where(done, 0, t + 1)
        length = torch.where(done, lengths(), length)


@pytest.mark.parametrize("steps", [10, 40, 1000])  # not full, just full, wrapped some twenty times
def test_sequences_stay_in_one_episode_of_one_world(steps):
    replay = Replay(150, WORLDS)
    fill(replay, steps)
    for length in (1, 3, 5):
        batch = replay.sample(10_000, length, ("stamp", "latent"))
        stamp = batch["stamp"]
        assert stamp.shape == (10_000, length + 1, 3)
        assert (stamp[..., :2] == stamp[:, :1, :2]).all()  # one world, one episode
        assert (stamp[..., 2] == stamp[:, :1, 2] + torch.arange(length + 1)).all()  # in order
        assert torch.equal(batch["latent"].long(), stamp)
        episode, t = stamp[:, :-1, 1], stamp[:, :-1, 2]
        assert torch.equal(batch["action"][..., 0], (100 * episode + t).float())
        assert torch.equal(batch["action"][..., 1], stamp[:, :-1, 0].float())
        assert torch.equal(batch["reward"], (1000 * episode + t).float())


def test_sequences_come_in_order_if_that_is_asked_for():
    replay = Replay(150, WORLDS)
    fill(replay, 200)  # wrapped
    stamp = replay.sample(500, 1, ("stamp",), in_order=True)["stamp"][:, 0]
    place = stamp[:, 0] * 10**6 + stamp[:, 1] * 10**3 + stamp[:, 2]  # world, episode, time
    assert len(place.unique()) > 100 and (place.diff() >= 0).all()


def test_every_sequence_is_drawn_equally_often():
    replay = Replay(300, WORLDS)
    fill(replay, 400, shortest=2, longest=6)
    rows = {tuple(x) for x in replay._data["stamp"].tolist()}
    possible = {(w, e, t) for w, e, t in rows if (w, e, t + 2) in rows and (w, e, t + 1) in rows}
    first = replay.sample(len(possible) * 400, 2, ("stamp",))["stamp"][:, 0]
    drawn, counts = first.unique(dim=0, return_counts=True)
    assert {tuple(x) for x in drawn.tolist()} == possible
    assert counts.min() > 250 and counts.max() < 550  # 400 expected, standard deviation 20


def test_final_observations_are_stored_and_start_nothing():
    replay = Replay(3000, WORLDS)
    fill(replay, 200, shortest=4, longest=4)
    assert len(replay) == WORLDS * (200 + 50)  # every fourth step ends an episode
    batch = replay.sample(10_000, 1, ("stamp",))
    assert batch["stamp"][:, 0, 2].max() == 3  # t = 4 is the final observation
    assert batch["stamp"][:, 1, 2].max() == 4
    episode, t = batch["stamp"][:, 0, 1], batch["stamp"][:, 0, 2]
    ended = batch["terminated"][:, 0]
    assert torch.equal(ended, (t == 3) & (episode % 2 == 0))  # and a truncation is no termination
    assert ended.any() and not ended.all()


def test_clips_repeat_the_first_frame_and_look_neither_back_nor_ahead():
    replay = Replay(90, WORLDS)
    fill(replay, 500, shortest=2)
    frames, length = 4, 2
    batch = replay.sample(10_000, length, ("stamp",), frames)
    pixels, stamp = batch["frames"][..., 0, 0].long(), batch["stamp"]
    assert batch["frames"].dtype == torch.uint8
    assert pixels.shape == (10_000, frames + length, 3)
    assert torch.equal(pixels[:, :, 0], stamp[:, :1, 0].expand(-1, frames + length))
    assert torch.equal(pixels[:, :, 1], (stamp[:, :1, 1] % 256).expand(-1, frames + length))
    oldest = {}  # the ring may have overwritten the start of an episode
    for w, e, t in replay._data["stamp"].tolist():
        oldest[w, e] = min(t, oldest.get((w, e), t))
    floor = torch.tensor([oldest[w, e] for w, e in stamp[:, 0, :2].tolist()])
    wanted = stamp[:, :1, 2] + torch.arange(1 - frames, length + 1)
    assert torch.equal(pixels[:, :, 2], wanted.maximum(floor[:, None]))
    assert (pixels[:, 0, 2] == pixels[:, 1, 2]).any() and (pixels[:, 0, 2] != pixels[:, 1, 2]).any()


class StampEncoder:
    """Reads a clip back: sums of its frames' numbers and those of the newest frame."""

    clip_frames = 3

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        t = clips[..., 2, 0, 0].float()  # (B, F)
        return torch.stack([100.0 + t.sum(1), t[:, -1], clips[:, -1, 0, 0, 0].float()], -1)


@pytest.mark.parametrize("steps", [7, 500])
def test_reencode_replaces_every_filled_row(steps):
    replay = Replay(90, WORLDS)
    fill(replay, steps, shortest=6)
    replay.reencode(StampEncoder(), "b", chunk=16)
    assert replay.encoder_id == "b"
    written = replay._written.clamp(max=replay.rows)
    checked = 0
    for world in range(WORLDS):
        rows = slice(world * replay.rows, world * replay.rows + int(written[world]))
        latent, stamp = replay._data["latent"][rows].float(), replay._data["stamp"][rows]
        t = stamp[:, 2].float()
        assert torch.equal(latent[:, 1:], torch.stack([t, stamp[:, 0].float()], -1))
        assert (latent[:, 0] >= 100).all()
        expected = 100 + t + (t - 1).clamp(min=0) + (t - 2).clamp(min=0)
        assert (latent[:, 0] != expected).sum() <= 2  # the oldest rows have lost what came before them
        checked += len(latent)
    assert checked == len(replay)
    fill(replay, 1, encoder_id="b")


def test_latents_of_two_encoders_are_not_mixed():
    replay = Replay(90, WORLDS)
    fill(replay, 5)
    before = len(replay)
    with pytest.raises(StaleLatentsError, match="encoder a, and b"):
        fill(replay, 1, encoder_id="b")
    assert len(replay) == before


@pytest.mark.parametrize("steps", [20, 500])
def test_a_restored_replay_draws_the_same(steps):
    replay, other = Replay(90, WORLDS), Replay(90, WORLDS)
    fill(replay, steps)
    other.load_state_dict(replay.state_dict())
    for round_ in range(2):
        batches = []
        for each in (replay, other):
            torch.manual_seed(1)
            batches.append(each.sample(500, 3, ("latent", "stamp"), 3))
        for key in ("latent", "stamp", "frames", "action", "reward", "terminated"):
            assert torch.equal(batches[0][key], batches[1][key]), key
        assert len(replay) == len(other)
        for each in (replay, other):  # and goes on alike
            fill(each, 40, seed=round_ + 5)
    with pytest.raises(StaleLatentsError):
        fill(other, 1, encoder_id="b")


def test_an_empty_replay_can_be_saved():
    replay = Replay(90, WORLDS)
    replay.load_state_dict(Replay(90, WORLDS).state_dict())
    replay.reencode(StampEncoder(), "b")
    fill(replay, 3, encoder_id="b")
    assert len(replay) >= 9


def test_a_replay_of_another_size_is_not_restored():
    replay = Replay(90, WORLDS)
    fill(replay, 500)
    state = replay.state_dict()
    with pytest.raises(ValueError, match="3 worlds, this one has 2"):
        Replay(90, 2).load_state_dict(state)
    for capacity in (60, 120):  # a ring that has wrapped cannot be read with another length
        with pytest.raises(ValueError, match="30 rows for each world"):
            Replay(capacity, WORLDS).load_state_dict(state)


def test_what_is_not_there_cannot_be_drawn():
    replay = Replay(90, WORLDS)
    with pytest.raises(ValueError, match="no sequence of 1 steps yet"):
        replay.sample(4, 1, ("stamp",))
    fill(replay, 2, shortest=9)
    with pytest.raises(ValueError, match="no sequence of 2 steps yet"):
        replay.sample(4, 2, ("stamp",))
    fill(replay, 100, longest=3, seed=1)
    with pytest.raises(ValueError, match="No stored episode seems to have 8 steps"):
        replay.sample(4, 8, ("stamp",))
    with pytest.raises(ValueError, match="too small for 3 worlds"):
        Replay(5, WORLDS)


def test_memory_is_taken_as_rows_fill():
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    replay = Replay(100_000, WORLDS)
    big = TensorDict({"pixels": torch.zeros(WORLDS, 3, 64, 64, dtype=torch.uint8)}, batch_size=[WORLDS])
    none = torch.zeros(WORLDS, dtype=torch.bool)
    replay.add(big, torch.zeros(WORLDS, 1), torch.zeros(WORLDS), none, none, big, "a")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB; all rows are 1.2 GB


def test_no_sequence_crosses_a_cut():
    replay = Replay(90, WORLDS)
    fill(replay, 5, 20, 20)
    replay.cut()
    fill(replay, 5, 20, 20)  # starts again at t = 0
    stamp = replay.sample(2000, 2, ("stamp",))["stamp"]
    assert (stamp[..., 2] == stamp[:, :1, 2] + torch.arange(3)).all()
