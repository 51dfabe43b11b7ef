from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.evaluation.metrics import compute_metrics, mean_metrics
from spd.evaluation.protocol import ImagePrediction
from spd.evaluation.scores import sampling_errors, score, shared_abs_rel

MakePrediction = Callable[..., ImagePrediction]


def test_scores_per_image_over_images_and_pooled(image_prediction: MakePrediction) -> None:
    predictions = [
        image_prediction("a", [2.0], [1.0], seconds=0.5),
        image_prediction("b", [1.0, np.nan, 4.0], [1.0, 2.0, 4.0], seconds=0.25),
        image_prediction("c", [3.0, 3.0], [3.0, 4.0], seconds=9.0),
    ]
    scores = score(predictions, EIGEN_DEPTH_RANGE)
    b = (2.0 - 1e-3) / 2.0 / 3
    assert [image.metrics.abs_rel for image in scores.per_image] == pytest.approx([1, b, 1 / 8])
    assert [(image.image, image.num_points) for image in scores.per_image] == [("a", 1), ("b", 3), ("c", 2)]
    assert scores.mean.abs_rel == pytest.approx((1 + b + 1 / 8) / 3)
    assert scores.mean == mean_metrics([image.metrics for image in scores.per_image])
    assert scores.pooled.abs_rel == pytest.approx((1 + 3 * b + 2 / 8) / 6)
    together = compute_metrics(np.array([2.0, 1, 1e-3, 4, 3, 3]), np.array([1.0, 1, 2, 4, 3, 4]))
    assert scores.pooled == together
    deviation = np.std([1, b, 1 / 8], ddof=1)
    assert scores.standard_error is not None
    assert scores.standard_error.abs_rel == pytest.approx(deviation / np.sqrt(3))
    assert scores.images_per_second == 2.0
    assert scores.num_points == 6


def test_predictions_are_clamped_to_the_range_of_the_protocol(image_prediction: MakePrediction) -> None:
    predictions = [image_prediction("a", [60.0], [20.0])]
    assert score(predictions, DepthRange(0.5, 80.0)).mean.abs_rel == pytest.approx(2.0)
    assert score(predictions, DepthRange(0.5, 25.0)).mean.abs_rel == pytest.approx(0.25)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        score([], EIGEN_DEPTH_RANGE)


def test_curves_compare_the_first_points_of_every_image(image_prediction: MakePrediction) -> None:
    predictions = [
        image_prediction("a", [2.0, 1.0, 9.0], [1.0, 2.0, 1.0]),
        image_prediction("b", [np.inf], [5.0]),
    ]
    # The third point of the first image is beyond the two that are shared; infinity counts as 10 m.
    assert shared_abs_rel(predictions, EIGEN_DEPTH_RANGE, 2) == pytest.approx(((1 + 0.5) / 2 + 1.0) / 2)


def test_sampling_error_is_the_spread_over_other_draws_of_points() -> None:
    random = np.random.default_rng(0)

    def draw(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Points of three images whose errors have different spreads."""
        true = [random.uniform(1, 5, count) for _ in range(3)]
        predicted = [
            g * np.exp(random.normal(0.1, spread, count)) for g, spread in zip(true, (0.1, 0.3, 0.5), strict=True)
        ]
        return predicted, true

    estimates = np.mean([sampling_errors(*draw(256)) for _ in range(30)], axis=0)
    figures = [mean_metrics([compute_metrics(p, g) for p, g in zip(*draw(256), strict=True)]) for _ in range(600)]
    # A jackknife of 16 groups: right within the spread of both estimates, for roots and quotients too.
    np.testing.assert_allclose(estimates, np.std(figures, axis=0), rtol=0.12)


def test_sampling_error_of_means_is_that_of_their_groups_by_hand() -> None:
    # 32 points in 16 groups of two equal errors: leaving group i out moves the mean by (mean - error of i) / 15.
    errors = np.tile(np.arange(16.0) / 20, 2)
    (abs_rel, *_) = sampling_errors([1 + errors], [np.ones(32)])
    moved = (errors[:16].mean() - errors[:16]) / 15
    assert abs_rel == pytest.approx(np.sqrt(15 / 16 * np.sum(moved**2)), rel=1e-9)


def test_an_image_with_one_point_has_no_sampling_to_vary() -> None:
    np.testing.assert_allclose(sampling_errors([np.array([2.0])], [np.array([1.0])]), 0, atol=1e-12)
