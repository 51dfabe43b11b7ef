"""RGB-D frames on disk: ``manifest.csv`` → frames, images and depths; everything that trains or evaluates reads this.

A data set is a folder with ``manifest.csv``, whose columns are ``image,depth,split`` and optionally ``fx,fy,cx,cy``
(pixels of the stored image), ``scene``, ``depth_scale`` and ``depth_step`` (see :class:`Frame`). Paths are relative
to the folder.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from spd.camera import Intrinsics
from spd.data.images import DECODING_ERRORS, one_line, read_image
from spd.data.images import to_rgb as to_rgb
from spd.files import read_npy

MANIFEST = "manifest.csv"
REQUIRED_COLUMNS = ("image", "depth", "split")
CAMERA_COLUMNS = ("fx", "fy", "cx", "cy")
OPTIONAL_COLUMNS = (*CAMERA_COLUMNS, "scene", "depth_scale", "depth_step")


class Frame(NamedTuple):
    """One line of a manifest."""

    image: Path
    depth: Path
    """16-bit greyscale PNG (0 = no measurement) or ``.npy`` of float metres."""
    split: str
    intrinsics: Intrinsics | None = None
    """Camera in pixels of the image as displayed (EXIF orientation applied)."""
    scene: str | None = None
    depth_scale: float = 1000.0
    """Units of the PNG per metre."""
    depth_step: float = 0.0
    """Quantisation step of the true depth, metres."""


class RGBDSample(NamedTuple):
    """A frame in memory."""

    image: UInt8[Tensor, "3 H W"]
    depth_m: Float[Tensor, "H W"]
    """Metres; 0 where there is no measurement."""
    intrinsics: Intrinsics | None = None
    depth_step: float = 0.0


class RGBDDataset(Dataset[RGBDSample]):
    """The frames of some splits of a data set, in the order of its manifest.

    Raises:
        ValueError: see :func:`read_manifest`; on access, an unreadable file or a depth of another size than its image.
    """

    def __init__(self, root: Path, splits: Sequence[str] | None = None) -> None:
        self.frames = read_manifest(root, splits)

    def keep(self, fraction: float) -> None:
        """Leave only this part of the frames, one at least, in their order: the first of one random order."""
        number = max(1, round(fraction * len(self.frames)))
        order = np.random.default_rng(0).permutation(len(self.frames))
        self.frames = [self.frames[index] for index in sorted(order[:number])]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> RGBDSample:
        frame = self.frames[index]
        image = read_image(frame.image)
        depth_m = read_depth(frame)
        if depth_m.shape != image.shape[:2]:
            raise ValueError(
                f"depth must have the size of its image, got {_size(depth_m)} in {frame.depth} "
                f"and {_size(image)} in {frame.image}"
            )
        return RGBDSample(
            torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(depth_m), frame.intrinsics, frame.depth_step
        )


def read_manifest(root: Path, splits: Sequence[str] | None = None) -> list[Frame]:
    """The frames of ``root/manifest.csv`` that belong to ``splits`` (None: all), in the manifest's order.

    Every line is checked; that the files exist is checked for the asked splits only.

    Raises:
        ValueError: no manifest, a missing, unknown or repeated column, a line with a wrong number of cells or a
            value that is no such number, a half-given camera, a missing file, an asked split without a frame.
    """
    path = Path(root) / MANIFEST
    if not path.is_file():
        raise ValueError(f"a data set is a folder with {MANIFEST}, got {root} without one")
    asked = None if splits is None else set(splits)
    exists = _FileIndex()
    frames: list[Frame] = []
    present: set[str] = set()
    rows = _rows(path)
    _, columns = next(rows, (0, []))
    _check_columns(path, columns)
    for line, cells in rows:
        if len(cells) != len(columns):
            raise ValueError(f"{path} line {line}: expected {len(columns)} cells, got {len(cells)}")
        try:
            frame = _parse_frame(Path(root), dict(zip(columns, cells, strict=True)))
        except ValueError as error:
            raise ValueError(f"{path} line {line}: {error}") from None
        present.add(frame.split)
        if asked is not None and frame.split not in asked:
            continue
        for file in (frame.image, frame.depth):
            if not exists(file):
                raise ValueError(f"{path} line {line}: there is no file {file}")
        frames.append(frame)
    if not present:
        raise ValueError(f"{path} has no frames")
    if asked is not None and (missing := sorted(asked - present)):
        raise ValueError(f"{path} has no frame in split {', '.join(missing)}; it has {', '.join(sorted(present))}")
    return frames


def read_depth(frame: Frame) -> Float[np.ndarray, "H W"]:
    """Depth in metres, float32; 0 where there is no measurement (also for NaN, infinite and negative values).

    ``depth_scale`` applies to PNG only; ``.npy`` holds metres.

    Raises:
        ValueError: an unreadable file, a PNG that is not 16-bit greyscale, an array that is not (H, W) floats.
    """
    if frame.depth.suffix.lower() == ".npy":
        try:
            values = read_npy(frame.depth)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read the depth {frame.depth}: {one_line(error)}") from error
        if values.ndim != 2 or values.dtype.kind != "f":
            raise ValueError(f"{frame.depth} must hold (H, W) floats, got {values.shape} of {values.dtype}")
        depth_m = values.astype(np.float32)
        return np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(0))
    try:
        with Image.open(frame.depth) as image:
            mode = image.mode
            values = np.array(image)
    except DECODING_ERRORS as error:
        raise ValueError(f"cannot read the depth {frame.depth}: {one_line(error)}") from error
    if not mode.startswith("I"):
        raise ValueError(f"{frame.depth} must be a 16-bit greyscale PNG, got PIL mode {mode}")
    return values.astype(np.float32) / np.float32(frame.depth_scale)


class _FileIndex:
    """Whether files exist, by listing each folder once: millions of frames cost no system call each."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def __call__(self, path: Path) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        # A name may be missing from the listing and yet open, where the file system ignores case.
        return name in self._names[folder] or os.path.isfile(path)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of a CSV file in UTF-8, with or without a byte-order mark; blank lines are left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be CSV in UTF-8: {one_line(error)}") from error


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    allowed = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    if unknown := [name for name in columns if name not in allowed]:
        raise ValueError(f"{path} has the unknown column {unknown[0]!r}; allowed are {', '.join(allowed)}")
    if missing := [name for name in REQUIRED_COLUMNS if name not in columns]:
        raise ValueError(f"{path} lacks the column {', '.join(missing)}; required are {', '.join(REQUIRED_COLUMNS)}")
    if len(set(columns)) != len(columns):
        raise ValueError(f"{path} names a column twice: {', '.join(columns)}")
    given = [name for name in CAMERA_COLUMNS if name in columns]
    if given and len(given) != len(CAMERA_COLUMNS):
        raise ValueError(f"{path} needs all of the columns {', '.join(CAMERA_COLUMNS)} or none, got {', '.join(given)}")


