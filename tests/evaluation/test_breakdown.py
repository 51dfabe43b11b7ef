from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.evaluation.breakdown import NUM_COLUMNS, NUM_ROWS, SceneError, break_down
from spd.evaluation.protocol import ImagePrediction

MakePrediction = Callable[..., ImagePrediction]


def test_errors_by_depth_by_hand(image_prediction: MakePrediction) -> None:
    breakdown = break_down(
        [
            image_prediction("a", [1.0, 1.1, 3.0], [0.5, 1.0, 2.0]),
            image_prediction("b", [1.6], [2.0]),
        ],
        EIGEN_DEPTH_RANGE,
    )
    assert (breakdown.by_depth[0].low_m, breakdown.by_depth[-1].high_m) == (0.0, 10.0)
    (near,) = [error for error in breakdown.by_depth if error.low_m == 0.5]
    assert (near.high_m, near.share) == (0.75, 0.25)
    assert (near.abs_rel, near.log_bias) == (pytest.approx(1.0), pytest.approx(np.log(2)))
    # A bound belongs to the range above it.
    (next_to,) = [error for error in breakdown.by_depth if error.low_m == 1.0]
    assert next_to.abs_rel == pytest.approx(0.1)
    others = [error for error in breakdown.by_depth if error.low_m not in (0.5, 1.0)]
    (from_two,) = [error for error in others if error.low_m == 2.0]
    assert from_two.abs_rel == pytest.approx((0.5 + 0.2) / 2)
    assert from_two.log_bias == pytest.approx((np.log(1.5) + np.log(0.8)) / 2)
    assert sum(error.share for error in breakdown.by_depth) == 1
    assert {error.abs_rel for error in others if error.low_m != 2.0} == {None}


def test_errors_by_part_of_the_image(image_prediction: MakePrediction) -> None:
    # The first and the last pixel of 48x80, and one to the right of the middle in the top row.
    points = [(0, 0), (79, 47), (60, 3), (62, 3)]
    part = break_down([image_prediction("a", [2, 3, 1.5, 1], [1, 1, 1, 1], points=points)], EIGEN_DEPTH_RANGE).by_part
    assert part.shape == (NUM_ROWS, NUM_COLUMNS)
    assert (part[0, 0], part[-1, -1]) == (1.0, 2.0)
    assert part[0, int(61 / 80 * NUM_COLUMNS)] == pytest.approx(0.25)
    assert np.isnan(part).sum() == NUM_ROWS * NUM_COLUMNS - 3


def test_errors_by_kind_of_room(image_prediction: MakePrediction) -> None:
    breakdown = break_down(
        [
            image_prediction("a", [1.5, 1.0], [1, 1], scene="kitchen"),
            image_prediction("b", [1.75, 1.0], [1, 1], scene="kitchen"),
            image_prediction("c", [3.0], [1], scene="bath"),
            image_prediction("d", [9.0], [1]),
        ],
        EIGEN_DEPTH_RANGE,
    )
    expected = 0.125 / 2 / np.sqrt(2) * np.sqrt(2)  # |.25 - .375| / √2 is the deviation of two, over √2 images
    # Medians of 1.25 and 1.375: the points are then at 1.2 and .8, and at 14/11 and 8/11.
    scaled = np.array([0.2, 3 / 11])
    deviation = abs(scaled[0] - scaled[1]) / 2
    assert breakdown.by_scene == (
        SceneError("bath", 1, 2.0, None, pytest.approx(0), None),
        SceneError(
            "kitchen", 2, 0.3125, pytest.approx(expected), pytest.approx(scaled.mean()), pytest.approx(deviation)
        ),
    )


@pytest.mark.parametrize(("max_m", "last"), [(10.0, (7.0, 10.0)), (12.0, (10.0, 12.0)), (80.0, (50.0, 80.0))])
def test_the_farthest_depths_end_with_the_range(
    image_prediction: MakePrediction, max_m: float, last: tuple[float, float]
) -> None:
    breakdown = break_down([image_prediction("a", [1.0, 99.0], [1.0, 0.9 * max_m])], DepthRange(1e-3, max_m))
    farthest = breakdown.by_depth[-1]
    assert (farthest.low_m, farthest.high_m, farthest.share) == (*last, 0.5)
    assert farthest.abs_rel == pytest.approx(min(99.0, max_m) / (0.9 * max_m) - 1)
