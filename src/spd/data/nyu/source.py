"""What every layout of NYU Depth V2 is read into: frames that are planned before anything is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from spd.camera import Intrinsics

CAMERA = Intrinsics(fx=518.8579, fy=519.4696, cx=325.5824, cy=253.7362)
"""The colour camera, in pixels of 640x480, as the authors' calibration gives it; all four layouts share it."""
SIZE = (480, 640)
"""Height and width of every image and depth map."""
TEST_FRAMES = 654
"""The official test set, the same in every layout."""

_VAL_BLOCKS = 5
# kitchen_0028b, nyu_office_0 and living_room_0038_out are takes in a kitchen, an NYU office and a living room.
_TAKE = re.compile(r"(_\d+[a-z]?)+(_out)?$")


class NyuFrame(NamedTuple):
    """A line of the manifest to be."""

    image: Path
    """Absolute: a file of the source, left where it is. Relative: written beneath the output."""
    depth: Path
    """Absolute or relative, as ``image``."""
    split: str
    scene: str | None = None
    """Kind of room."""
    depth_scale: float = 1000.0
    """Units of the depth map per metre."""
    depth_step: float = 0.0
    """Quantisation step of the true depth, metres."""

    @property
    def written(self) -> tuple[Path, ...]:
        """The files of this frame that the import writes, relative to the output."""
        return tuple(path for path in (self.image, self.depth) if not path.is_absolute())


Task = Callable[[], Mapping[Path, bytes]]
"""Reads one frame of a source, checks it, and returns the files to write by their path relative to the output."""


@dataclass(frozen=True, kw_only=True)
class NyuSource:
    """One layout of NYU Depth V2 on disk, with all its frames known and none read."""

    layout: str
    path: Path
    frames: tuple[NyuFrame, ...]
    published: Mapping[str, int]
    """Frames of each split in the published set."""
    tasks: Callable[[Sequence[int]], Iterator[Task]]
    """One task for each of the asked indices into ``frames``, in any order. They are made in turn, to be called from
    any thread; each raises ``ValueError`` for a file that is damaged or is not what its layout has there."""
    remarks: tuple[str, ...] = ()
    """What the user should know of how the source was understood, a line each."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Frames of each split that the source holds."""
        found = Counter(frame.split for frame in self.frames)
        return {split: found[split] for split in self.published}


def check_counts(source: NyuSource, allow_partial: bool) -> None:
    """Compare the number of frames with the published set's.

    Raises:
        ValueError: there is no frame, or the numbers differ and ``allow_partial`` is false.
    """
    if not source.frames:
        raise ValueError(f"{source.path} holds no frame of layout {source.layout}")
    if source.counts != source.published and not allow_partial:
        raise ValueError(
            f"{source.path} holds {count_text(source.counts)} frames of layout {source.layout}, "
            f"the whole set has {count_text(source.published)}; is the download complete? "
            f"--allow-partial imports what there is"
        )


def count_text(counts: Mapping[str, int]) -> str:
    """The numbers of frames in words.

    Example:
        >>> count_text({"train": 24231, "test": 654})
        '24,231 train and 654 test'
    """
    *most, last = (f"{number:,} {split}" for split, number in counts.items())
    return f"{', '.join(most)} and {last}" if most else last


def those_present(
    source: Path, names: Sequence[tuple[str, str]], exists: Callable[[str], bool], allow_partial: bool
) -> list[int]:
    """Indices of the listed (image, depth) pairs of which both files exist.

    Raises:
        ValueError: some are missing and ``allow_partial`` is false; names the first and says how many.
    """
    missing = {index: name for index, pair in enumerate(names) for name in reversed(pair) if not exists(name)}
    if missing and not allow_partial:
        first = missing[min(missing)]
        raise ValueError(
            f"{source} lacks {first} and so on, files of {len(missing):,} of the {len(names):,} listed frames; "
            f"is the download complete? --allow-partial imports the other frames"
        )
    return [index for index in range(len(names)) if index not in missing]


def hold_out(frames: Sequence[NyuFrame], num: int) -> tuple[NyuFrame, ...]:
    """Make ``num`` training frames the split ``val``: five contiguous blocks, spread evenly.

    Neighbours show the same room, so the blocks are contiguous in the order of the files' names, whatever the order
    of a layout's list. Of the 795 labelled frames and with ``num`` = 100, these are the blocks of 20 at 70, 230, 390,
    550 and 710 that the recorded results validate on.

    Raises:
        ValueError: ``num`` is negative or leaves no frame to train on.
    """
    train = [index for index, frame in enumerate(frames) if frame.split == "train"]
    if num == 0:
        return tuple(frames)
    if not 0 < num < len(train):
        raise ValueError(f"val must be at least 0 and less than the {len(train):,} training frames, got {num}")
    train.sort(key=lambda index: natural_key(frames[index].image))
    chosen: set[int] = set()
    for start, size in _blocks(len(train), num):
        chosen.update(train[start : start + size])
    return tuple(frame._replace(split="val") if index in chosen else frame for index, frame in enumerate(frames))


def _blocks(total: int, num: int) -> Iterator[tuple[int, int]]:
    """(start, size) of disjoint blocks of ``num`` in ``total``: each in the middle of its fifth, as far as it fits."""
    fifth = total // _VAL_BLOCKS + 1
    left = num
    for block in range(_VAL_BLOCKS):
        size = num // _VAL_BLOCKS + (block < num % _VAL_BLOCKS)
        yield min(block * fifth + (fifth - size) // 2, total - left), size
        left -= size


def natural_key(path: Path | PurePosixPath) -> str:
    """Sorts names with numbers in the order of the numbers.

    Example:
        >>> sorted([Path("room/115.jpg"), Path("room/37.jpg")], key=natural_key)[0].name
        '37.jpg'
    """
    return re.sub(r"\d+", lambda digits: digits[0].zfill(8), path.as_posix())


def room_type(folder: str) -> str | None:
    """Kind of room, from the name of a folder with one take; None where there is no name.

    Example:
        >>> room_type("living_room_0038_out")
        'living_room'
    """
    return _TAKE.sub("", folder) or None


def safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of a name inside an archive or a list.

    Raises:
        ValueError: the name would lead out of the folder it belongs to.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts or name.startswith("/") or ".." in parts or any(sign in name for sign in "\\:\0"):
        raise ValueError(f"{archive} names {name!r}, which is no path inside its folder")
    return parts


def first_file(candidates: Iterable[Path]) -> Path | None:
    """The first of the paths that is a file; None if none is."""
    return next((path for path in candidates if path.is_file()), None)
