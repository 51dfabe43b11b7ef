"""The labelled set: ``nyu_depth_v2_labeled.mat`` (MATLAB v7.3, which is HDF5) and ``splits.mat`` (MATLAB v5).

MATLAB stores columns first, so HDF5 shows every array transposed: ``images`` is (1449, 3, 640, 480) uint8 and
``depths`` (holes filled) and ``rawDepths`` (0 = missing) are (1449, 640, 480) float32 metres. The splits count from 1.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from jaxtyping import Float32, UInt8
from scipy.io.matlab import MatReadError

from spd.data.nyu.pictures import encode_png, to_millimetres
from spd.data.nyu.source import SIZE, TEST_FRAMES, NyuFrame, NyuSource, Task
from spd.messages import one_line

NAME = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
DEPTHS = {"filled": "depths", "raw": "rawDepths"}
"""What ``--depth`` says, and the array's name in the file."""
_PUBLISHED = {"train": 795, "test": TEST_FRAMES}


def recognises(path: Path) -> bool:
    """Whether this is the labelled set's file or a folder that has it."""
    return path.suffix == ".mat" if path.is_file() else (path / NAME).is_file()


def open_labeled(path: Path, depth: str = "filled") -> NyuSource:
    """Plan the import of the labelled set; nothing but its sizes, splits and kinds of rooms is read yet.

    Args:
        path: ``nyu_depth_v2_labeled.mat`` or its folder; ``splits.mat`` lies beside it.
        depth: ``filled`` (hole-filled by the authors) or ``raw`` (as measured, projected to the colour image).

    Raises:
        ValueError: a file is missing, cut short or of another content than above, or a frame is in no split or in two.
    """
    mat = path if path.is_file() else path / NAME
    splits = mat.with_name(SPLITS)
    for file in (mat, splits):
        if not file.is_file():
            raise ValueError(f"the labelled set needs {NAME} and {SPLITS} in one folder, there is no {file}")
    with _opened(mat) as content:
        num = _check_arrays(mat, content, DEPTHS[depth])
        rooms = _rooms(mat, content, num)
    frames = tuple(
        NyuFrame(Path("rgb", f"{index:05d}.png"), Path(f"depth_{depth}", f"{index:05d}.png"), split, room)
        for index, (split, room) in enumerate(zip(_read_splits(splits, num), rooms, strict=True))
    )
    tasks = partial(_tasks, mat, DEPTHS[depth], frames)
    return NyuSource(layout="labeled", path=mat, frames=frames, published=_PUBLISHED, tasks=tasks)


def _tasks(mat: Path, depth: str, frames: Sequence[NyuFrame], wanted: Sequence[int]) -> Iterator[Task]:
    with _opened(mat) as content:
        images, depths = _array(mat, content, "images"), _array(mat, content, depth)
        for index in wanted:
            image, depth_m = _read(mat, images, index), _read(mat, depths, index)
            yield partial(_encode, frames[index], image, depth_m, f"{mat} {depth}[{index}]")


def _encode(
    frame: NyuFrame, image: UInt8[np.ndarray, "3 W H"], depth_m: Float32[np.ndarray, "W H"], name: str
) -> Mapping[Path, bytes]:
    return {
        frame.image: encode_png(np.ascontiguousarray(image.transpose(2, 1, 0))),
        frame.depth: encode_png(to_millimetres(depth_m.T, name)),
    }


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn h5py's errors into one that names the file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot read {path}, {path.stat().st_size:,} bytes: {one_line(error)}; expected HDF5 of 2.97 GB"
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with _explained(path):
        file = h5py.File(path, "r")
    with file:
        yield file


def _array(path: Path, content: h5py.File, name: str | h5py.Reference) -> h5py.Dataset:
    if isinstance(name, str) and name not in content:
        raise ValueError(f"{path} must hold the array {name}, it holds {', '.join(content) or 'nothing'}")
    with _explained(path):
        array = content[name]
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{path} must hold the array {name}, got {array}")
    return array


def _read(path: Path, array: h5py.Dataset, index: int | tuple[()] = ()) -> np.ndarray:
    with _explained(path):
        return array[index]


def _check_arrays(path: Path, content: h5py.File, depth: str) -> int:
    """The number of frames."""
    height, width = SIZE
    num = (_array(path, content, "images").shape or (0,))[0]
    for name, shape, kind in (("images", (3, width, height), np.uint8), (depth, (width, height), np.float32)):
        array = _array(path, content, name)
        if array.shape != (num, *shape) or array.dtype != kind:
            raise ValueError(
                f"{path} must hold {name} of shape {(num, *shape)} and {np.dtype(kind)}, "
                f"got {array.shape} of {array.dtype}"
            )
    return num


def _rooms(path: Path, content: h5py.File, num: int) -> list[str | None]:
    """The kind of room of each frame, which MATLAB's cell array refers to; None everywhere if a copy has it not."""
    if "sceneTypes" not in content:
        return [None] * num
    references = np.ravel(_read(path, _array(path, content, "sceneTypes")))
    if len(references) != num:
        raise ValueError(f"{path} must hold {num} sceneTypes, got {len(references)}")
    words = (np.ravel(_read(path, _array(path, content, reference))) for reference in references)
    return ["".join(map(chr, word)) or None for word in words]


def _read_splits(path: Path, num: int) -> list[str]:
    """The split of each frame."""
    try:
        content = scipy.io.loadmat(path)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        NotImplementedError,
        MatReadError,
        zlib.error,
        struct.error,
    ) as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}; expected a MATLAB v5 file") from error
    split_of: dict[int, str] = {}
    for split, name in (("train", "trainNdxs"), ("test", "testNdxs")):
        if name not in content:
            raise ValueError(f"{path} must hold trainNdxs and testNdxs, there is no {name}")
        for number in np.ravel(content[name]).tolist():
            if number not in range(1, num + 1) or number in split_of:
                raise ValueError(f"{path} must name each of the frames 1 to {num} once, got {number} in {name}")
            split_of[number] = split
    if len(split_of) < num:
        lacking = min(set(range(1, num + 1)) - set(split_of))
        raise ValueError(f"{path} must name each of the frames 1 to {num} once, {lacking} is in no split")
    return [split_of[number] for number in range(1, num + 1)]
