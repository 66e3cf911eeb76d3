"""LeRobot data sets with pictures in their tables, and those whose description, tables or episodes are broken."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from mindreel.encoders.data.clips import ClipConfig, Clips, find_recordings
from mindreel.encoders.data.recordings import UnreadableError

SIDE, FRAMES, STEPS, LENGTHS = 16, 3, 2, (12, 10, 9)
KEY = "observation.images.front"


def png(level: int) -> dict[str, object]:
    """A uniform grey picture as tables hold it."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (level, level, level)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"frame-{level:06d}.png"}


def columns() -> dict[str, list]:
    """Three episodes; frame t shows 5 t, action t is (t, -t) and reward t is t / 2."""
    steps = [t for length in LENGTHS for t in range(length)]
    return {
        "episode_index": [episode for episode, length in enumerate(LENGTHS) for _ in range(length)],
        "task_index": [0] * sum(LENGTHS),
        "action": [[float(t), float(-t)] for t in steps],
        "next.reward": [t / 2 for t in steps],
        KEY: [png(5 * t) for t in steps],
    }


def write(root: Path, kind: str = "image", table: dict[str, list] | None = None, **changes: object) -> Path:
    """A data set of version 3, and its info.json with changes. Videos are empty files: nothing here decodes them."""
    kinds = {KEY: kind, "action": "float32", "next.reward": "float32", "task_index": "int64", "episode_index": "int64"}
    info: dict[str, object] = {
        "fps": 10,
        "chunks_size": 1000,
        "video_path": "videos/{video_key}/file-{file_index:03d}.mp4" if kind == "video" else None,
        "features": {name: {"dtype": dtype} for name, dtype in kinds.items()},
    }
    for folder in ("meta/episodes", "data/chunk-000", f"videos/{KEY}"):
        (root / folder).mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info | changes))
    (root / "meta" / "tasks.jsonl").write_text('{"task_index": 0, "task": "lift the cube"}\n')
    pyarrow.parquet.write_table(pyarrow.table(table or columns()), root / "data" / "chunk-000" / "file-000.parquet")
    (root / "videos" / KEY / "file-000.mp4").touch()
    write_places(root, [0.0, 1.2, 2.2])
    return root


def write_places(root: Path, starts: list[float | None]) -> None:
    rows = {"chunk_index": [0, 0, 0], "file_index": [0, 0, 0], "from_timestamp": starts}
    named = {"episode_index": [0, 1, 2]} | {f"videos/{KEY}/{name}": values for name, values in rows.items()}
    pyarrow.parquet.write_table(pyarrow.table(named), root / "meta" / "episodes" / "file-000.parquet")


def test_pictures_in_tables(tmp_path: Path) -> None:
    clips = Clips(ClipConfig(camera="front"), find_recordings(write(tmp_path), "front"), FRAMES, STEPS, SIDE)
    assert (clips.recordings, clips.has_action, clips.has_reward, clips.skipped) == (3, True, True, {})
    frames, action, reward, behaviour = clips.sample(256)
    assert frames.dtype == torch.uint8 and frames.shape == (256, FRAMES + STEPS, 3, SIDE, SIDE)
    levels = frames.float().mean((2, 3, 4))
    assert torch.equal(levels, frames[:, :, 0, 0, 0].float())  # uniform
    now = levels[:, FRAMES - 1] / 5
    assert torch.equal(levels / 5, (now[:, None] + torch.arange(1 - FRAMES, STEPS + 1)).clamp(min=0))
    taken = now[:, None] + torch.arange(STEPS)
    assert torch.equal(action, torch.stack([taken, -taken], -1)) and torch.equal(reward, taken / 2)
    assert set(now.tolist()) == set(range(10)) and set(behaviour.tolist()) == {0}
    # The second episode lies behind the first in the table.
    assert torch.equal(clips_of_one(tmp_path, 1, 4, 7), torch.tensor([20, 25, 30]))


def test_tasks_may_have_gaps_and_the_same_words(tmp_path: Path) -> None:
    numbers = [number for number, length in zip((7, 2, 4), LENGTHS, strict=True) for _ in range(length)]
    root = write(tmp_path, table=columns() | {"task_index": numbers})
    tasks = {7: "lift the cube", 2: "turn the cube", 5: "lift the cube"}
    lines = (json.dumps({"task_index": index, "task": words}) for index, words in tasks.items())
    (root / "meta" / "tasks.jsonl").write_text("\n".join(lines))
    found = find_recordings(root)
    assert found.sentences == ("turn the cube", "lift the cube")
    assert [one.behaviour for one in found.recordings] == [1, 0, -1]  # nobody says what 4 is


