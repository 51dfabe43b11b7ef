from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spd.depth_range import EIGEN_DEPTH_RANGE, OPEN_DEPTH_RANGE, DepthRange
from spd.evaluation.alignment import Alignment
from spd.evaluation.metrics import compute_metrics, mean_metrics
from spd.evaluation.protocol import ImagePrediction
from spd.evaluation.scores import images_per_second, sampling_errors, score, shared_abs_rel

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
    assert images_per_second(predictions) == 2.0
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


def line_in_log(predicted_m: np.ndarray, true_m: np.ndarray) -> np.ndarray:
    slope, offset = np.polyfit(np.log(predicted_m), np.log(true_m), 1)
    return np.exp(offset) * predicted_m**slope


ALIGN: dict[Alignment, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "raw": lambda predicted_m, true_m: predicted_m,
    "median_aligned": lambda predicted_m, true_m: predicted_m * np.median(true_m) / np.median(predicted_m),
    "log_fit_aligned": line_in_log,
}


# Raw, a jackknife is right for roots and quotients too, within the spread of both estimates; it is too cautious for
# medians, and for the deltas of points that move with a fit.
@pytest.mark.parametrize(
    ("alignment", "low", "high"),
    [("raw", 0.88, 1.12), ("median_aligned", 0.88, 1.5), ("log_fit_aligned", 0.88, 1.5)],
)
def test_sampling_error_is_the_spread_over_other_draws_of_points(alignment: Alignment, low: float, high: float) -> None:
    random = np.random.default_rng(0)

    def draw(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Points of three images whose errors have different spreads."""
        true = [random.uniform(1, 5, count) for _ in range(3)]
        predicted = [
            g * np.exp(random.normal(0.1, spread, count)) for g, spread in zip(true, (0.1, 0.3, 0.5), strict=True)
        ]
        return predicted, true

    estimates = np.mean([sampling_errors(*draw(256), OPEN_DEPTH_RANGE, alignment) for _ in range(30)], axis=0)
    figures = [
        mean_metrics([compute_metrics(ALIGN[alignment](p, g), g) for p, g in zip(*draw(256), strict=True)])
        for _ in range(600)
    ]
    ratios = estimates / np.std(figures, axis=0)
    assert low < ratios.min() <= ratios.max() < high


def test_sampling_error_of_means_is_that_of_their_groups_by_hand() -> None:
    # 32 points in 16 groups of two equal errors: leaving group i out moves the mean by (mean - error of i) / 15.
    errors = np.tile(np.arange(16.0) / 20, 2)
    (abs_rel, *_) = sampling_errors([1 + errors], [np.ones(32)], OPEN_DEPTH_RANGE)
    moved = (errors[:16].mean() - errors[:16]) / 15
    assert abs_rel == pytest.approx(np.sqrt(15 / 16 * np.sum(moved**2)), rel=1e-9)


def test_an_image_with_one_point_has_no_sampling_to_vary() -> None:
    errors = sampling_errors([np.array([2.0])], [np.array([1.0])], OPEN_DEPTH_RANGE)
    np.testing.assert_allclose(errors, 0, atol=1e-12)


def test_every_image_is_aligned_by_itself(image_prediction: MakePrediction) -> None:
    """Off by 2 in one and by 1/4 in the other; the third point of the second is off by another 2."""
    predictions = [
        image_prediction("a", [2.0, 4.0, 6.0], [1.0, 2.0, 3.0]),
        image_prediction("b", [1.0, 2.0, 6.0], [4.0, 8.0, 12.0]),
    ]
    raw = score(predictions, OPEN_DEPTH_RANGE)
    aligned = score(predictions, OPEN_DEPTH_RANGE, "median_aligned")
    assert [image.metrics.abs_rel for image in raw.per_image] == pytest.approx([1.0, (0.75 + 0.75 + 0.5) / 3])
    assert [image.metrics.abs_rel for image in aligned.per_image] == pytest.approx([0.0, 1 / 3])
    assert aligned.mean.abs_rel == pytest.approx(1 / 6)
    assert aligned.pooled.abs_rel == pytest.approx(1 / 6)
    fitted = score(predictions, OPEN_DEPTH_RANGE, "log_fit_aligned")
    slope, offset = np.polyfit(np.log([1.0, 2.0, 6.0]), np.log([4.0, 8.0, 12.0]), 1)
    expected = np.abs(np.exp(slope * np.log([1.0, 2.0, 6.0]) + offset) / [4.0, 8.0, 12.0] - 1).mean()
    assert [image.metrics.abs_rel for image in fitted.per_image] == pytest.approx([0.0, expected], abs=1e-12)


def test_scenes_count_the_same_by_hand(image_prediction: MakePrediction) -> None:
    predictions = [
        image_prediction("a", [1.5], [1.0], scene="desk"),
        image_prediction("b", [1.1], [1.0], scene="desk"),
        image_prediction("c", [1.3], [1.0], scene="desk"),
        image_prediction("d", [2.0], [1.0], scene="hall"),
        image_prediction("e", [9.0], [1.0]),
    ]
    over_scenes = score(predictions, OPEN_DEPTH_RANGE).over_scenes
    assert over_scenes is not None
    desk, hall = over_scenes.per_scene
    assert (desk.scene, desk.num_images, desk.mean.abs_rel) == ("desk", 3, pytest.approx(0.3))
    assert (hall.scene, hall.num_images, hall.mean.abs_rel, hall.standard_error) == ("hall", 1, 1.0, None)
    # .3 and 1, which lie .35 from their mean: over one degree of freedom and two scenes the error is .35 too.
    assert over_scenes.mean.abs_rel == pytest.approx(0.65)
    assert over_scenes.standard_error is not None
    assert over_scenes.standard_error.abs_rel == pytest.approx(0.35)
    # Of desk: .5, .1 and .3, a deviation of .2.
    assert desk.standard_error is not None
    assert desk.standard_error.abs_rel == pytest.approx(0.2 / np.sqrt(3))
    assert score(predictions[4:], OPEN_DEPTH_RANGE).over_scenes is None
