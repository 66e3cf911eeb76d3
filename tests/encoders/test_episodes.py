"""Episodes in HDF5 files: cut where any field marks them, whichever way, or refused with that field's name."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mindreel.encoders.data.clips import ClipConfig, Clips, find_recordings
from mindreel.encoders.data.episodes import episode_bounds, kind_of
from mindreel.encoders.data.recordings import UnreadableError

LENGTHS = np.array([12, 8, 10])
T = int(LENGTHS.sum())
ENDS = LENGTHS.cumsum()
STARTS = ENDS - LENGTHS
ROW = np.arange(T)
EPISODE = np.searchsorted(ENDS, ROW, side="right")
STEP = ROW - STARTS[EPISODE]
LAST, FIRST = np.isin(ROW, ENDS - 1), STEP == 0
WHOLE = [(0, 12), (12, 20), (20, 30)]
SIDE = 8


@pytest.mark.parametrize(
    "fields",
    [
        {"ep_len": LENGTHS, "ep_offset": STARTS},  # stable-worldmodel
        {"ep_len": LENGTHS},
        {"episode_lengths": LENGTHS.astype(np.int32)},
        {"lengths": LENGTHS},
        {"meta/traj_lengths": LENGTHS},
        {"episodes/length": LENGTHS, "episodes/start": STARTS},
        {"ep_offset": STARTS},
        {"episode_starts": STARTS},
        {"seq_ptr": np.append(STARTS, T)},
        {"meta/episode_ends": ENDS},
        {"episode_ends": ENDS, "ep_len": LENGTHS},
        {"episode_start_index": STARTS, "episode_end_index": ENDS - 1},
        {"episodeId": EPISODE},
        {"ep_idx": EPISODE.reshape(-1, 1) + 7},
        {"traj": 5 - EPISODE},
        {"episode_index": EPISODE.astype(np.float32)},
        {"is_first": FIRST},
        {"episode_start": FIRST},
        {"episode_start": FIRST.astype(np.uint8)},
        {"is_last": LAST},
        {"terminals": LAST & (EPISODE < 1), "timeouts": LAST & (EPISODE > 0)},
        {"terminations": LAST, "truncations": np.zeros(T, bool)},
        {"next.done": LAST.astype(np.float64)},
        {"not_done": ~LAST},
        {"nonterminals": (~LAST).astype(np.float32)},
        {"step_type": np.where(FIRST, 0, np.where(LAST, 2, 1))},
        {"step_idx": STEP},
        {"timestep": 4 * STEP},
        {"frame_index": STEP},
        {"timestamp": STEP / 30 + np.random.default_rng(0).uniform(0, 0.01, T)},
        {"ep_len": LENGTHS, "terminated": np.zeros(T, bool), "episode_return": np.ones(3), "num_episodes": np.array(3)},
        {"ep_len": LENGTHS, "dones": STEP >= 6},  # from then on it is solved
        {"terminals": LAST, "episode_return": np.arange(3.0)},
        {"episode_id": np.arange(3), "ep_len": LENGTHS},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_marks_cut(fields: dict[str, np.ndarray]) -> None:
    assert all(kind_of(name) for name in fields)
    assert episode_bounds(fields, T) == WHOLE


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [(0, T)]),
        ({"terminals": np.zeros(T, bool)}, [(0, T)]),
        ({"ep_len": LENGTHS - 2, "ep_offset": STARTS}, [(0, 10), (12, 18), (20, 28)]),  # padded to blocks
        ({"ep_len": LENGTHS[1:], "ep_offset": STARTS[1:]}, [(12, 20), (20, 30)]),
        ({"valid": STEP < 7}, [(0, 7), (12, 19), (20, 27)]),
        ({"is_pad": STEP >= 7, "ep_len": LENGTHS}, [(0, 7), (12, 19), (20, 27)]),
        ({"mask": np.ones(T)}, [(0, T)]),
        ({"masks": 1.0 - LAST}, [(0, 11), (12, 19), (20, 29)]),  # of an ending or of padding: no clip holds it
        ({"index": ROW}, [(0, T)]),
        ({"frame_index": np.where(ROW < 13, ROW, ROW + 4)}, [(0, 13), (13, T)]),  # rows were taken out
        ({"ep_len": np.array([T])}, [(0, T)]),
        ({"episode_return": np.full(T, 3.0)}, [(0, T)]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_marks_that_leave_frames_out_or_say_nothing(fields: dict, expected: list[tuple[int, int]]) -> None:
    assert episode_bounds(fields, T) == expected


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ep_len": LENGTHS - 1}, "its ep_len do not cut its 30 frames into episodes"),
        ({"ep_len": np.array([20])}, "its ep_len do not cut its 30 frames"),
        ({"ep_offset": STARTS + 1}, "its ep_offset do not cut its 30 frames"),
        ({"ep_offset": STARTS[::-1]}, "its ep_offset do not cut"),
        ({"episode_ends": ENDS[:2]}, "its episode_ends do not cut"),
        ({"episode_ends": np.array([12, 40])}, "its episode_ends do not cut"),
        ({"episode_ends": ENDS - 1}, "its episode_ends do not cut"),
        ({"ep_len": -LENGTHS, "ep_offset": STARTS}, "its ep_len and ep_offset do not cut"),
        ({"ep_len": LENGTHS, "ep_offset": STARTS[:2]}, "its ep_len and ep_offset are of 2 and 3 episodes"),
        ({"ep_len": LENGTHS, "episode_lengths": LENGTHS[::-1]}, "its ep_len and episode_lengths are not the same"),
        ({"ep_len": LENGTHS, "episode_id": ROW // 10}, "ep_len marks 3 episodes and episode_id 3, not the same"),
        ({"ep_len": LENGTHS, "is_first": ROW % 10 == 0}, "ep_len marks 3 episodes and is_first 3, not the same"),
        ({"episode_id": ROW % 3}, "episode_id comes back to a number"),
        ({"ep_len": LENGTHS, "timeouts": ROW == 5}, "timeouts ends episodes where ep_len does not"),
        ({"episode_id": 0 * ROW, "terminals": LAST}, "terminals ends episodes where episode_id does not"),
        ({"episode_length": LENGTHS[EPISODE]}, r"its episode_length \(30,\) may mark episodes"),
        ({"episode_seed": np.arange(3)}, r"its episode_seed \(3,\) may mark episodes, in a way that is not known"),
        ({"segments": np.arange(6).reshape(6)}, r"its segments \(6,\) may mark episodes"),
        ({"boundaries": FIRST}, r"its boundaries \(30,\) may mark episodes"),
        ({"rollout_seed": EPISODE * 1.5}, r"its rollout_seed \(30,\) may mark episodes"),
        ({"terminals": LAST, "episode_return": np.ones(5)}, r"its episode_return \(5,\) may mark episodes"),
        ({"num_episodes": np.array(3)}, "it holds 3 episodes by its num_episodes"),
        ({"episode_length": np.array(10)}, r"its episode_length \(\) may mark episodes"),
        ({"terminals": LAST[:20]}, r"its array terminals is \(20,\): expected \(30,\)"),
        ({"is_first": 3 * FIRST}, "its array is_first holds other numbers than 0 and 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_not_understood_or_contradicts_itself_is_named(fields: dict, sentence: str) -> None:
    with pytest.raises(UnreadableError, match=sentence):
        episode_bounds(fields, T)


def test_other_fields_mark_nothing() -> None:
    names = "action observation reward discount qpos success goal task_index env_state language embedding returns"
    assert not [name for name in names.split() if kind_of(name)]


# ---- groups ----


def write_episodes(file: Path, *groups: str, steps: int = 0, pictures: str = "observations") -> Path:
    """A group an episode, whose frames show its number, with `steps` actions and rewards."""
    with h5py.File(file, "w") as opened:
        for number, group in enumerate(groups):
            opened[f"{group}/{pictures}"] = np.full((10, SIDE, SIDE, 3), number, np.uint8)
            if steps:
                opened[f"{group}/actions"] = np.full((steps, 2), number, np.float32)
                opened[f"{group}/rewards"] = np.full(steps, number, np.float32)
                opened[f"{group}/terminations"] = np.arange(steps) == steps - 1
    return file


@pytest.mark.parametrize(
    ("groups", "steps", "pictures"),
    [
        (("episode_0", "episode_1", "episode_10"), 9, "observations"),  # Minari
        (("traj_0", "traj_1", "traj_2"), 9, "obs/sensor_data/base_camera/rgb"),  # ManiSkill
        (("data/demo_0", "data/demo_1", "data/demo_2"), 10, "obs/agentview_image"),  # robomimic
        (("0", "1", "2"), 10, "images"),
        (("episode_0", "episode_1", "episode_2"), 0, "rgb"),
        (("train/ep0", "train/ep1", "train/ep2"), 10, "pixels"),
        (("one", "two", "zebra"), 10, "pixels"),
    ],
)
def test_a_group_an_episode(tmp_path: Path, groups: tuple[str, ...], steps: int, pictures: str) -> None:
    found = find_recordings(write_episodes(tmp_path / "x.hdf5", *groups, steps=steps, pictures=pictures))
    assert not found.skipped and [one.frames for one in found.recordings] == [10, 10, 10]
    for number, one in enumerate(found.recordings):
        assert (one.read(2, 5, SIDE) == number).all()
        if steps:
            assert one.action is not None and one.reward is not None
            assert one.action.shape == (9, 2) and (one.action == number).all() and (one.reward == number).all()
    clips = Clips(ClipConfig(), found, 3, 4, SIDE)
    assert len(clips) == 18 and clips.has_action == clips.has_reward == (steps > 0)


def test_an_episode_without_pictures_is_skipped_alone(tmp_path: Path) -> None:
    file = write_episodes(tmp_path / "x.hdf5", "episode_0", "episode_1")
    with h5py.File(file, "a") as opened:
        opened["episode_2/actions"] = np.zeros((9, 2))
        opened["config/seed"] = 3
    found = find_recordings(file)
    assert len(found.recordings) == 2 and list(found.skipped) == [f"{file}/episode_2"]


def test_cameras_in_groups_are_no_episodes(tmp_path: Path) -> None:
    file = write_episodes(tmp_path / "x.hdf5", "camera_0", "camera_1", pictures="rgb")
    assert [one.frames for one in find_recordings(file).recordings] == [10]
    assert (find_recordings(file, "camera_1/rgb").recordings[0].read(0, 3, SIDE) == 1).all()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (("front", "side"), "its groups front, side hold pictures and are cameras or episodes"),
        (("actions", "episode_0", "episode_1"), "it holds arrays of frames in /, and in episode_0 others of them"),
    ],
)
def test_groups_that_may_be_either_are_named(tmp_path: Path, build: tuple[str, ...], sentence: str) -> None:
    mixed = build[0] == "actions"
    file = write_episodes(tmp_path / "x.hdf5", *build[mixed:], steps=9 * mixed)
    if mixed:
        with h5py.File(file, "a") as opened:
            opened["actions"] = np.zeros((20, 2))
    found = find_recordings(file)
    assert not found.recordings and sentence in found.skipped[str(file)]


@pytest.mark.parametrize("rows", [27, 29, 31, 60])
def test_actions_that_cannot_be_told_apart_are_named(tmp_path: Path, rows: int) -> None:
    """Of several episodes at once, one action fewer than frames for each leaves open which belongs where."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["pixels"], file["ep_len"] = np.zeros((T, SIDE, SIDE, 3), np.uint8), LENGTHS
        file["action"] = np.zeros((rows, 2))
    found = find_recordings(tmp_path)
    (why,) = found.skipped.values()
    assert why.startswith(f"its array action has {rows} rows beside 30 frames in 3 episodes: expected one for each")


