"""The manifest of a data set: ``manifest.csv`` → frames.

A data set is a folder with ``manifest.csv``, whose columns are ``image,depth,split`` and optionally ``fx,fy,cx,cy``
(pixels of the stored image), ``camera``, ``scene``, ``depth_scale`` and ``depth_step`` (see :class:`Frame`). Paths are
relative to the folder.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from spd.camera import Intrinsics
from spd.messages import one_line

MANIFEST = "manifest.csv"
REQUIRED_COLUMNS = ("image", "depth", "split")
CAMERA_COLUMNS = ("fx", "fy", "cx", "cy")
OPTIONAL_COLUMNS = (*CAMERA_COLUMNS, "camera", "scene", "depth_scale", "depth_step")
CANONICAL_CAMERA = "canonical"
"""In the column ``camera`` of a frame without intrinsics: training may take it to have the canonical focal length."""


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
    is_canonical: bool = False
    """Without intrinsics: the camera may be taken to have the canonical focal length."""

    @property
    def has_scale(self) -> bool:
        """Whether metres can be learnt from it: its camera is known, or said to be the canonical one."""
        return self.intrinsics is not None or self.is_canonical


def read_splits(root: Path) -> frozenset[str]:
    """The splits that ``root/manifest.csv`` names; that the frames' files exist is not checked.

    Raises:
        ValueError: no manifest, or a damaged one.
    """
    path = _manifest_of(root)
    rows = _rows(path)
    _, columns = next(rows, (0, []))
    _check_columns(path, columns)
    number = columns.index("split")
    return frozenset(cells[number] for _, cells in rows if len(cells) == len(columns))


def read_manifest(root: Path, splits: Sequence[str] | None = None) -> list[Frame]:
    """The frames of ``root/manifest.csv`` that belong to ``splits`` (None: all), in the manifest's order.

    Every line is checked; that the files exist is checked for the asked splits only.

    Raises:
        ValueError: no manifest, a missing, unknown or repeated column, a line with a wrong number of cells or a
            value that is no such number, a half-given camera, a missing file, an asked split without a frame.
    """
    path = _manifest_of(root)
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


def _manifest_of(root: Path) -> Path:
    path = Path(root) / MANIFEST
    if not path.is_file():
        raise ValueError(f"a data set is a folder with {MANIFEST}, got {root} without one")
    return path


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
        is_canonical=_parse_is_canonical(cells),
    )


def _parse_is_canonical(cells: dict[str, str]) -> bool:
    said = cells.get("camera", "")
    if said not in ("", CANONICAL_CAMERA):
        raise ValueError(f"camera must be {CANONICAL_CAMERA} or empty, got {said!r}")
    if said and any(cells.get(name) for name in CAMERA_COLUMNS):
        raise ValueError(f"camera {CANONICAL_CAMERA} is for frames without {', '.join(CAMERA_COLUMNS)}, got both")
    return bool(said)


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
