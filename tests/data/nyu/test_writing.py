"""Interrupted, repeated and misdirected imports, on a source that costs nothing to read."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from spd.data.nyu import NyuFrame, NyuSource, write_nyu
from spd.data.nyu.source import Task


class Recorder:
    """A source of ``num`` frames that notes which of them are read; those of ``broken`` cannot be."""

    def __init__(self, num: int = 20, broken: Sequence[int] = (), variant: str = "depth") -> None:
        self.read: list[int] = []
        self.broken = broken
        self.lock = threading.Lock()
        self.frames = tuple(
            NyuFrame(Path(f"rgb/a/{k:02d}.png"), Path(f"{variant}/a/{k:02d}.png"), "train" if k % 4 else "test")
            for k in range(num)
        )
        self.source = NyuSource(
            layout="labeled", path=Path("x"), frames=self.frames, published={"train": 1, "test": 1}, tasks=self.tasks
        )

    def tasks(self, wanted: Sequence[int]) -> Iterator[Task]:
        return (partial(self.make, index) for index in wanted)

    def make(self, index: int) -> Mapping[Path, bytes]:
        with self.lock:
            self.read.append(index)
        if index in self.broken:
            raise ValueError(f"frame {index} is damaged")
        return {self.frames[index].image: b"image %d" % index, self.frames[index].depth: b"depth %d" % index}


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(output: Path) -> dict[str, bytes]:
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_all_frames_are_written_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    done: list[int] = []
    assert write_nyu(recorder.source, tmp_path / "new/out", val=3, progress=done.append) == {
        "train": 12,
        "val": 3,
        "test": 5,
    }
    assert sum(done) == 20
    rows = rows_of(tmp_path / "new/out")
    assert [row["image"] for row in rows] == [frame.image.as_posix() for frame in recorder.frames]
    files = files_of(tmp_path / "new/out")
    assert len(files) == 41
    assert all(files[row["depth"]] == b"depth %d" % k for k, row in enumerate(rows))


def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done = 0

    def interrupt(number: int) -> None:
        nonlocal done
        done += number
        if done == 3:
            raise KeyboardInterrupt

    first = Recorder(num=60)
    with pytest.raises(KeyboardInterrupt):
        write_nyu(first.source, tmp_path, progress=interrupt)
    finished = set(first.read)
    assert 3 <= len(finished) < 60
    assert "manifest.csv" not in files_of(tmp_path)
    # One frame stopped between its files, one was left empty by a power cut.
    (tmp_path / "depth/a/00.png").unlink()
    (tmp_path / "rgb/a/01.png").write_bytes(b"")
    second, calls = Recorder(num=60), []
    write_nyu(second.source, tmp_path, progress=calls.append)
    assert sorted(second.read) == sorted(set(range(60)) - finished | {0, 1})
    assert (calls[0], sum(calls)) == (len(finished) - 2, 60)
    assert files_of(tmp_path)["rgb/a/01.png"] == b"image 1"
    assert not list(tmp_path.rglob(".*"))


def test_a_damaged_frame_leaves_the_others_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frame 7 is damaged"):
        write_nyu(Recorder(broken=(7, 19)).source, tmp_path)
    files = files_of(tmp_path)
    assert "manifest.csv" not in files
    assert {f"rgb/a/{k:02d}.png" for k in range(7)} <= set(files)
    assert "rgb/a/07.png" not in files
    assert not list(tmp_path.rglob(".*"))


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    write_nyu(Recorder().source, tmp_path)
    before = files_of(tmp_path)
    again = Recorder()
    write_nyu(again.source, tmp_path)
    assert again.read == []
    assert files_of(tmp_path) == before


def test_what_was_lost_is_written_again(tmp_path: Path) -> None:
    write_nyu(Recorder().source, tmp_path)
    before = files_of(tmp_path)
    (tmp_path / "rgb/a/05.png").unlink()
    again = Recorder()
    write_nyu(again.source, tmp_path)
    assert again.read == [5]
    assert files_of(tmp_path) == before


def test_a_part_may_be_completed_but_not_replaced_by_less(tmp_path: Path) -> None:
    write_nyu(Recorder(num=8).source, tmp_path)
    more = Recorder(num=20)
    write_nyu(more.source, tmp_path, val=2)
    assert sorted(more.read) == list(range(8, 20))
    assert len(rows_of(tmp_path)) == 20
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=r"manifest.csv is of another data set: it lists rgb/a/08.png, which"):
        write_nyu(Recorder(num=8).source, tmp_path)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        b"image,depth,split\nrgb/mine.png,depth/mine.png,train\n",
        b"image,depth,split\nrgb/a/00.png,depth/mine.png,train\n",
        b"name\nx\n",
        b"\xff\xfe\x00",
    ],
)
def test_the_manifest_of_another_data_set_is_kept(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    recorder = Recorder()
    with pytest.raises(ValueError, match=r"is of another data set.*give another folder"):
        write_nyu(recorder.source, tmp_path)
    assert files_of(tmp_path) == {"manifest.csv": content}
    assert recorder.read == []


def test_files_on_another_drive_are_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relpath(path: Path, start: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", relpath)
    frame = NyuFrame(tmp_path / "x.jpg", tmp_path / "x.png", "train")
    source = NyuSource(
        layout="bts", path=tmp_path, frames=(frame,), published={"train": 1}, tasks=lambda wanted: iter([dict])
    )
    write_nyu(source, tmp_path / "out")
    assert rows_of(tmp_path / "out")[0]["image"] == (tmp_path / "x.jpg").as_posix()


def test_a_source_that_gives_too_little_is_found_out(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.make = lambda index: {}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="lacks files of 15 train and 5 test frames just written"):
        write_nyu(recorder.source, tmp_path)
    assert files_of(tmp_path) == {}


def test_few_frames_are_in_memory_at_once(tmp_path: Path) -> None:
    """Tasks are drawn as they are run: a shard is never read as a whole."""
    recorder = Recorder(num=300)
    ahead: list[int] = []

    def tasks(wanted: Sequence[int]) -> Iterator[Task]:
        for drawn, index in enumerate(wanted):
            ahead.append(drawn - finished)
            yield partial(recorder.make, index)

    finished = 0

    def progress(number: int) -> None:
        nonlocal finished
        finished += number

    source = NyuSource(layout="hf", path=Path("x"), frames=recorder.frames, published={}, tasks=tasks)
    write_nyu(source, tmp_path, progress=progress)
    assert max(ahead) <= 20


def test_a_folder_that_is_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OSError, match="out"):
        write_nyu(Recorder().source, tmp_path / "out")
