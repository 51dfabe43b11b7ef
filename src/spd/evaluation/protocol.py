"""What a model is asked about each image, and its answers.

Questions are fixed by the image's name, so every model and every K gets the same; answers
are arrays, which :mod:`spd.evaluation.predictions` keeps in a file and :mod:`spd.evaluation.scores` scores.
``docs/evaluation.md`` says the same in words.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Real

from spd.camera import Intrinsics
from spd.data.manifest import Frame
from spd.data.rgbd import RGBDDataset
from spd.depth_range import EIGEN_DEPTH_RANGE, OPEN_DEPTH_RANGE, DepthRange

Crop = Literal["eigen", "none"]

PROTOCOL_VERSION = 2
"""Rises when figures of before and after cannot be compared. Version 1 had one depth range, that of crop eigen, for all
crops: figures of that crop are the same in both versions."""
POINTS_SEED = 1
"""Part of the seed of every image's points. It stays when the version rises for something else."""
NUM_SHARED_POINTS = 1024
"""Points per image that are asked in groups of K, the same for every K up to this."""
NUM_SINGLE_POINTS = 64
"""Points per image that are asked one by one."""
DENSE_STRIDE = 4
"""Of the dense questions: every fourth pixel in both directions."""

_EIGEN_SIZE = (480, 640)
_EIGEN_ROWS, _EIGEN_COLUMNS = slice(45, 471), slice(41, 601)


@runtime_checkable
class EncodesImages(Protocol):
    """What is evaluated: ``spd.Predictor``, or whatever else encodes an image into something that answers points."""

    def encode(self, image: np.ndarray, *, intrinsics: Any) -> Callable[[np.ndarray], np.ndarray]:
        """(H, W, 3) uint8 to a function from (K, 2) xy pixels to (K,) metres."""
        ...


class Asking(NamedTuple):
    """How many points are asked at once; ``None`` is the dense grid, asked in one go."""

    num_queries: int | None

    @property
    def name(self) -> str:
        """``"256"``, or ``"dense"``: the row of a table."""
        return "dense" if self.num_queries is None else str(self.num_queries)


class ImagePrediction(NamedTuple):
    """A model's answers about one image, as it gave them."""

    image: str
    """The image's path in its data set."""
    query_points: Float[np.ndarray, "N 2"]
    """xy pixels in the order asked."""
    true_m: Real[np.ndarray, "N"]
    predicted_m: Real[np.ndarray, "N"]
    seconds: float
    """For encoding the image and answering all questions; reading the file is not in it."""
    size: tuple[int, int]
    """(height, width) of the image in pixels."""
    scene: str = ""
    """The manifest's label; empty where it has none."""
    intrinsics: Intrinsics | None = None
    """The manifest's camera, in pixels of the image."""


class EncodedImage(NamedTuple):
    """A frame and what a model made of it, ready to be asked."""

    name: str
    """The image's path in its data set."""
    scene: Callable[[np.ndarray], np.ndarray]
    """(K, 2) xy pixels to (K,) metres."""
    depth_m: Float[np.ndarray, "H W"]
    """The truth; 0 where there is none."""
    valid_mask: Bool[np.ndarray, "H W"]
    """Which pixels may be asked; at least one."""
    encoding_s: float
    label: str
    """The manifest's ``scene``; empty where it has none."""
    intrinsics: Intrinsics | None


def askings(num_queries: Sequence[int], *, dense: bool = False) -> tuple[Asking, ...]:
    """The ways of asking for these K, and the dense one.

    Raises:
        ValueError: there is none, a K is below 1 or is named twice.
    """
    if not num_queries and not dense:
        raise ValueError("num_queries must name at least one number of points, got none")
    for number in num_queries:
        num_points_asked(number)
    if len(set(num_queries)) < len(num_queries):
        raise ValueError(f"num_queries must not repeat a number, got {' '.join(map(str, num_queries))}")
    return (*map(Asking, num_queries), *([Asking(None)] if dense else []))


