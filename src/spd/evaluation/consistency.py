"""How much the answer at a pixel depends on what else is asked with it.

Fixed pixels of each image are asked together with companions: none, some, many, in several random sets of each size.
Every answer is compared with that of one reference set. An instrument that measures the image gives the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from spd.data.rgbd import RGBDDataset
from spd.depth_range import DepthRange
from spd.evaluation.metrics import clamp_depth
from spd.evaluation.protocol import Crop, EncodesImages, depth_range_of, encoded_images, fixed_points

NUM_PIXELS = 16
"""Fixed pixels of each image."""
REFERENCE_COMPANIONS = 240
"""Of the reference: with the pixels themselves 256 points, as in training."""
COMPANIONS = (0, 48, 240, 1008)
"""Numbers of companions that are tried."""
NUM_SETS = 3
"""Random sets of each size; one where there are no companions."""

_NUM_POINTS = NUM_PIXELS + REFERENCE_COMPANIONS + NUM_SETS * sum(COMPANIONS)


class ConsistencyRow(NamedTuple):
    """Changes of the fixed pixels' log depth against the reference, for one number of companions."""

    companions: int
    mean: float
    """Of |Δ log depth| over pixels, sets and images."""
    percentile99: float


def measure_consistency(
    predictor: EncodesImages,
    dataset: RGBDDataset,
    root: Path,
    *,
    crop: Crop,
    depth_range: DepthRange | None = None,
    skip_empty: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[ConsistencyRow, ...]:
    """Ask the fixed pixels of every frame with all sets of companions.

    Args:
        predictor: is given each image with its camera, where the manifest has one.
        dataset: the frames.
        root: the data set's folder, to which images are named.
        crop: where pixels and companions may lie.
        depth_range: of their true depth, and to which answers are clamped; None is that of the crop.
        skip_empty: leave out frames without a valid depth.
        progress: called with 1 after each frame.

    Raises:
        ValueError: a file cannot be read, does not fit the crop or has no valid depth.
    """
    changes: dict[int, list[np.ndarray]] = {number: [] for number in COMPANIONS}
    depth_range = depth_range or depth_range_of(crop)
    images = encoded_images(predictor, dataset, root, crop=crop, depth_range=depth_range, skip_empty=skip_empty)
    for image in images:
        sequence = fixed_points(image.name, image.valid_mask, _NUM_POINTS)
        pixels, others = sequence[:NUM_PIXELS], sequence[NUM_PIXELS:]
        reference = _log_depth(image.scene, pixels, others[:REFERENCE_COMPANIONS], depth_range)
        for number, companions in _sets(others[REFERENCE_COMPANIONS:]):
            log_depth = _log_depth(image.scene, pixels, companions, depth_range)
            changes[number].append(np.abs(log_depth - reference))
        if progress is not None:
            progress(1)
    return tuple(
        ConsistencyRow(number, float(np.mean(values)), float(np.percentile(values, 99)))
        for number, values in ((number, np.concatenate(parts)) for number, parts in changes.items())
    )


def _sets(others: Float[np.ndarray, "N 2"]) -> Iterator[tuple[int, Float[np.ndarray, "C 2"]]]:
    """(number, companions): pieces of the image's random sequence that share no point."""
    start = 0
    for number in COMPANIONS:
        for _ in range(NUM_SETS if number else 1):
            yield number, others[start : start + number]
            start += number


def _log_depth(
    scene: Callable[[np.ndarray], np.ndarray],
    pixels: Float[np.ndarray, "P 2"],
    companions: Float[np.ndarray, "C 2"],
    depth_range: DepthRange,
) -> Float[np.ndarray, "P"]:
    """Log depth of the pixels, asked at once with their companions."""
    return np.log(clamp_depth(scene(np.concatenate((pixels, companions)))[: len(pixels)], depth_range))
