"""The "sync" folder of BTS, 36,396 synchronised frames, with the lists that choose from it.

``nyudepthv2_train_files_with_gt.txt`` has 24,231 lines such as
``/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579``: image, 16-bit depth in millimetres, focal
length. The test list has 654, without the slash and relative to ``official_splits/test``. NeWCRFs' list
``nyudepthv2_train_files_with_gt_dense.txt`` has 36,253, with a hole-filled depth map where the focal length stood. The
files stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from spd.data.nyu.pictures import check_depth, check_image
from spd.data.nyu.source import TEST_FRAMES, NyuFrame, NyuSource, Task, first_file, room_type, those_present

TRAIN_LIST = "nyudepthv2_train_files_with_gt.txt"
DENSE_TRAIN_LIST = "nyudepthv2_train_files_with_gt_dense.txt"
TEST_LIST = "nyudepthv2_test_files_with_gt.txt"
_TRAIN_FOLDERS = ("", "sync", "train")
_TEST_FOLDERS = ("official_splits/test", "test", "", "../official_splits/test")


class _Lines(NamedTuple):
    """What a list says."""

    pairs: tuple[tuple[str, str], ...]
    """Image and depth, relative to the folder with the takes."""
    dense: bool
    """Whether it is NeWCRFs' list."""


def recognises(path: Path, lists: Path | None = None) -> bool:
    """Whether a folder, or the folder with its lists, has a list of training files."""
    return _train_list(lists or path) is not None


def open_bts(path: Path, lists: Path | None = None, allow_partial: bool = False) -> NyuSource:
    """Plan the import of the sync folder.

    Args:
        path: the folder with the takes, or the one above, which may have ``official_splits/test`` beside ``sync``.
        lists: folder of the lists, such as ``train_test_inputs`` of BTS; None is ``path``.
        allow_partial: leave out what is missing in place of refusing it.

    Raises:
        ValueError: a list is missing, has a line of another form, or names a file that is not there.
    """
    folder = lists or path
    train_list = _train_list(folder)
    if train_list is None:
        raise ValueError(
            f"there is no {TRAIN_LIST} in {folder}; --lists names the folder that has it (train_test_inputs of BTS)"
        )
    lines = _read_list(train_list)
    frames = _frames(path, train_list, lines, "train", allow_partial)
    if (test_list := folder / TEST_LIST).is_file():
        frames += _frames(path, test_list, _read_list(test_list), "test", allow_partial)
    elif not allow_partial:
        raise ValueError(f"there is no {TEST_LIST} in {folder}; --allow-partial imports the training frames alone")
    published = {"train": 36_253 if lines.dense else 24_231, "test": TEST_FRAMES}
    remarks = [f"training frames as {train_list} lists them"]
    if lines.dense:
        remarks.append(
            "it is NeWCRFs' list: depth is its second column, as measured; the third, hole-filled, is unused"
        )
    return NyuSource(
        layout="bts",
        path=path,
        frames=tuple(frames),
        published=published,
        tasks=partial(_tasks, tuple(frames)),
        remarks=tuple(remarks),
    )


def _train_list(folder: Path) -> Path | None:
    return first_file(folder / name for name in (TRAIN_LIST, DENSE_TRAIN_LIST))


def _read_list(path: Path) -> _Lines:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from error
    pairs: list[tuple[str, str]] = []
    dense = False
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) != 3 or not (_is_number(columns[2]) or columns[2].endswith(".png")):
            raise ValueError(f"{path} line {number}: expected image, depth and focal length, got {line!r}")
        dense = dense or not _is_number(columns[2])
        pairs.append((columns[0].lstrip("/"), columns[1].lstrip("/")))
    if not pairs:
        raise ValueError(f"{path} must list images and depth maps, got no line")
    return _Lines(tuple(pairs), dense)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _frames(path: Path, listed_in: Path, lines: _Lines, split: str, allow_partial: bool) -> list[NyuFrame]:
    takes = {name.split("/")[0] for name, _ in lines.pairs}
    candidates = [path / name for name in (_TRAIN_FOLDERS if split == "train" else _TEST_FOLDERS)]
    # A take that the training and the test set share by name would be found in either; no list has one.
    root = next((root for root in candidates if any((root / take).is_dir() for take in takes)), None)
    if root is None:
        if not allow_partial:
            tried = ", ".join(map(str, candidates))
            raise ValueError(f"{listed_in} lists {min(takes)}, which is in none of the folders {tried}")
        return []
    root = root.resolve()
    kept = those_present(root, lines.pairs, lambda name: (root / name).is_file(), allow_partial)
    return [
        NyuFrame(root / image, root / depth, split, room_type(PurePosixPath(image).parent.name))
        for image, depth in (lines.pairs[index] for index in kept)
    ]


def _tasks(frames: Sequence[NyuFrame], wanted: Sequence[int]) -> Iterator[Task]:
    return (partial(_check, frames[index]) for index in wanted)


def _check(frame: NyuFrame) -> Mapping[Path, bytes]:
    """Decode both files; there is nothing to write."""
    check_image(frame.image.read_bytes(), str(frame.image))
    check_depth(frame.depth.read_bytes(), str(frame.depth))
    return {}
