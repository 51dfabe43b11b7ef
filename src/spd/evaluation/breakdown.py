"""Where the error of a model is: by true depth, by place in the image, by scene. Raw, unless a name says otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from spd.depth_range import DepthRange
from spd.evaluation.metrics import clamp_depth
from spd.evaluation.protocol import ImagePrediction
from spd.evaluation.scores import average_over_scenes, score_images

DEPTH_EDGES_M = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0)
"""Bounds of the depths that are told apart; those beyond the protocol's range are left out, and its own end is last."""
NUM_ROWS, NUM_COLUMNS = 4, 5
"""Parts of an image, top to bottom and left to right."""


class RangeError(NamedTuple):
    """Errors of the points whose true depth lies in one range."""

    low_m: float
    high_m: float
    share: float
    """Of all points."""
    abs_rel: float | None
    """Over the points of the range, each counting the same; None where there is none."""
    log_bias: float | None
    """mean ln p - ln g: positive is too far."""


class SceneError(NamedTuple):
    """Errors of the images of one scene, or of one kind of room where that is what the manifest names."""

    scene: str
    num_images: int
    abs_rel: float
    """Raw, mean over the images."""
    standard_error: float | None
    """Of ``abs_rel``; None for a single image."""
    median_aligned_abs_rel: float
    median_aligned_standard_error: float | None


class Breakdown(NamedTuple):
    """The parts of one model's error."""

    by_depth: tuple[RangeError, ...]
    by_part: Float[np.ndarray, "rows columns"]
    """AbsRel over the points in each part of the image; NaN where there is none."""
    by_scene: tuple[SceneError, ...]
    """The worst first; empty where the manifest names no scenes."""


def break_down(predictions: Sequence[ImagePrediction], depth_range: DepthRange) -> Breakdown:
    """Split the error of all predictions three ways.

    Args:
        predictions: at least one.
        depth_range: of the true depths that were asked; predictions are clamped to it.
    """
    predicted = clamp_depth(np.concatenate([prediction.predicted_m for prediction in predictions]), depth_range)
    true = np.concatenate([prediction.true_m for prediction in predictions]).astype(np.float64)
    relative = np.abs(predicted - true) / true
    place = np.concatenate([_relative_place(prediction) for prediction in predictions])
    return Breakdown(
        by_depth=_by_depth(true, relative, np.log(predicted / true), depth_range),
        by_part=_by_part(place, relative),
        by_scene=_by_scene(predictions, depth_range),
    )


def _by_depth(
    true_m: np.ndarray, relative: np.ndarray, log_error: np.ndarray, depth_range: DepthRange
) -> tuple[RangeError, ...]:
    ranges = []
    edges = (*(edge for edge in DEPTH_EDGES_M if edge < depth_range.max_m), depth_range.max_m)
    for low, high in itertools.pairwise(edges):
        # The truth is below the last bound, so nothing is lost.
        inside = (true_m >= low) & (true_m < high)
        has_any = bool(inside.any())
        ranges.append(
            RangeError(
                low,
                high,
                float(inside.mean()),
                float(relative[inside].mean()) if has_any else None,
                float(log_error[inside].mean()) if has_any else None,
            )
        )
    return tuple(ranges)


def _relative_place(prediction: ImagePrediction) -> Float[np.ndarray, "N 2"]:
    """xy of the points as fractions of the image, in [0, 1)."""
    height, width = prediction.size
    return (prediction.query_points + 0.5) / np.array((width, height))


def _by_part(place: np.ndarray, relative: np.ndarray) -> np.ndarray:
    column, row = np.floor(place * (NUM_COLUMNS, NUM_ROWS)).astype(int).T
    part = row * NUM_COLUMNS + column
    total = np.bincount(part, relative, minlength=NUM_ROWS * NUM_COLUMNS)
    count = np.bincount(part, minlength=NUM_ROWS * NUM_COLUMNS)
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean.reshape(NUM_ROWS, NUM_COLUMNS)


def _by_scene(predictions: Sequence[ImagePrediction], depth_range: DepthRange) -> tuple[SceneError, ...]:
    raw = average_over_scenes(score_images(predictions, depth_range))
    aligned = average_over_scenes(score_images(predictions, depth_range, "median_aligned"))
    if raw is None or aligned is None:
        return ()
    errors = [
        SceneError(
            of_scene.scene,
            of_scene.num_images,
            of_scene.mean.abs_rel,
            of_scene.standard_error and of_scene.standard_error.abs_rel,
            aligned_scene.mean.abs_rel,
            aligned_scene.standard_error and aligned_scene.standard_error.abs_rel,
        )
        for of_scene, aligned_scene in zip(raw.per_scene, aligned.per_scene, strict=True)
    ]
    return tuple(sorted(errors, key=lambda error: -error.abs_rel))
