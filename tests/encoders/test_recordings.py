"""What recordings have in common decides what is drawn from them; what is broken is named in a sentence."""

from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch

from mindreel.encoders.data.clips import ClipConfig, Clips, find_recordings
from mindreel.encoders.data.recordings import Recording, RecordingSet

SIDE, FRAMES, STEPS, LENGTH = 16, 3, 2, 12


def recording(name: str, dims: int, rewarded: bool = False) -> Recording:
    """Black frames; all actions and rewards are 1. No actions if `dims` is 0."""
    return Recording(
        name,
        LENGTH,
        lambda first, last, side: torch.zeros(last - first, 3, side, side, dtype=torch.uint8),
        np.ones((LENGTH - 1, dims), np.float32) if dims else None,
        np.ones(LENGTH - 1, np.float32) if rewarded else None,
    )


def clips_of(recordings: list[Recording]) -> Clips:
    return Clips(ClipConfig(), RecordingSet(recordings), FRAMES, STEPS, SIDE)


def test_recordings_unlike_most_are_skipped(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number in range(7):
            group = file.create_group(f"data/demo_{number}")
            group["obs/image"] = np.zeros((LENGTH, SIDE, SIDE, 3), np.uint8)
            if number != 3:
                group["actions"] = np.ones((LENGTH, 4 if number == 5 else 2), np.float32)
            if number != 6:
                group["rewards"] = np.ones(LENGTH, np.float32)
    clips = Clips(ClipConfig(), find_recordings(tmp_path), FRAMES, STEPS, SIDE)
    assert (clips.recordings, clips.has_action, clips.action_dim, clips.has_reward) == (4, True, 2, True)
    assert clips.skipped == {
        f"{tmp_path}/demos.hdf5/data/demo_3[0:12]": "it has no actions, as most recordings have",
        f"{tmp_path}/demos.hdf5/data/demo_5[0:12]": "its actions have 4 dimensions, those of most recordings 2",
        f"{tmp_path}/demos.hdf5/data/demo_6[0:12]": "it has no rewards, as most recordings have",
    }
    _, action, reward, _ = clips.sample(64)
    assert torch.equal(action, torch.ones(64, STEPS, 2)) and torch.equal(reward, torch.ones(64, STEPS))


@pytest.mark.parametrize("dims", [(0, 0, 0), (2, 0, 0), (2, 0), (2, 2, 3, 4)])
def test_what_half_or_fewer_have_is_not_used(dims: tuple[int, ...]) -> None:
    clips = clips_of([recording(str(number), width, width == 2) for number, width in enumerate(dims)])
    assert (clips.recordings, clips.has_action, clips.action_dim, clips.has_reward) == (len(dims), False, 1, False)
    assert not clips.skipped
    _, action, reward, _ = clips.sample(64)
    assert torch.equal(action, torch.zeros(64, STEPS, 1)) and torch.equal(reward, torch.zeros(64, STEPS))


def test_rewards_are_counted_among_those_that_are_kept() -> None:
    clips = clips_of([recording("0", 2, True), recording("1", 2, True), recording("2", 2), recording("3", 0)])
    assert clips.has_reward and list(clips.skipped) == ["3", "2"]


def write_arrays(file: Path, **arrays: np.ndarray | float) -> Path:
    with h5py.File(file, "w") as opened:
        opened["pixels"] = np.zeros((LENGTH, SIDE, SIDE, 3), np.uint8)
        for name, values in arrays.items():
            if name in opened:
                del opened[name]
            opened[name] = values
    return file


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"rewards": np.ones((LENGTH, 2))}, r"its rewards are (12, 2): expected one for each frame, (T,) or (T, 1)"),
        ({"actions": 1.0}, "its array actions is a single value: expected one row for each frame"),
        ({"rewards": 1.0}, "its array rewards is a single value: expected one row for each frame"),
        ({"terminals": np.zeros(20, bool)}, "its array terminals is (20,): expected (12,), one flag for each frame"),
        ({"terminals": np.zeros(8, bool)}, "its array terminals is (8,): expected (12,), one flag for each frame"),
        ({"dones": np.zeros((12, 2), bool)}, "its array dones is (12, 2): expected (12,), one flag for each frame"),
        ({"step_type": np.zeros(8)}, "its array step_type is (8,): expected (12,), one flag for each frame"),
        ({"pixels": np.zeros((0, SIDE, SIDE, 3), np.uint8)}, "its /pixels holds no frames"),
        (
            {"pixels": np.zeros((12, 8, 8, 3), np.float32), "actions": np.ones((12, 2), np.float32)},
            "it holds no pictures: expected an array uint8 (T, H, W, 3) or (T, 3, H, W), "
            "found /pixels float32 (12, 8, 8, 3), /actions float32 (12, 2)",
        ),
        ({"pixels": np.zeros((12, 8, 8), np.uint8)}, "found /pixels uint8 (12, 8, 8)"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, arrays: dict[str, np.ndarray | float], sentence: str) -> None:
    """A file is skipped with a sentence, the one beside it is read; alone, that sentence is the error."""
    wrong = write_arrays(tmp_path / "wrong.h5", **arrays)
    with pytest.raises(ValueError, match="nothing to draw clips from") as raised:
        Clips(ClipConfig(), find_recordings(wrong), FRAMES, STEPS, SIDE)
    assert f"{wrong}: " in str(raised.value) and sentence in str(raised.value)
    write_arrays(tmp_path / "right.h5", rewards=np.ones((LENGTH, 1)), terminals=np.zeros((LENGTH, 1), bool))
    found = find_recordings(tmp_path)
    assert len(found.recordings) == 1 and list(found.skipped) == [str(wrong)]
    assert found.recordings[0].reward is not None and found.recordings[0].reward.shape == (LENGTH - 1,)


