"""DenseDepth's ``nyu_data.zip``, or the folder it was unpacked to.

``data/nyu2_train.csv`` has 50,688 lines without a heading such as
``data/nyu2_train/living_room_0038_out/37.jpg,data/nyu2_train/living_room_0038_out/37.png``: image and 8-bit depth,
whose value v is v/255 · 10 m. ``data/nyu2_test.csv`` has the 654 test images with 16-bit depth in millimetres. Images
and test depth are taken byte for byte; training depth becomes a 16-bit PNG of the same values with 25.5 units per
metre, which says exactly the same.
"""

from __future__ import annotations

import contextlib
import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from spd.data.nyu.pictures import check_depth, check_image, decode_depth_8bit, encode_png
from spd.data.nyu.source import TEST_FRAMES, NyuFrame, NyuSource, Task, first_file, room_type, safe_parts, those_present
from spd.messages import one_line

ARCHIVE = "nyu_data.zip"
TRAIN_LIST, TEST_LIST = "nyu2_train.csv", "nyu2_test.csv"
_PUBLISHED = {"train": 50_688, "test": TEST_FRAMES}
_UNITS_PER_METRE = 25.5
_STEP = 1 / _UNITS_PER_METRE


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of the archive or of the folder, by their names relative to the lists."""

    path: Path
    exists: Callable[[str], bool]
    opened: Callable[[], AbstractContextManager[Callable[[str], bytes]]]
    """Gives what reads a file."""
    folder: Path | None = None
    """Where the files lie if they are unpacked."""


def recognises(path: Path) -> bool:
    """Whether this is the archive, or a folder with it or with what it holds."""
    return path.suffix == ".zip" if path.is_file() else bool((path / ARCHIVE).is_file() or _unpacked_list(path))


def open_densedepth(path: Path, allow_partial: bool = False) -> NyuSource:
    """Plan the import of DenseDepth's copy.

    Args:
        path: the archive, its folder, or the folder with the unpacked lists (or ``data`` with them in it).
        allow_partial: leave out what is missing in place of refusing it.

    Raises:
        ValueError: the archive is damaged or cut short, a list is missing, has a line of another form, names a path
            outside or a file that is not there.
    """
    files = _open_files(path)
    sources: list[tuple[str, str]] = []
    frames: list[NyuFrame] = []
    for split, name in (("train", TRAIN_LIST), ("test", TEST_LIST)):
        if not files.exists(name):
            if allow_partial:
                continue
            raise ValueError(f"there is no {name} in {files.path}; --allow-partial imports what there is")
        pairs = _read_list(files, name)
        kept = [pairs[index] for index in those_present(files.path, pairs, files.exists, allow_partial)]
        sources += kept
        frames += [_frame(files, split, *pair) for pair in kept]
    tasks = partial(_tasks, files, tuple(frames), sources)
    return NyuSource(layout="densedepth", path=files.path, frames=tuple(frames), published=_PUBLISHED, tasks=tasks)


def _unpacked_list(path: Path) -> Path | None:
    return first_file(path / folder / TRAIN_LIST for folder in ("", "data", "nyu_data/data"))


def _open_files(path: Path) -> _Files:
    archive = path if path.is_file() else path / ARCHIVE
    if not archive.is_file():
        if (train_list := _unpacked_list(path)) is None:
            raise ValueError(f"expected {ARCHIVE} or the folder with {TRAIN_LIST} that it unpacks to, got {path}")
        folder = train_list.parent.resolve()
        return _Files(
            path=path,
            exists=lambda name: (folder / name).is_file(),
            opened=lambda: contextlib.nullcontext(lambda name: (folder / name).read_bytes()),
            folder=folder,
        )
    with _opened_zip(archive) as content:
        names = frozenset(content.namelist())
    lists = (name for name in sorted(names) if PurePosixPath(name).name in (TRAIN_LIST, TEST_LIST))
    base = next(lists, "").rpartition("nyu2_")[0]
    return _Files(path=archive, exists=lambda name: base + name in names, opened=partial(_reader, archive, base))


@contextlib.contextmanager
def _opened_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        content = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"cannot read {archive}, {archive.stat().st_size:,} bytes: {one_line(error)}; is the download complete?"
        ) from error
    with content:
        yield content


@contextlib.contextmanager
def _reader(archive: Path, base: str) -> Iterator[Callable[[str], bytes]]:
    with _opened_zip(archive) as content:

        def read(name: str) -> bytes:
            try:
                return content.read(base + name)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
                raise ValueError(f"cannot read {base + name} in {archive}: {one_line(error)}") from error

        yield read


def _read_list(files: _Files, name: str) -> list[tuple[str, str]]:
    try:
        with files.opened() as read:
            rows = list(csv.reader(read(name).decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} in {files.path} must be CSV in UTF-8: {error}") from error
    pairs: list[tuple[str, str]] = []
    for number, cells in enumerate(rows, start=1):
        if not cells:
            continue
        if len(cells) != 2:
            raise ValueError(f"{name} line {number} in {files.path}: expected image,depth, got {','.join(cells)!r}")
        # The lists name files as seen from the folder above them, which some copies do not have.
        image, depth = ("/".join(safe_parts(files.path, cell.strip().removeprefix("data/"))) for cell in cells)
        pairs.append((image, depth))
    return pairs


def _frame(files: _Files, split: str, image: str, depth: str) -> NyuFrame:
    train = split == "train"
    # A copy is named after its source, beneath folders that the source does not have.
    return NyuFrame(
        image=files.folder / image if files.folder else Path("rgb", image),
        depth=files.folder / depth if files.folder and not train else Path("depth", depth).with_suffix(".png"),
        split=split,
        scene=room_type(PurePosixPath(image).parent.name) if train else None,
        depth_scale=_UNITS_PER_METRE if train else 1000.0,
        depth_step=_STEP if train else 0.0,
    )


def _tasks(
    files: _Files, frames: Sequence[NyuFrame], sources: Sequence[tuple[str, str]], wanted: Sequence[int]
) -> Iterator[Task]:
    with files.opened() as read:
        for index in wanted:
            image, depth = sources[index]
            yield partial(_convert, files.path, frames[index], sources[index], read(image), read(depth))


def _convert(path: Path, frame: NyuFrame, names: tuple[str, str], image: bytes, depth: bytes) -> Mapping[Path, bytes]:
    image_name, depth_name = (f"{path} {name}" for name in names)
    check_image(image, image_name)
    if frame.split == "train":
        depth = encode_png(decode_depth_8bit(depth, depth_name).astype(np.uint16))
    else:
        check_depth(depth, depth_name)
    return {place: data for place, data in ((frame.image, image), (frame.depth, depth)) if place in frame.written}
