"""The Hugging Face copy ``sayakpaul/nyu_depth_v2``: tar shards of HDF5 files, or the folder they were unpacked to.

``train-000000.tar`` to ``train-000011.tar`` hold 47,584 frames, ``val-000000.tar`` and ``val-000001.tar`` the 654 of
the test set: FastDepth's ``train/TAKE/00001.h5`` and ``val/official/00001.h5``, each with ``rgb`` (3, 480, 640) uint8
and ``depth`` (480, 640) float32 metres. Its loading script is not needed.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from spd.data.nyu.pictures import encode_png, to_millimetres
from spd.data.nyu.source import SIZE, TEST_FRAMES, NyuFrame, NyuSource, Task, natural_key, room_type, safe_parts
from spd.messages import one_line

_PUBLISHED = {"train": 47_584, "test": TEST_FRAMES}
_SPLIT_OF = {"train": "train", "val": "test"}
"""What the copy calls a split, and what it is."""


class _Member(NamedTuple):
    """One HDF5 file, in a shard or in a folder."""

    shard: Path | None
    name: str
    """Its name in the shard, or its path."""
    split: str
    parts: tuple[str, ...]
    """Take and file name; the latter alone where there is no folder."""


def recognises(path: Path) -> bool:
    """Whether this is a shard, or a folder of shards or of the files unpacked from them."""
    if path.is_file():
        return path.suffix == ".tar"
    return bool(_shards(path)) or next(_unpacked(path), None) is not None


def open_hf(path: Path) -> NyuSource:
    """Plan the import of the shards, whose tables of contents are read to the end.

    Args:
        path: folder with the shards (or ``data`` with them in it), one shard, or a folder with the unpacked files.

    Raises:
        ValueError: a shard is cut short, a name leads outside, a frame comes twice or belongs to no known split.
    """
    members = [member for shard in _shards(path) for member in _list_shard(shard)]
    if not members and path.is_dir():
        members = [_unpacked_member(file) for file in _unpacked(path)]
    found: dict[Path, _Member] = {}
    for member in members:
        image = Path("rgb", member.split, *member.parts).with_suffix(".png")
        if image in found:
            raise ValueError(f"{member.shard or path} has {member.name}, which {found[image].shard or path} has too")
        found[image] = member
    order = sorted(found, key=natural_key)
    frames = tuple(_frame(image, found[image]) for image in order)
    tasks = partial(_tasks, frames, [found[image] for image in order])
    return NyuSource(layout="hf", path=path, frames=frames, published=_PUBLISHED, tasks=tasks)


def _shards(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for folder in (path, path / "data"):
        if shards := sorted(file for split in _SPLIT_OF for file in folder.glob(f"{split}-*.tar")):
            return shards
    return []


def _unpacked(path: Path) -> Iterator[Path]:
    return (file for split in _SPLIT_OF for file in path.glob(f"**/{split}/*/*.h5"))


def _unpacked_member(file: Path) -> _Member:
    return _Member(None, str(file), _SPLIT_OF[file.parts[-3]], file.parts[-2:])


def _list_shard(shard: Path) -> Iterator[_Member]:
    prefix = shard.name.partition("-")[0]
    if prefix not in _SPLIT_OF:
        raise ValueError(f"a shard must be named train-000000.tar or val-000000.tar, got {shard}")
    with _opened(shard) as archive:
        for entry in _entries(shard, archive):
            if entry.name.endswith(".h5"):
                yield _Member(shard, entry.name, _SPLIT_OF[prefix], safe_parts(shard, entry.name)[-2:])


@contextlib.contextmanager
def _opened(shard: Path) -> Iterator[tarfile.TarFile]:
    with contextlib.ExitStack() as stack:
        with _explained(shard):
            archive = stack.enter_context(tarfile.open(shard, "r:"))
        yield archive


def _entries(shard: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a shard; reading on to the end is what finds one that is cut short."""
    while True:
        with _explained(shard):
            entry = archive.next()
        if entry is None:
            return
        if entry.isfile():
            yield entry


@contextlib.contextmanager
def _explained(shard: Path) -> Iterator[None]:
    """Turn tarfile's errors into one that names the file."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(
            f"cannot read {shard}, {shard.stat().st_size:,} bytes: {one_line(error)}; is the download complete?"
        ) from error


def _frame(image: Path, member: _Member) -> NyuFrame:
    # The test images all lie in the folder "official".
    scene = room_type(member.parts[0]) if member.split == "train" and len(member.parts) > 1 else None
    return NyuFrame(image, Path("depth", *image.parts[1:]), member.split, scene)


def _tasks(frames: Sequence[NyuFrame], members: Sequence[_Member], wanted: Sequence[int]) -> Iterator[Task]:
    index_of = {(members[index].shard, members[index].name): index for index in wanted}
    for shard in dict.fromkeys(shard for shard, _ in index_of):
        if shard is None:
            for (_, name), index in index_of.items():
                yield partial(_encode, frames[index], Path(name).read_bytes(), name)
            continue
        with _opened(shard) as archive:
            for entry in _entries(shard, archive):
                if (index := index_of.get((shard, entry.name))) is None:
                    continue
                with _explained(shard):
                    content = archive.extractfile(entry)
                    assert content is not None, "files only"
                    data = content.read()
                yield partial(_encode, frames[index], data, f"{shard} {entry.name}")


def _encode(frame: NyuFrame, data: bytes, name: str) -> Mapping[Path, bytes]:
    height, width = SIZE
    try:
        with h5py.File(io.BytesIO(data), "r") as content:
            image, depth_m = (np.asarray(content[key]) for key in ("rgb", "depth"))
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"cannot read {name}, {len(data):,} bytes: {one_line(error)}; expected rgb and depth"
        ) from error
    for key, array, shape, kind in (
        ("rgb", image, (3, height, width), np.uint8),
        ("depth", depth_m, (height, width), np.float32),
    ):
        if array.shape != shape or array.dtype != kind:
            raise ValueError(f"{name} must hold {key} {shape} of {np.dtype(kind)}, got {array.shape} of {array.dtype}")
    return {
        frame.image: encode_png(np.ascontiguousarray(image.transpose(1, 2, 0))),
        frame.depth: encode_png(to_millimetres(depth_m, name)),
    }