def test_attributes_mark_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["pixels"] = np.zeros((T, SIDE, SIDE, 3), np.uint8)
        file.attrs["episode_lengths"] = LENGTHS
    assert [one.frames for one in find_recordings(tmp_path).recordings] == LENGTHS.tolist()


# ---- held against well-kept readers, where they are installed ----


@pytest.mark.filterwarnings("ignore")
def test_minari_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    random = np.random.default_rng(0)
    buffers = []
    for number, steps in enumerate((9, 6)):
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=number,
                observations=random.integers(0, 255, (steps + 1, SIDE, SIDE, 3), np.uint8),
                actions=random.normal(size=(steps, 2)).astype(np.float32),
                rewards=list(random.normal(size=steps)),
                terminations=[False] * steps,
                truncations=[False] * (steps - 1) + [True],
            )
        )
    data = minari.create_dataset_from_buffers(
        "mindreel/test-v0",
        buffers,
        observation_space=gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
        action_space=gymnasium.spaces.Box(-9, 9, (2,), np.float32),
        **dict.fromkeys(("algorithm_name", "author", "author_email", "code_permalink"), "none"),
    )
    found = find_recordings(tmp_path)
    for theirs, ours in zip(data.iterate_episodes(), found.recordings, strict=True):
        assert ours.action is not None and ours.reward is not None
        np.testing.assert_array_equal(ours.read(0, ours.frames, SIDE).permute(0, 2, 3, 1), theirs.observations)
        np.testing.assert_array_equal(ours.action, theirs.actions)
        np.testing.assert_allclose(ours.reward, theirs.rewards, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_robomimic_reads_the_same(tmp_path: Path) -> None:
    dataset = pytest.importorskip("robomimic.utils.dataset")
    file = write_episodes(tmp_path / "x.hdf5", "data/demo_0", "data/demo_1", steps=10, pictures="obs/image")
    with h5py.File(file, "a") as opened:
        for demo in opened["data"].values():
            demo.attrs["num_samples"] = 10
    theirs = dataset.SequenceDataset(str(file), ["image"], ["actions"], load_next_obs=False)
    rows = [theirs[index] for index in range(len(theirs))]
    ours = find_recordings(file).recordings
    frames = np.concatenate([one.read(0, one.frames, SIDE).permute(0, 2, 3, 1) for one in ours])
    np.testing.assert_array_equal(frames, np.concatenate([row["obs"]["image"] for row in rows]))
    for number, one in enumerate(ours):
        taken = np.concatenate([row["actions"] for row in rows[10 * number : 10 * number + 9]])
        np.testing.assert_array_equal(one.action, taken)
