"""Rows in files and on the screen."""

import json
import os
from pathlib import Path

import pytest

from mindreel.tables import check_out, print_table, write_rows


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    check_out("")
    check_out(str(tmp_path / "new" / "folder" / "rows.json"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    check_out(str(tmp_path / "file"))  # is replaced
    with pytest.raises(ValueError, match="is a folder: name a file in it, as in out="):
        check_out(str(tmp_path))
    with pytest.raises(ValueError, match=r"video=.*file/a.mp4 cannot be written: .*/file is a file"):
        check_out(str(tmp_path / "file" / "a.mp4"), "video")
    with pytest.raises(ValueError, match="at most 240 bytes, this one 305"):
        check_out("x" * 300 + ".json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="you may not write to"):
        check_out(str(tmp_path / "rows.json"))


def test_rows_are_written_whole_with_their_folder(tmp_path: Path) -> None:
    file = tmp_path / "a" / "rows.json"
    for rows in ([{"x": 1}, {"x": None}], []):
        write_rows(str(file), rows)
        assert json.loads(file.read_text()) == rows
    assert [one.name for one in file.parent.iterdir()] == ["rows.json"]


def test_a_table_aligns_numbers_and_leaves_gaps(capsys: pytest.CaptureFixture) -> None:
    print_table([{"name": "a", "value": 2.0}, {"name": "long", "value": 12_345.6}, {"name": "b"}], {
        "name": "name", "value": "value",
    })  # fmt: skip
    assert capsys.readouterr().out.splitlines() == ["  name   value", "  a       2.00", "  long  12,346", "  b"]
