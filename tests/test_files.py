from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spd.files import remove_leftovers, replacing, require_free_or_own, staged_files, write_files


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


def test_leftovers_of_killed_writes_are_taken_away_and_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    script = (
        "import os, signal, sys; from pathlib import Path; from spd.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    (leftover,) = staged_files(path)
    assert leftover.read_bytes() == b"half"
    assert not path.exists()
    elsewhere = tmp_path / ".a.bin.anotherhost-1.tmp"
    elsewhere.write_bytes(b"under way")
    with replacing(path) as file:
        file.write(b"whole")
        # Of a write under way, in this process.
        remove_leftovers(tmp_path)
        assert len(staged_files(path)) == 2
    assert sorted(tmp_path.iterdir()) == [elsewhere, path]
    assert path.read_bytes() == b"whole"
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize(
    ("names", "is_refused"),
    [
        ((), False),
        ((".gitignore", "lost+found"), False),
        (("README.md",), True),
        (("README.md", "mine.json"), False),
        (("README.md", "sub/mine.npz"), False),
    ],
)
def test_somebody_elses_folder_is_refused(names: tuple[str, ...], is_refused: bool, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if is_refused:
        with pytest.raises(ValueError, match="--output must be a new or empty folder or one that holds a thing, got"):
            require_free_or_own(tmp_path, ("mine.json", "*/*.npz"), "a thing")
    else:
        require_free_or_own(tmp_path, ("mine.json", "*/*.npz"), "a thing")
    require_free_or_own(tmp_path / "missing", (), "a thing")