def test_groups_of_rows_are_read_one_by_one(tmp_path: Path) -> None:
    file = write(tmp_path) / "data" / "chunk-000" / "file-000.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file), file, row_group_size=5)
    for episode, length in enumerate(LENGTHS):
        for first, last in ((0, length), (0, 1), (length - 1, length), (2, 8)):
            assert clips_of_one(tmp_path, episode, first, last).tolist() == list(range(5 * first, 5 * last, 5))
    # What is damaged elsewhere is not noticed: the second episode begins in the third group, at row 12.
    group = pyarrow.parquet.ParquetFile(file).metadata.row_group(1)
    pictures = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == f"{KEY}.bytes")
    content = bytearray(file.read_bytes())
    content[pictures.data_page_offset : pictures.data_page_offset + 20] = bytes(20)
    file.write_bytes(content)
    assert clips_of_one(tmp_path, 1, 0, 2).tolist() == [0, 5]
    with pytest.raises(UnreadableError):
        clips_of_one(tmp_path, 0, 0, 12)


def clips_of_one(root: Path, episode: int, first: int, last: int) -> torch.Tensor:
    """Grey levels of one episode's frames."""
    return find_recordings(root).recordings[episode].read(first, last, SIDE)[:, 0, 0, 0]


def test_broken_pictures_in_tables_are_skipped(tmp_path: Path) -> None:
    table = columns()
    table[KEY][15]["bytes"] = b"no picture"  # in the second episode
    table[KEY][25]["bytes"] = None  # in the third
    found = find_recordings(write(tmp_path, table=table))
    clips = Clips(ClipConfig(), found, FRAMES, STEPS, SIDE)
    clips.sample(256)
    assert set(clips.skipped) == {f"{tmp_path} episode {number} from frame 0" for number in (1, 2)}
    assert all(why.startswith(f"{KEY}: ") for why in clips.skipped.values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": ["action"]}, r'features: expected each feature\'s name with its dtype, got \["action"\]'),
        ({"features": {KEY: {"dtype": 3}}}, "features: expected each feature's name with its dtype"),
        ({"features": {"action": {"dtype": "float32"}}}, "features: expected pictures, .*video or image"),
        ({"fps": None}, "fps: expected a number above 0, got null"),
        ({"fps": "10"}, 'fps: expected a number above 0, got "10"'),
        ({"fps": 0}, "fps: expected a number above 0, got 0"),
        ({"chunks_size": 0}, "chunks_size: expected a whole number above 0, got 0"),
        ({"chunks_size": "1000"}, "chunks_size: expected a whole number above 0"),
        ({"video_path": 3}, "expected video_path to say where videos are, .*, got 3"),
        ({"video_path": "videos/{episode"}, "expected video_path to say where videos are"),
        ({"video_path": "videos/{camera}.mp4"}, "expected video_path to say where videos are"),
    ],
)
def test_a_wrong_description_is_named(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}/meta/info\.json.*{sentence}"):
        find_recordings(write(tmp_path, "video", **changes))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_description_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (write(tmp_path) / "meta" / "info.json").write_text(content)
    with pytest.raises(ValueError, match=r"info\.json does not describe a LeRobot data set"):
        find_recordings(tmp_path)


@pytest.mark.parametrize("start", [None, -1.0, float("inf")])
def test_an_episode_without_its_place_is_skipped_alone(tmp_path: Path, start: float | None) -> None:
    write_places(write(tmp_path, "video"), [0.0, start, 2.2])
    found = find_recordings(tmp_path)
    assert [one.name for one in found.recordings] == [f"{tmp_path} episode 0", f"{tmp_path} episode 2"]
    assert list(found.skipped) == [f"{tmp_path} episode 1"]
    assert "does not say in which video it is" in found.skipped[f"{tmp_path} episode 1"]


@pytest.mark.parametrize("index", ['"zero"', "null", "-1", "[0]"])
def test_tasks_whose_number_is_none_are_skipped(tmp_path: Path, index: str) -> None:
    tasks = write(tmp_path) / "meta" / "tasks.jsonl"
    tasks.write_text(f'{{"task_index": {index}, "task": "lift the cube"}}\n')
    found = find_recordings(tmp_path)
    assert found.sentences == () and len(found.recordings) == 3
    assert "expected task_index to be a whole number from 0" in found.skipped[str(tasks)]


def test_an_episode_with_broken_rows_is_skipped_alone(tmp_path: Path) -> None:
    """Rows of 1 and of 3 numbers are as many in all as two rows of 2, and must not be taken for them."""
    table = columns()
    table["action"][3:5] = [[1.0], [1.0, 2.0, 3.0]]
    found = find_recordings(write(tmp_path, table=table))
    assert found.skipped == {f"{tmp_path} episode 0": "its action is not equally many numbers in every row"}
    np.testing.assert_array_equal(found.recordings[0].action, [[t, -t] for t in range(9)])


def test_rewards_of_two_numbers_are_skipped(tmp_path: Path) -> None:
    table = columns()
    table["next.reward"] = [[reward, 0.0] for reward in table["next.reward"]]
    found = find_recordings(write(tmp_path, table=table))
    assert not found.recordings and len(found.skipped) == 3
    assert set(found.skipped.values()) == {"its next.reward has 2 numbers in a row: expected one"}


@pytest.mark.parametrize("rows", [0, None])
def test_a_data_set_without_frames_is_named(tmp_path: Path, rows: int | None) -> None:
    write(tmp_path)
    file = tmp_path / "data" / "chunk-000" / "file-000.parquet"
    if rows is None:
        file.unlink()
    else:
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).slice(0, rows), file)
    with pytest.raises(ValueError, match=rf"nothing to draw clips from \({tmp_path}/data.*it holds no (frames|tables)"):
        Clips(ClipConfig(), find_recordings(tmp_path), FRAMES, STEPS, SIDE)


