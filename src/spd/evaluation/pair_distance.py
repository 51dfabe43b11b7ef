"""How well a model measures: the distance between two random points of an image, lifted with its camera."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from spd.camera import lift
from spd.depth_range import DepthRange
from spd.evaluation.alignment import Alignment, aligned_depth
from spd.evaluation.protocol import POINTS_SEED, ImagePrediction

NUM_PAIRS = 1024
"""Random pairs of each image, before those that are too close are left out."""
MIN_DISTANCE_M = 0.05
"""True distance below which a pair is left out: its relative error would be that of the sensor."""


class PairDistance(NamedTuple):
    """Relative errors of distances: per image the median over its pairs, and means of these."""

    per_image: tuple[float | None, ...]
    """median |d - d*| / d* of each image; None where it has no camera, or no pair that is far enough apart."""
    mean: float
    """Over the images that have one."""
    standard_error: float | None
    """Between images; None for a single one."""
    mean_over_scenes: float | None
    """Mean of the scenes' means; None where no such image has a scene."""

    @property
    def num_images(self) -> int:
        """Images that have pairs."""
        return sum(error is not None for error in self.per_image)


def pair_distance(
    predictions: Sequence[ImagePrediction], depth_range: DepthRange, alignment: Alignment = "raw"
) -> PairDistance | None:
    """The errors of the distances between random pairs of the points that were asked.

    Both ends are lifted with the image's camera, once with their true and once with their predicted depth (aligned and
    clamped as for the metrics); d* and d are the straight distances between them.

    Returns:
        None where no image has a camera and a pair that is far enough apart.
    """
    per_image = tuple(_of_image(prediction, depth_range, alignment) for prediction in predictions)
    known = [error for error in per_image if error is not None]
    if not known:
        return None
    by_scene: dict[str, list[float]] = {}
    for prediction, error in zip(predictions, per_image, strict=True):
        if prediction.scene and error is not None:
            by_scene.setdefault(prediction.scene, []).append(error)
    return PairDistance(
        per_image=per_image,
        mean=float(np.mean(known)),
        standard_error=float(np.std(known, ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else None,
        mean_over_scenes=float(np.mean([np.mean(errors) for errors in by_scene.values()])) if by_scene else None,
    )


def random_pairs(image: str, num_points: int) -> Int[np.ndarray, "P 2"]:
    """Pairs of positions among the image's points; they depend on its name and the number of its points alone.

    Both ends are drawn independently, so that a pair may come twice, or have one point at both ends.
    """
    digest = hashlib.sha256(f"{POINTS_SEED}\npairs\n{image}".encode()).digest()
    # The raw stream, as for the points: the same on every machine.
    raw = np.random.PCG64(int.from_bytes(digest, "big")).random_raw(2 * NUM_PAIRS)
    return (raw % num_points).astype(np.int64).reshape(NUM_PAIRS, 2)


def _of_image(prediction: ImagePrediction, depth_range: DepthRange, alignment: Alignment) -> float | None:
    if prediction.intrinsics is None:
        return None
    pairs = random_pairs(prediction.image, len(prediction.true_m))
    scored_m = aligned_depth(prediction.predicted_m, prediction.true_m, alignment, depth_range)
    true = _distances(prediction, prediction.true_m.astype(np.float64), pairs)
    predicted = _distances(prediction, scored_m, pairs)
    # A point and itself are no distance apart, and are left out here too.
    far = true >= MIN_DISTANCE_M
    return float(np.median(np.abs(predicted[far] - true[far]) / true[far])) if far.any() else None


def _distances(
    prediction: ImagePrediction, depth_m: Float[np.ndarray, "N"], pairs: Int[np.ndarray, "P 2"]
) -> Float[np.ndarray, "P"]:
    """Metres between the ends of each pair."""
    assert prediction.intrinsics is not None, "without a camera there is nothing to lift with"
    points = lift(prediction.query_points, depth_m, prediction.intrinsics)
    return np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