def num_points_asked(num_queries: int) -> int:
    """Points that an image is asked in groups of ``num_queries``; every group is full.

    Raises:
        ValueError: ``num_queries`` is below 1.

    Example:
        >>> [num_points_asked(k) for k in (1, 64, 256, 1000, 1024, 4096)]
        [64, 1024, 1024, 1000, 1024, 4096]
    """
    if num_queries < 1:
        raise ValueError(f"num_queries must be at least 1, got {num_queries}")
    if num_queries == 1:
        return NUM_SINGLE_POINTS
    return num_queries * max(1, NUM_SHARED_POINTS // num_queries)


def depth_range_of(crop: Crop) -> DepthRange:
    """The range of true depth that goes with a crop where no other is named."""
    return EIGEN_DEPTH_RANGE if crop == "eigen" else OPEN_DEPTH_RANGE


def valid_pixels(
    depth_m: Real[np.ndarray, "H W"], crop: Crop, depth_range: DepthRange | None = None
) -> Bool[np.ndarray, "H W"]:
    """Pixels that may be asked: a true depth within the range, inside the crop.

    Args:
        depth_m: the truth in metres; 0 where there is none.
        crop: ``eigen``, or ``none`` for the whole image.
        depth_range: None is :func:`depth_range_of` the crop.

    Raises:
        ValueError: the crop is ``eigen`` and the depth is not 640x480, for which the crop is defined.
    """
    valid = (depth_range or depth_range_of(crop)).mask(depth_m)
    if crop == "none":
        return valid
    if depth_m.shape != _EIGEN_SIZE:
        height, width = depth_m.shape
        raise ValueError(f"crop eigen is defined for 640x480, got depth of {width}x{height}; use crop none")
    inside = np.zeros_like(valid)
    inside[_EIGEN_ROWS, _EIGEN_COLUMNS] = True
    return valid & inside


def fixed_points(image: str, valid_mask: Bool[np.ndarray, "H W"], num_points: int) -> Float[np.ndarray, "N 2"]:
    """The first ``num_points`` of the image's random sequence of valid pixels, xy; all of them where there are fewer.

    Every pixel has a random 64-bit key that depends on the name, :data:`POINTS_SEED` and its place; the valid ones
    come in the order of their keys. Uniform, without repetition, and a prefix of what any larger number gives.
    """
    digest = hashlib.sha256(f"{POINTS_SEED}\n{image}".encode()).digest()
    # The raw stream of the bit generator, which NumPy keeps from version to version; what is made of it may change.
    keys = np.random.PCG64(int.from_bytes(digest, "big")).random_raw(valid_mask.size)
    pixels = np.flatnonzero(valid_mask)
    keys = keys[pixels]
    if num_points < len(pixels):
        first = np.argpartition(keys, num_points)[:num_points]
        pixels, keys = pixels[first], keys[first]
    rows, columns = np.divmod(pixels[np.argsort(keys)], valid_mask.shape[1])
    return np.stack((columns, rows), axis=1).astype(np.float64)


def dense_points(valid_mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "N 2"]:
    """The valid ones of every fourth pixel in both directions, xy, row by row from pixel (0, 0) on."""
    rows, columns = np.nonzero(valid_mask[::DENSE_STRIDE, ::DENSE_STRIDE])
    return DENSE_STRIDE * np.stack((columns, rows), axis=1).astype(np.float64)


def predict(
    predictor: EncodesImages,
    dataset: RGBDDataset,
    root: Path,
    *,
    ways: Sequence[Asking],
    crop: Crop,
    depth_range: DepthRange | None = None,
    skip_empty: bool = False,
) -> Iterator[tuple[ImagePrediction, ...]]:
    """Ask the predictor about every frame, in their order: one prediction per way of asking.

    An image is encoded once for all ways.

    Args:
        predictor: is given each image with its camera, where the manifest has one.
        dataset: the frames.
        root: the data set's folder, to which images are named.
        ways: how many points are asked at once.
        crop: ``eigen``, or ``none`` for the whole image.
        depth_range: of the true depths that are asked; None is :func:`depth_range_of` the crop.
        skip_empty: leave out frames without a valid depth.

    Raises:
        ValueError: a file cannot be read or does not fit the crop; a frame has no valid depth and is not left out. The
            message names it.
    """
    for image in encoded_images(predictor, dataset, root, crop=crop, depth_range=depth_range, skip_empty=skip_empty):
        predictions = []
        for way in ways:
            points = _points(image, way)
            columns, rows = points.astype(np.int64).T
            start = time.perf_counter()
            predicted_m = ask(image.scene, points, way)
            seconds = image.encoding_s + time.perf_counter() - start
            predictions.append(
                ImagePrediction(
                    image.name,
                    points,
                    image.depth_m[rows, columns],
                    predicted_m,
                    seconds,
                    (image.depth_m.shape[0], image.depth_m.shape[1]),
                    image.label,
                    image.intrinsics,
                )
            )
        yield tuple(predictions)


def encoded_images(
    predictor: EncodesImages,
    dataset: RGBDDataset,
    root: Path,
    *,
    crop: Crop,
    depth_range: DepthRange | None = None,
    skip_empty: bool = False,
) -> Iterator[EncodedImage]:
    """Every frame, encoded, in their order.

    Raises:
        ValueError: as of :func:`predict`.
    """
    limits = depth_range or depth_range_of(crop)
    for index, frame in enumerate(dataset.frames):
        sample = dataset[index]
        depth_m = sample.depth_m.numpy()
        valid_mask = _valid_pixels_of(frame, depth_m, crop, limits)
        if not valid_mask.any():
            if skip_empty:
                continue
            region = "inside crop eigen" if crop == "eigen" else "anywhere"
            raise ValueError(
                f"{frame.depth} has no valid depth ({limits}) {region}; --skip-empty leaves such frames out"
            )
        pixels = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
        start = time.perf_counter()
        scene = predictor.encode(pixels, intrinsics=frame.intrinsics)
        encoding_s = time.perf_counter() - start
        name, label = image_name(frame, root), frame.scene or ""
        yield EncodedImage(name, scene, depth_m, valid_mask, encoding_s, label, frame.intrinsics)


def ask(
    scene: Callable[[np.ndarray], np.ndarray], query_points: Float[np.ndarray, "N 2"], way: Asking
) -> Real[np.ndarray, "N"]:
    """The scene's answers to the points in groups, in the order of the points."""
    size = way.num_queries or len(query_points)
    groups = [query_points[start : start + size] for start in range(0, len(query_points), size)]
    return np.concatenate([scene(group) for group in groups])


def image_name(frame: Frame, root: Path) -> str:
    """The image's path as the manifest has it, with forward slashes: the same wherever the data set lies."""
    return (frame.image.relative_to(root) if frame.image.is_relative_to(root) else frame.image).as_posix()


def _valid_pixels_of(frame: Frame, depth_m: np.ndarray, crop: Crop, depth_range: DepthRange) -> np.ndarray:
    """:func:`valid_pixels`; an error names the depth's file."""
    try:
        return valid_pixels(depth_m, crop, depth_range)
    except ValueError as error:
        raise ValueError(f"{frame.depth}: {error}") from None


def _points(image: EncodedImage, way: Asking) -> Float[np.ndarray, "N 2"]:
    """The questions of one way of asking."""
    if way.num_queries is not None:
        return fixed_points(image.name, image.valid_mask, num_points_asked(way.num_queries))
    points = dense_points(image.valid_mask)
    # A few valid pixels may all lie between those of the grid.
    return points if len(points) else fixed_points(image.name, image.valid_mask, 1)