def _parse_frame(root: Path, cells: dict[str, str]) -> Frame:
    for name in REQUIRED_COLUMNS:
        if not cells[name]:
            raise ValueError(f"{name} is empty")
    depth = root / cells["depth"]
    if depth.suffix.lower() not in (".png", ".npy"):
        raise ValueError(f"depth must be a .png or .npy file, got {cells['depth']}")
    return Frame(
        image=root / cells["image"],
        depth=depth,
        split=cells["split"],
        intrinsics=_parse_camera(tuple(cells.get(name, "") for name in CAMERA_COLUMNS)),
        scene=cells.get("scene") or None,
        depth_scale=_parse_number("depth_scale", cells.get("depth_scale") or "1000", above=0.0),
        depth_step=_parse_number("depth_step", cells.get("depth_step") or "0", at_least=0.0),
    )


@lru_cache(maxsize=1024)
def _parse_camera(cells: tuple[str, ...]) -> Intrinsics | None:
    """Cached, since a data set has few cameras and many frames."""
    if not any(cells):
        return None
    if not all(cells):
        empty = [name for name, cell in zip(CAMERA_COLUMNS, cells, strict=True) if not cell]
        raise ValueError(f"intrinsics need all of {', '.join(CAMERA_COLUMNS)} or none, {', '.join(empty)} is empty")
    fx, fy, cx, cy = cells
    return Intrinsics(
        _parse_number("fx", fx, above=0.0),
        _parse_number("fy", fy, above=0.0),
        _parse_number("cx", cx),
        _parse_number("cy", cy),
    )


def _parse_number(name: str, cell: str, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > above and number >= at_least):
        bound = (
            f" above {above:g}" if above > -math.inf else f" of at least {at_least:g}" if at_least > -math.inf else ""
        )
        raise ValueError(f"{name} must be a number{bound}, got {cell!r}")
    return number


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
