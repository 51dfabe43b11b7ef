"""Scores of predictions: per image, over images, over scenes, over all points, with the errors of the main figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

from spd.depth_range import DepthRange
from spd.evaluation.alignment import Alignment, aligned_depth
from spd.evaluation.metrics import Metrics, compute_metrics, mean_metrics, standard_errors
from spd.evaluation.protocol import ImagePrediction

_JACKKNIFE_GROUPS = 16


class ImageScore(NamedTuple):
    """Metrics over all points that were asked about one image."""

    image: str
    scene: str
    """The manifest's label; empty where it has none."""
    num_points: int
    metrics: Metrics


class SceneScore(NamedTuple):
    """Metrics of the images of one scene."""

    scene: str
    num_images: int
    mean: Metrics
    """Over its images."""
    standard_error: Metrics | None
    """Between its images; None for a single one."""


class OverScenes(NamedTuple):
    """Metrics over scenes, each counting the same however many images it has."""

    per_scene: tuple[SceneScore, ...]
    """In the order of their first images."""
    mean: Metrics
    """Mean of the scenes' means."""
    standard_error: Metrics | None
    """Between scenes; None for a single one."""


class Scores(NamedTuple):
    """Metrics of a model on a data set, all of one alignment."""

    per_image: tuple[ImageScore, ...]
    mean: Metrics
    """Mean over the images of their metrics: the figure to report where scenes have about as many images each."""
    standard_error: Metrics | None
    """Of ``mean``, from the differences between images; None for a single image."""
    sampling_error: Metrics
    """Of ``mean``, from the choice of the points within the same images."""
    over_scenes: OverScenes | None
    """Of the images whose scene the manifest names; None where it names none."""
    pooled: Metrics
    """Over all points of all images together."""

    @property
    def num_points(self) -> int:
        """Points over all images."""
        return sum(image.num_points for image in self.per_image)


def score(predictions: Sequence[ImagePrediction], depth_range: DepthRange, alignment: Alignment = "raw") -> Scores:
    """Align the predictions, clamp them to the range, and compute the metrics.

    Raises:
        ValueError: there is no image, or one without a point.
    """
    if not predictions:
        raise ValueError("scores need at least one image, got none")
    per_image = score_images(predictions, depth_range, alignment)
    metrics = [image.metrics for image in per_image]
    predicted = [prediction.predicted_m for prediction in predictions]
    true = [prediction.true_m for prediction in predictions]
    scored = [aligned_depth(p, g, alignment, depth_range) for p, g in zip(predicted, true, strict=True)]
    return Scores(
        per_image=per_image,
        mean=mean_metrics(metrics),
        standard_error=standard_errors(metrics),
        sampling_error=sampling_errors(predicted, true, depth_range, alignment),
        over_scenes=average_over_scenes(per_image),
        pooled=compute_metrics(np.concatenate(scored), np.concatenate(true)),
    )


def score_images(
    predictions: Sequence[ImagePrediction], depth_range: DepthRange, alignment: Alignment = "raw"
) -> tuple[ImageScore, ...]:
    """The metrics of each image, as in :func:`score`."""
    return tuple(
        ImageScore(
            prediction.image,
            prediction.scene,
            len(prediction.true_m),
            compute_metrics(
                aligned_depth(prediction.predicted_m, prediction.true_m, alignment, depth_range), prediction.true_m
            ),
        )
        for prediction in predictions
    )


def average_over_scenes(per_image: Sequence[ImageScore]) -> OverScenes | None:
    """The mean of the scenes' means; images without a scene are left out, and None is returned where none has one."""
    by_scene: dict[str, list[Metrics]] = {}
    for image in per_image:
        if image.scene:
            by_scene.setdefault(image.scene, []).append(image.metrics)
    if not by_scene:
        return None
    per_scene = tuple(
        SceneScore(scene, len(metrics), mean_metrics(metrics), standard_errors(metrics))
        for scene, metrics in by_scene.items()
    )
    means = [scene.mean for scene in per_scene]
    return OverScenes(per_scene, mean_metrics(means), standard_errors(means))


def images_per_second(predictions: Sequence[ImagePrediction]) -> float:
    """At the median image; see :class:`ImagePrediction` for what is timed."""
    return 1 / float(np.median([prediction.seconds for prediction in predictions]))


def shared_abs_rel(predictions: Sequence[ImagePrediction], depth_range: DepthRange, num_points: int) -> float:
    """Mean over images of the raw AbsRel at the first ``num_points`` of each, those that every K has asked.

    A curve over K compares these: K = 1 asks fewer points than the others.
    """
    first = [
        prediction._replace(true_m=prediction.true_m[:num_points], predicted_m=prediction.predicted_m[:num_points])
        for prediction in predictions
    ]
    return mean_metrics([image.metrics for image in score_images(first, depth_range)]).abs_rel


def sampling_errors(
    predicted_m: Sequence[Real[np.ndarray, "_"]],
    true_m: Sequence[Real[np.ndarray, "_"]],
    depth_range: DepthRange,
    alignment: Alignment = "raw",
) -> Metrics:
    """Standard errors of the mean over images that come from which points were asked, by a jackknife.

    The points of every image are dealt into 16 groups, which their random order makes random. With θᵢ the mean over
    images when group i is left out, the error is √(15/16 · Σ (θᵢ − θ̄)²): unlike σ/√n it holds for square roots and
    deviations too (Efron and Tibshirani 1993, chapter 11). An image with a single point keeps it. What is left is
    aligned anew: an alignment depends on the points too. For medians, and for the deltas after an alignment, a
    jackknife is too cautious: such an error may be too large by a third or so.

    Args:
        predicted_m: metres as answered, one array per image.
        true_m: metres, likewise.
        depth_range: of the protocol.
        alignment: of what is scored.
    """
    left_out = []
    for group in range(_JACKKNIFE_GROUPS):
        per_image = []
        for predicted, true in zip(predicted_m, true_m, strict=True):
            kept = np.arange(len(true)) % _JACKKNIFE_GROUPS != group
            if not kept.any():
                kept[:] = True
            scored = aligned_depth(predicted[kept], true[kept], alignment, depth_range)
            per_image.append(compute_metrics(scored, true[kept]))
        left_out.append(mean_metrics(per_image))
    deviation = np.std(left_out, axis=0)
    return Metrics(*(math.sqrt(_JACKKNIFE_GROUPS - 1) * deviation).tolist())
