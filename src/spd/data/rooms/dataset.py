"""Procedural rooms with exact depth: the data set that the package carries inside itself.

For tests, the demo and pre-training, where no real RGB-D frames are at hand. Each picture is a room of its own: a box
with doors, windows and furniture of simple shapes, lit and textured at random, seen whole by a random camera, or from
near: a table with things on it, a shelf, what lies within reach of a hand.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from spd.camera import Intrinsics
from spd.data.beginning import begin_data_set, end_data_set
from spd.data.rooms.near import sample_near_view
from spd.data.rooms.render import render
from spd.data.rooms.scene import Scene, sample_room_view, sample_scene
from spd.files import write_files

MANIFEST = "manifest.csv"
_COLUMNS = ("image", "depth", "split", "scene", "fx", "fy", "cx", "cy")
_SMALLEST = 32
_CHUNK = 8
"""Rooms that a worker draws between two reports of progress."""


class Room(NamedTuple):
    """One picture of a room, with the truth about it."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    depth_m: Float32[np.ndarray, "H W"]
    """z-depth along the optical axis in metres; every pixel has one."""
    intrinsics: Intrinsics


def render_room(seed: int, index: int, size: tuple[int, int] = (256, 320), near: float = 0.5) -> Room:
    """Draw room ``index`` of the data set ``seed``.

    Args:
        seed: the data set, at least 0.
        index: the room in it, at least 0.
        size: (height, width) of the picture in pixels. It changes the sampling only, never the room or the camera.
        near: probability of a view from near; the others show whole rooms. At 0 all are the rooms and cameras near
            NYU's of earlier versions.

    Raises:
        ValueError: a side of ``size`` is less than 32 pixels, or ``near`` is not between 0 and 1.

    Example:
        >>> room = render_room(0, 3, size=(48, 64))
        >>> room.image.shape, room.depth_m.shape
        ((48, 64, 3), (48, 64))
    """
    return _draw(seed, index, size, near)[0]


def _draw(seed: int, index: int, size: tuple[int, int], near: float) -> tuple[Room, Scene]:
    """The room and what it was drawn from."""
    _check_size(size)
    _check_near(near)
    rng = np.random.default_rng((seed, index))
    from_near = near > 0 and rng.random() < near
    sample = sample_near_view if from_near else sample_room_view if near > 0 else sample_scene
    scene = sample(rng)
    image, depth = render(scene, size, rng)
    return Room(image, depth.astype(np.float32), scene.camera.intrinsics(size)), scene


def write_rooms(
    output: Path,
    *,
    num: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 320),
    near: float = 0.5,
    val_fraction: float = 0.1,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a data set of rooms: ``rgb/*.jpg``, ``depth/*.png`` (16 bit, millimetres) and ``manifest.csv``.

    The same arguments write the same bytes, whatever the number of workers. The manifest comes last and at once, so a
    folder that has one is whole.

    Args:
        output: the folder; it is made where it is missing, and must not have a manifest yet.
        num: how many rooms.
        seed: which rooms; data sets of different seeds share none.
        size: (height, width) of the pictures in pixels.
        near: probability that a picture is a view from near, see :func:`render_room`.
        val_fraction: part of the rooms, rounded up, that is split ``val``: the last ones. At least one stays ``train``.
        workers: processes that draw; the number of usable CPUs if None. With 1 it all happens in this process.
        progress: called with the number of rooms done since its last call.

    Returns:
        The manifest's path.

    Raises:
        ValueError: the folder has a manifest or files of something else, or an argument is out of its range.
    """
    _check_size(size)
    _check_near(near)
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction must be at least 0 and less than 1, got {val_fraction}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    output = Path(output)
    if (manifest := output / MANIFEST).exists():
        raise ValueError(f"{output} already holds a data set ({MANIFEST}); give another folder")
    begin_data_set(output)
    for folder in ("rgb", "depth"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    first_val = num - min(math.ceil(num * val_fraction - 1e-9), num - 1)
    rows: list[dict[str, str]] = []
    for written in _written(partial(_write_chunk, output, seed, size, near), num, workers or _usable_cpus()):
        rows += written
        if progress is not None:
            progress(len(written))
    rows.sort(key=lambda row: row["image"])
    for index, row in enumerate(rows):
        row["split"] = "train" if index < first_val else "val"
    write_files({manifest: _manifest_bytes(rows)})
    end_data_set(output)
    return manifest


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < _SMALLEST:
        raise ValueError(f"size must be (height, width) of at least {_SMALLEST} pixels each, got {tuple(size)}")


def _check_near(near: float) -> None:
    if not 0 <= near <= 1:
        raise ValueError(f"near must be a share between 0 and 1, got {near}")


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _written(write: Callable[[range], list[dict[str, str]]], num: int, workers: int) -> Iterator[list[dict[str, str]]]:
    """The rows of chunk after chunk of rooms, as they are done."""
    chunks = [range(start, min(start + _CHUNK, num)) for start in range(0, num, _CHUNK)]
    if min(workers, len(chunks)) == 1:
        yield from map(write, chunks)
        return
    with ProcessPoolExecutor(min(workers, len(chunks))) as pool:
        try:
            for done in as_completed([pool.submit(write, chunk) for chunk in chunks]):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_chunk(output: Path, seed: int, size: tuple[int, int], near: float, indices: range) -> list[dict[str, str]]:
    """Draw and write some rooms; the manifest's row of each, all but its split."""
    rows: list[dict[str, str]] = []
    for index in indices:
        room, scene = _draw(seed, index, size, near)
        # The sensor's noise does not compress: as PNG it takes 7 ms to write, as JPEG half a millisecond.
        quality = scene.sensor.jpeg_quality
        image, depth = f"rgb/{index:05d}.jpg", f"depth/{index:05d}.png"
        Image.fromarray(room.image).save(output / image, quality=quality, subsampling=0 if quality == 95 else 2)
        millimetres = np.round(room.depth_m * np.float32(1000)).astype(np.uint16)
        Image.fromarray(millimetres).save(output / depth, compress_level=1)
        camera = {name: f"{value:.4f}" for name, value in room.intrinsics._asdict().items()}
        rows.append({"image": image, "depth": depth, "scene": scene.kind, **camera})
    return rows


def _manifest_bytes(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([row[name] for name in _COLUMNS] for row in rows)
    return text.getvalue().encode()
