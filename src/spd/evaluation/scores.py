"""Scores of predictions: per image, over images, over all points, with the two errors of the main figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from spd.depth_range import DepthRange
from spd.evaluation.metrics import Metrics, clamp_depth, compute_metrics, mean_metrics, standard_errors
from spd.evaluation.protocol import ImagePrediction

_JACKKNIFE_GROUPS = 16


class ImageScore(NamedTuple):
    """Metrics over all points that were asked about one image."""

    image: str
    num_points: int
    metrics: Metrics


class Scores(NamedTuple):
    """Metrics of a model on a data set."""

    per_image: tuple[ImageScore, ...]
    mean: Metrics
    """Mean over the images of their metrics: the figure to report."""
    standard_error: Metrics | None
    """Of ``mean``, from the differences between images; None for a single image."""
    sampling_error: Metrics
    """Of ``mean``, from the choice of the points within the same images."""
    pooled: Metrics
    """Over all points of all images together."""
    images_per_second: float
    """At the median image; see :class:`ImagePrediction`."""

    @property
    def num_points(self) -> int:
        """Points over all images."""
        return sum(image.num_points for image in self.per_image)


def score(predictions: Sequence[ImagePrediction], depth_range: DepthRange) -> Scores:
    """Clamp the predictions to the range and compute the metrics per image, over images and over all points.

    Raises:
        ValueError: there is no image, or one without a point.
    """
    if not predictions:
        raise ValueError("scores need at least one image, got none")
    clamped = [clamp_depth(prediction.predicted_m, depth_range) for prediction in predictions]
    true = [prediction.true_m for prediction in predictions]
    metrics = [compute_metrics(p, g) for p, g in zip(clamped, true, strict=True)]
    return Scores(
        per_image=tuple(
            ImageScore(prediction.image, len(prediction.true_m), of_image)
            for prediction, of_image in zip(predictions, metrics, strict=True)
        ),
        mean=mean_metrics(metrics),
        standard_error=standard_errors(metrics),
        sampling_error=sampling_errors(clamped, true),
        pooled=compute_metrics(np.concatenate(clamped), np.concatenate(true)),
        images_per_second=1 / float(np.median([prediction.seconds for prediction in predictions])),
    )


def shared_abs_rel(predictions: Sequence[ImagePrediction], depth_range: DepthRange, num_points: int) -> float:
    """Mean over images of AbsRel at the first ``num_points`` of each, those that every K has asked.

    A curve over K compares these: K = 1 asks fewer points than the others.
    """
    per_image = [
        np.mean(
            np.abs(prediction.true_m - clamp_depth(prediction.predicted_m, depth_range))[:num_points]
            / prediction.true_m[:num_points]
        )
        for prediction in predictions
    ]
    return float(np.mean(per_image))


def sampling_errors(predicted_m: Sequence[Float[np.ndarray, "_"]], true_m: Sequence[Real[np.ndarray, "_"]]) -> Metrics:
    """Standard errors of the mean over images that come from which points were asked, by a jackknife.

    The points of every image are dealt into 16 groups, which their random order makes random. With θᵢ the mean over
    images when group i is left out, the error is √(15/16 · Σ (θᵢ − θ̄)²): unlike σ/√n it holds for square roots and
    deviations too (Efron and Tibshirani 1993, chapter 11). An image with a single point keeps it.

    Args:
        predicted_m: metres, clamped, one array per image.
        true_m: metres, likewise.
    """
    left_out = []
    for group in range(_JACKKNIFE_GROUPS):
        per_image = []
        for predicted, true in zip(predicted_m, true_m, strict=True):
            kept = np.arange(len(true)) % _JACKKNIFE_GROUPS != group
            if not kept.any():
                kept[:] = True
            per_image.append(compute_metrics(predicted[kept], true[kept]))
        left_out.append(mean_metrics(per_image))
    deviation = np.std(left_out, axis=0)
    return Metrics(*(math.sqrt(_JACKKNIFE_GROUPS - 1) * deviation).tolist())
