from __future__ import annotations

from pathlib import Path

import pytest

from spd.files import write_files


def test_files_are_written_and_replaced(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    second.write_bytes(b"old")
    write_files({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(("other", "error"), [("missing/b.txt", FileNotFoundError), ("folder", IsADirectoryError)])
def test_nothing_changes_where_one_cannot_be_written(other: str, error: type[OSError], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    first = tmp_path / "a.txt"
    first.write_bytes(b"old")
    with pytest.raises(error):
        write_files({first: b"new", tmp_path / other: b"2"})
    assert first.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]
