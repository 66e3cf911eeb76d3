"""Files that are written whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindreel.files import replacing, write_text
from mindreel.names import check_name, nearest, similar


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".partial"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["rows.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_alone(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["rows.json"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first" and os.listdir(tmp_path) == ["a"]  # the outer one ends last


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "ü")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").read_bytes() == "ü".encode()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "a", "x")
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a", "x")
    assert os.listdir(tmp_path) == ["a"]


def test_small_modules_stay_small() -> None:
    heavy = "{'torch', 'pydantic', 'numpy'} & {*sys.modules}"
    code = f"import sys, mindreel.names, mindreel.files; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_near_names_are_suggested() -> None:
    names = ["encoder.body.depth", "encoder.rate", "seed", "task"]
    assert nearest("sede", names) == "did you mean 'seed'?"
    assert nearest("encoder.body.dept", names) == "did you mean 'encoder.body.depth'?"
    assert nearest("depth", names) == "did you mean 'encoder.body.depth'?"
    assert nearest("zzz", names) == "valid are: seed, task"
    assert nearest("x", []) == "there are none"
    assert nearest("x", ["a.b"]) == "valid are: a.b"
    assert nearest("q", [f"name{i:03}" for i in range(50)]).endswith("name039 and 10 more")
    assert similar("walker-wlk", {"walker-walk": 1, "reacher-easy": 2}) == ["walker-walk"] and similar("q", names) == []


def test_unknown_names_are_refused() -> None:
    check_name("vjepa", ["vjepa", "cnn"], "encoder")
    with pytest.raises(ValueError, match="^unknown encoder 'vjep': did you mean 'vjepa'\\?$"):
        check_name("vjep", {"vjepa": 1, "cnn": 2}, "encoder")
    with pytest.raises(ValueError, match="^a.yaml: unknown encoder 'x': valid are: cnn, vjepa$"):
        check_name("x", ["vjepa", "cnn"], "encoder", "a.yaml")
