"""Clips from files: the right frames with the right actions, whatever the file, and a line for what is broken."""

import json
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from torch.nn import functional as F

from mindreel.encoders.data.clips import ClipConfig, Clips, find_recordings
from mindreel.encoders.data.recordings import Recording, RecordingSet, resize
from mindreel.viz.video import write_mp4

SIDE, FRAMES, STEPS = 16, 3, 2


def flat_frames(values: torch.Tensor) -> torch.Tensor:
    """One uniform grey picture for each value: uint8 (T, 3, SIDE, SIDE). A clip then tells its frames' numbers."""
    return values.byte()[:, None, None, None].expand(-1, 3, SIDE, SIDE).contiguous()


def clips_of(path: Path, camera: str = "", **changes) -> Clips:
    config = ClipConfig(camera=camera, **changes)
    return Clips(config, find_recordings(path, camera), FRAMES, STEPS, SIDE)


def numbers(frames: torch.Tensor) -> torch.Tensor:
    """The frame numbers that pictures of 5 grey levels a frame show in their lower half: (B, F + K)."""
    return (frames[..., SIDE // 2 + 4 :, :].float().mean((2, 3, 4)) / 5).round().long()


def check(clips: Clips, batch: int = 256) -> torch.Tensor:
    """Frame t shows 5 t, action t is (t, -t), reward t is t / 2; returns the newest frames' numbers."""
    frames, action, reward, behaviour = clips.sample(batch)
    assert frames.dtype == torch.uint8 and frames.shape == (batch, FRAMES + STEPS, 3, SIDE, SIDE)
    assert behaviour.dtype == torch.int64 and behaviour.shape == (batch,)
    shown = numbers(frames)
    now = shown[:, FRAMES - 1]
    offsets = torch.arange(1 - FRAMES, STEPS + 1)
    assert torch.equal(shown, (now[:, None] + offsets).clamp(min=0))
    taken = (now[:, None] + torch.arange(STEPS)).float()
    assert torch.equal(action, torch.stack([taken, -taken], -1) if clips.has_action else torch.zeros_like(action))
    assert torch.equal(reward, taken / 2 if clips.has_reward else torch.zeros_like(reward))
    return now


def write_video(path: Path, *counts: int) -> None:
    """Videos one after another; the upper half of their pictures shows which it is, 60 grey levels each."""
    frames = [flat_frames(5 * torch.arange(count)) for count in counts]
    for number, pictures in enumerate(frames):
        pictures[:, :, : SIDE // 2] = 60 * number
    write_mp4(path, torch.cat(frames), fps=10, scale=4)


def test_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "deep" / "one.mp4", 40)
    whole = (tmp_path / "deep" / "one.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.avi").write_text("not a video")
    (tmp_path / "notes.txt").write_text("not looked at")
    write_video(tmp_path / "short.mp4", STEPS)
    clips = clips_of(tmp_path)
    assert not clips.has_action and not clips.has_reward
    assert set(check(clips).tolist()) == set(range(40 - STEPS))
    skipped = {Path(name).name.partition(" from")[0] for name in clips.skipped}
    assert skipped == {"cut.mp4", "text.avi", "short.mp4"}
    assert f"{STEPS} frames are too few: {STEPS + 1} are wanted" in clips.skipped[str(tmp_path / "short.mp4")]
    assert len(clips) == 40 - STEPS


def test_a_stretch_of_a_video_is_read_alone(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", 45)
    recording = find_recordings(tmp_path).recordings[0]
    assert recording.frames == 45
    part = recording.read(30, 36, SIDE)
    assert numbers(part[None])[0].tolist() == [30, 31, 32, 33, 34, 35]


def test_what_breaks_in_the_middle_is_skipped(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", 20)
    torch.manual_seed(1)
    noise = torch.randint(256, (20, 3, SIDE, SIDE), dtype=torch.uint8)
    file = write_mp4(tmp_path / "spoilt.mp4", noise, fps=10)
    content = bytearray(file.read_bytes())
    start = content.index(b"mdat") + 800  # the index stands before it, so that the file still opens
    content[start:] = bytes(len(content) - start)
    file.write_bytes(content)
    clips = clips_of(tmp_path)
    assert clips.recordings == 2 and not clips.skipped
    check(clips)
    assert [name.startswith(str(file)) for name in clips.skipped] == [True]
    state = clips.state_dict()
    assert len(state["unreadable"]) == 1
    good = tmp_path / "good.mp4"
    content = bytearray(good.read_bytes())
    start = content.index(b"mdat") + 8
    content[start:] = bytes(len(content) - start)
    good.write_bytes(content)
    with pytest.raises(ValueError, match="No clip decodes"):
        clips_of(tmp_path).sample(4)


def values(first: int, count: int) -> dict[str, np.ndarray]:
    t = np.arange(first, first + count, dtype=np.float32)
    return {"action": np.stack([t, -t], 1), "reward": t / 2}


def test_robomimic(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for name, count in (("demo_0", 12), ("demo_2", 15), ("demo_10", 9)):
            group = file.create_group(f"data/{name}")
            pictures = flat_frames(5 * torch.arange(count)).permute(0, 2, 3, 1).numpy()
            group["obs/agentview_image"] = pictures
            group["obs/wrist_image"] = 255 - pictures
            group["next_obs/agentview_image"] = pictures
            group["actions"], group["rewards"] = values(0, count).values()
    clips = clips_of(tmp_path / "demos.hdf5", camera="agentview_image")
    assert (clips.recordings, clips.action_dim, len(clips)) == (3, 2, 12 + 15 + 9 - 3 * STEPS)
    assert set(check(clips).tolist()) == set(range(13))
    other = clips_of(tmp_path, camera="wrist_image").sample(8)[0]
    assert other.float().mean() > 128
    with pytest.raises(ValueError, match="did you mean 'obs/agentview_image'"):
        clips_of(tmp_path, camera="agentview")


def test_hdf5_files_are_skipped_whole_or_not_at_all(tmp_path: Path) -> None:
    """A demo without that camera, a file whose flags point past its end, one without it, and a video beside."""
    pictures = flat_frames(5 * torch.arange(12)).numpy()
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number, camera in enumerate(("front", "side", "front", "front")):
            group = file.create_group(f"data/demo_{number}")
            group[f"obs/{camera}"] = pictures
            group["actions"], group["rewards"] = values(0, 12).values()
    with h5py.File(tmp_path / "past.h5", "w") as file:
        file["front"], file["episode_ends"] = pictures, np.array([5, 40])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["side"] = pictures
    write_video(tmp_path / "beside.mp4", 12)
    clips = clips_of(tmp_path, camera="front")
    assert clips.recordings == 3 and set(check(clips).tolist()) == set(range(10))
    found = {Path(name).relative_to(tmp_path).as_posix(): why for name, why in clips.skipped.items()}
    assert set(found) == {"demos.hdf5/data/demo_1", "past.h5", "other.h5", "beside.mp4"}
    assert "has no camera 'front': valid are: side" in found["other.h5"]
    assert "its episode_ends do not cut its 12 frames" in found["past.h5"] and "beside HDF5" in found["beside.mp4"]
    assert not any(name.startswith(f"{tmp_path}/past.h5[") for name in clips.skipped)


@pytest.mark.parametrize("flags", ["terminals", "step_type", "episode_ends"])
def test_one_array_cut_into_episodes(tmp_path: Path, flags: str) -> None:
    lengths = (12, 8)
    shown = torch.cat([torch.arange(length) for length in lengths])
    known = {name: np.concatenate([values(0, length)[name] for length in lengths]) for name in ("action", "reward")}
    with h5py.File(tmp_path / "walker.h5", "w") as file:
        file["observation"] = flat_frames(5 * shown).numpy()
        if flags == "terminals":
            file["terminals"], file["timeouts"] = shown.numpy() == 11, (shown == 7).numpy() & (np.arange(20) > 12)
        elif flags == "episode_ends":
            file["episode_ends"] = np.array([12, 20])
        else:  # as dm_env: with a frame come the action and the reward that led to it
            known = {name: np.concatenate([x[-1:], x[:-1]]) for name, x in known.items()}
            file["step_type"] = np.array([0] + [1] * 10 + [2] + [0] + [1] * 6 + [2])
        file["action"], file["reward"] = known["action"], known["reward"]
    clips = clips_of(tmp_path)
    assert clips.recordings == 2
    assert set(check(clips).tolist()) == set(range(10))


def write_lerobot(root: Path, version: int) -> None:
    """Two episodes of 12 and 10 frames, the second with another task."""
    lengths, key = (12, 10), "observation.images.front"
    parts = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    info = {
        "codebase_version": f"v{version}.0",
        "fps": 10,
        "chunks_size": 1000,
        "data_path": f"data/{parts}.parquet",
        "video_path": f"videos/{{video_key}}/{parts}.mp4",
        "features": {
            key: {"dtype": "video", "shape": [3, SIDE, SIDE]},
            "action": {"dtype": "float32", "shape": [2]},
            "next.reward": {"dtype": "float32", "shape": [1]},
        }
        | {name: {"dtype": "int64", "shape": [1]} for name in ("episode_index", "task_index")},
    }
    (root / "meta").mkdir(parents=True)
    tables = []
    for episode, length in enumerate(lengths):
        known = values(0, length)
        columns = {"episode_index": [episode] * length, "task_index": [episode] * length}
        columns |= {"action": known["action"].tolist(), "next.reward": known["reward"].tolist()}
        tables.append(pyarrow.table(columns))
    tasks = [{"task_index": i, "task": name} for i, name in enumerate(("lift the cube", "open the drawer"))]
    if version == 2:
        info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        (root / "data" / "chunk-000").mkdir(parents=True)
        for episode, (length, table) in enumerate(zip(lengths, tables, strict=True)):
            write_video(root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4", length)
            pyarrow.parquet.write_table(table, root / f"data/chunk-000/episode_{episode:06d}.parquet")
        (root / "meta" / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    else:
        write_video(root / f"videos/{key}/chunk-000/file-000.mp4", *lengths)
        (root / "data" / "chunk-000").mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables), root / "data/chunk-000/file-000.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(tasks), root / "meta" / "tasks.parquet")
        (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        starts = {"chunk_index": [0, 0], "file_index": [0, 0], "from_timestamp": [0.0, 1.2], "to_timestamp": [1.2, 2.2]}
        rows = {"episode_index": [0, 1]} | {f"videos/{key}/{name}": x for name, x in starts.items()}
        pyarrow.parquet.write_table(pyarrow.table(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    (root / "meta" / "info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("version", [2, 3])
def test_lerobot(tmp_path: Path, version: int) -> None:
    write_lerobot(tmp_path, version)
    clips = clips_of(tmp_path, camera="front")
    assert (clips.recordings, clips.has_action, clips.has_reward) == (2, True, True)
    assert clips.sentences == ("lift the cube", "open the drawer") and clips.described
    torch.manual_seed(3)
    now = check(clips)
    torch.manual_seed(3)
    frames, _, _, behaviour = clips.sample(256)
    if version == 3:  # the second episode lies behind the first in one file
        upper = frames[..., : SIDE // 2 - 2, :].float().mean((1, 2, 3, 4))
        assert torch.equal((upper / 60).round().long(), behaviour)
    assert set(now[behaviour == 0].tolist()) == set(range(10)) and set(now[behaviour == 1].tolist()) == set(range(8))
    next(tmp_path.rglob("*.mp4")).unlink()
    if version == 2:
        assert "is missing" in next(iter(clips_of(tmp_path).skipped.values()))
    else:
        with pytest.raises(ValueError, match="nothing to draw clips from .*is missing"):
            clips_of(tmp_path)


def test_damaged_tables_of_lerobot_are_skipped(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "two", 2)
    table = tmp_path / "two" / "data" / "chunk-000" / "episode_000001.parquet"
    table.write_bytes(table.read_bytes()[:100])
    (tmp_path / "two" / "meta" / "tasks.jsonl").write_text("{")
    clips = clips_of(tmp_path / "two")
    assert clips.recordings == 1 and set(check(clips).tolist()) == set(range(10))
    assert {Path(name).name for name in clips.skipped} == {"episode_000001.parquet", "tasks.jsonl"}
    assert clips.sentences == () and not clips.described


def test_lerobot_without_places_is_named(tmp_path: Path) -> None:
    """Version 3 says in meta/episodes where the videos are; here a table of it is damaged."""
    write_lerobot(tmp_path, 3)
    next((tmp_path / "meta" / "episodes").rglob("*.parquet")).write_text("damaged")
    found = find_recordings(tmp_path)
    assert not found.recordings and len(found.skipped) == 3
    with pytest.raises(ValueError, match="nothing to draw clips from .*episode 0: .*does not say in which video it is"):
        clips_of(tmp_path)


def test_pictures_are_resized_as_torch_does() -> None:
    torch.manual_seed(0)
    large = torch.randint(256, (2, 3, 50, 30), dtype=torch.uint8)
    expected = F.interpolate(large.float(), (SIDE, SIDE), mode="bilinear", antialias=True).round().byte()
    assert torch.equal(resize(large, SIDE), expected)


def test_recordings_that_do_not_fit_take_turns_and_resume(tmp_path: Path) -> None:
    for number in range(12):
        with h5py.File(tmp_path / f"{number:02d}.h5", "w") as file:
            file["pixels"] = np.full((20, SIDE, SIDE, 3), number, np.uint8)
    assert len(clips_of(tmp_path, cache_mb=0.25).state_dict()["pool"]) == 12
    # Room for 8 recordings, 4 of them decoded ahead: 4 are drawn from at a time.
    changes = {"cache_mb": 8.5 * 3 * SIDE**2 * (20 + FRAMES) / 1e6}
    clips = clips_of(tmp_path, **changes)
    assert len(clips.state_dict()["pool"]) == 4
    seen = set()
    for _ in range(60):
        seen |= set(clips.sample(16)[0][:, 0, 0, 0, 0].tolist())
    assert seen == set(range(12))
    assert len(clips._decoded) <= 8
    state, random = clips.state_dict(), torch.get_rng_state()
    state = json.loads(json.dumps(state))
    expected = [clips.sample(16)[0] for _ in range(8)]
    resumed = clips_of(tmp_path, **changes)
    resumed.load_state_dict(state)
    torch.set_rng_state(random)
    assert all(torch.equal(resumed.sample(16)[0], frames) for frames in expected)
    (tmp_path / "00.h5").unlink()
    with pytest.raises(ValueError, match="recordings have changed"):
        clips_of(tmp_path, **changes).load_state_dict(state)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_recordings(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no recordings: expected a run, .*\.mp4"):
        find_recordings(tmp_path)
    with h5py.File(tmp_path / "state.h5", "w") as file:
        file["observations"] = np.zeros((20, 4), np.float32)
    with pytest.raises(ValueError, match="nothing to draw clips from .*it holds no pictures"):
        clips_of(tmp_path)


def test_actions_that_are_not_finite_are_left_out() -> None:
    action = np.zeros((9, 2), np.float32)
    action[4] = np.nan
    read = lambda first, last, side: torch.zeros(last - first, 3, side, side, dtype=torch.uint8)
    found = RecordingSet([Recording("one", 10, read, action), Recording("two", 10, read)])
    clips = Clips(ClipConfig(), found, FRAMES, STEPS, SIDE)
    assert clips.skipped == {"one": "its actions or rewards are too few or not finite"}


def test_av_counts_frames_as_we_do(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", 33)
    with av.open(str(tmp_path / "one.mp4")) as container:
        decoded = sum(1 for _ in container.decode(video=0))
    assert find_recordings(tmp_path).recordings[0].frames == decoded == 33


def test_a_long_recording_is_read_in_stretches() -> None:
    def read(first: int, last: int, side: int) -> torch.Tensor:
        number = torch.arange(first, last)
        coded = torch.stack([number % 256, number // 256, 0 * number], 1).byte()
        return coded[:, :, None, None].expand(-1, -1, side, side)

    clips = Clips(ClipConfig(), RecordingSet([Recording("long", 600, read)]), FRAMES, STEPS, SIDE)
    assert len(clips) == 600 - STEPS
    coded = clips.sample(2000)[0][..., 0, 0].long()  # (B, F + K, 3)
    shown = coded[:, :, 0] + 256 * coded[:, :, 1]
    now = shown[:, FRAMES - 1]
    assert torch.equal(shown, (now[:, None] + torch.arange(1 - FRAMES, STEPS + 1)).clamp(min=0))
    assert len(now.unique()) > 500 and now.max() < 600 - STEPS
