from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spd.evaluation.breakdown import NUM_COLUMNS, NUM_ROWS, SceneError, break_down
from spd.evaluation.protocol import ImagePrediction

MakePrediction = Callable[..., ImagePrediction]


def test_errors_by_depth_by_hand(image_prediction: MakePrediction) -> None:
    breakdown = break_down(
        [
            image_prediction("a", [1.0, 1.1, 3.0], [0.5, 1.0, 2.0]),
            image_prediction("b", [1.6], [2.0]),
        ]
    )
    near, next_to, *others = breakdown.by_depth
    assert (near.low_m, near.high_m, near.share) == (0.0, 1.0, 0.25)
    assert (near.abs_rel, near.log_bias) == (pytest.approx(1.0), pytest.approx(np.log(2)))
    # A bound belongs to the range above it.
    assert (next_to.low_m, next_to.abs_rel) == (1.0, pytest.approx(0.1))
    (from_two,) = [error for error in others if error.low_m == 2.0]
    assert from_two.abs_rel == pytest.approx((0.5 + 0.2) / 2)
    assert from_two.log_bias == pytest.approx((np.log(1.5) + np.log(0.8)) / 2)
    assert sum(error.share for error in breakdown.by_depth) == 1
    assert {error.abs_rel for error in others if error.low_m != 2.0} == {None}


def test_errors_by_part_of_the_image(image_prediction: MakePrediction) -> None:
    # The first and the last pixel of 48x80, and one to the right of the middle in the top row.
    points = [(0, 0), (79, 47), (60, 3), (62, 3)]
    part = break_down([image_prediction("a", [2, 3, 1.5, 1], [1, 1, 1, 1], points=points)]).by_part
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
        ]
    )
    expected = 0.125 / 2 / np.sqrt(2) * np.sqrt(2)  # |.25 - .375| / √2 is the deviation of two, over √2 images
    assert breakdown.by_scene == (
        SceneError("bath", 1, 2.0, None),
        SceneError("kitchen", 2, 0.3125, pytest.approx(expected)),
    )