def test_whole_numbers_are_actions_too(tmp_path: Path) -> None:
    table = columns()
    table["action"] = [t % 4 for length in LENGTHS for t in range(length)]
    features = {name: {"dtype": kind} for name, kind in {KEY: "image", "action": "int64"}.items()}
    found = find_recordings(write(tmp_path, table=table, features=features))
    assert Clips(ClipConfig(), found, FRAMES, STEPS, SIDE).has_action
    for one, length in zip(found.recordings, LENGTHS, strict=True):
        np.testing.assert_array_equal(one.action, (np.arange(length - 1) % 4).reshape(-1, 1))


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("frame_index", {5: 7}, "its row 5 is frame 7 by its frame_index"),
        ("frame_index", {0: 1}, "its row 0 is frame 1 by its frame_index"),
        ("timestamp", {6: 0.9}, "its row 6 is frame 9 by its timestamp"),
        ("timestamp", {3: None}, "its row 3 is frame nan by its timestamp"),
    ],
)
def test_rows_that_are_not_the_frames_are_skipped(tmp_path: Path, name: str, change: dict, sentence: str) -> None:
    """Here rows were taken out, and the video's frames were not."""
    table = columns()
    steps = [t if name == "frame_index" else t / 10 + 0.002 for length in LENGTHS for t in range(length)]
    table[name] = [change.get(row, step) for row, step in enumerate(steps)]
    kinds = {KEY: "image", name: "float32" if name == "timestamp" else "int64"}
    features = {feature: {"dtype": kind} for feature, kind in kinds.items()}
    found = find_recordings(write(tmp_path, table=table, features=features))
    assert len(found.recordings) == 2
    assert found.skipped == {f"{tmp_path} episode 0": f"{sentence}: expected a row for each frame"}


def test_an_episode_whose_rows_lie_apart_is_named(tmp_path: Path) -> None:
    table = columns()
    table["episode_index"] = [0] * 12 + [1] * 10 + [0] * 9
    found = find_recordings(write(tmp_path, table=table))
    assert len(found.recordings) == 2 and found.skipped[f"{tmp_path} episode 0"].startswith("its rows lie apart")


def test_pictures_stand_upright(tmp_path: Path) -> None:
    table, file = columns(), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise by a quarter to be upright, as phones write it
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[: SIDE // 2] = 200  # the upper half comes to lie on the right
    Image.fromarray(picture).save(file, "JPEG", exif=exif, quality=95)
    table[KEY][0] = {"bytes": file.getvalue(), "path": "0.jpg"}
    frame = find_recordings(write(tmp_path, table=table)).recordings[0].read(0, 1, SIDE)[0].float()
    assert frame[:, :, SIDE // 2 :].mean() > 150 > 50 > frame[:, :, : SIDE // 2].mean()


def test_a_snapshot_of_the_hub_is_links(tmp_path: Path) -> None:
    """Its files are links to NAME/blobs; those of another folder are not followed."""
    root = write(tmp_path / "datasets--x" / "snapshots" / "abc")
    table = root / "data" / "chunk-000" / "file-000.parquet"
    blob = tmp_path / "datasets--x" / "blobs" / "f00"
    blob.parent.mkdir()
    table.rename(blob)
    table.symlink_to(blob)
    assert len(find_recordings(root).recordings) == 3
    blob.rename(tmp_path / "elsewhere")
    table.unlink()
    table.symlink_to(tmp_path / "elsewhere")
    found = find_recordings(root)
    assert not found.recordings and found.skipped == {str(table): f"{table} leads out of the data set's folder"}


@pytest.mark.filterwarnings("ignore")
def test_lerobot_reads_the_same(tmp_path: Path) -> None:
    """Held against the library, where it is installed: frames within what codecs lose, actions equal."""
    datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    features = {
        KEY: {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "int64", "shape": (2,), "names": None},
    }
    root = tmp_path / "data"
    theirs = datasets.LeRobotDataset.create("mindreel/test", 10, features, root=root, use_videos=True)
    for _ in range(2):
        for t in range(8):
            picture = np.full((64, 64, 3), 20 * t + 20, np.uint8)
            theirs.add_frame({KEY: picture, "action": np.array([t, -t]), "task": "push"})
        theirs.save_episode()
    if hasattr(theirs, "finalize"):
        theirs.finalize()
    theirs = datasets.LeRobotDataset("mindreel/test", root=root)
    found = find_recordings(root)
    frames = torch.cat([one.read(0, one.frames, 64) for one in found.recordings]).float() / 255
    expected = [theirs[index] for index in range(len(theirs))]
    torch.testing.assert_close(frames, torch.stack([row[KEY] for row in expected]), atol=0.02, rtol=0)
    for number, one in enumerate(found.recordings):
        actions = [row["action"].tolist() for row in expected if row["episode_index"] == number]
        np.testing.assert_array_equal(one.action, actions[:-1])