def test_a_group_data_without_demos(tmp_path: Path) -> None:
    """It is one group of arrays, or empty."""
    with h5py.File(tmp_path / "arrays.h5", "w") as file:
        file["data/pixels"] = np.zeros((LENGTH, SIDE, SIDE, 3), np.uint8)
        file["data/actions"] = np.ones((LENGTH, 2), np.float32)
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("data")
    found = find_recordings(tmp_path)
    assert [one.action is not None for one in found.recordings] == [True]
    assert list(found.skipped) == [f"{tmp_path}/empty.h5"]
    assert found.skipped[f"{tmp_path}/empty.h5"].endswith("found no array")


@pytest.mark.parametrize(("flags", "inside"), [("data/dones", True), ("meta/episode_ends", False)])
def test_one_array_of_all_episodes_in_a_group_data(tmp_path: Path, flags: str, inside: bool) -> None:
    """With its pictures in a group of their own, or the episodes' ends beside it in `meta`."""
    with h5py.File(tmp_path / "arrays.h5", "w") as file:
        file["data/obs/image" if inside else "data/img"] = np.zeros((LENGTH, SIDE, SIDE, 3), np.uint8)
        file["data/action"] = np.ones((LENGTH, 2), np.float32)
        file[flags] = np.arange(LENGTH) % 4 == 3 if inside else np.array([4, 8, 12])
    found = find_recordings(tmp_path)
    assert not found.skipped and [one.frames for one in found.recordings] == [4, 4, 4]
    assert all(one.action is not None and one.action.shape == (3, 2) for one in found.recordings)


def test_a_demonstration_is_one_episode(tmp_path: Path) -> None:
    """robomimic's `dones` say from which frame on the task is solved."""
    with h5py.File(tmp_path / "demos.h5", "w") as file:
        file["data/demo_0/obs/image"] = np.zeros((LENGTH, SIDE, SIDE, 3), np.uint8)
        file["data/demo_0/dones"] = np.arange(LENGTH) >= 8
    assert [one.frames for one in find_recordings(tmp_path).recordings] == [LENGTH]


def test_a_video_of_sound_alone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sound.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=rf"nothing to draw clips from \({file}: it holds no pictures, only audio\)"):
        Clips(ClipConfig(), find_recordings(file), FRAMES, STEPS, SIDE)
