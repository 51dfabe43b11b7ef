"""Distances between points against loops over pairs, and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.camera import Intrinsics
from spd.depth_range import OPEN_DEPTH_RANGE, DepthRange
from spd.evaluation.pair_distance import NUM_PAIRS, pair_distance, random_pairs
from spd.evaluation.protocol import ImagePrediction

MakePrediction = Callable[..., ImagePrediction]
CAMERA = Intrinsics(50.0, 40.0, 39.5, 23.5)


def slow_error(prediction: ImagePrediction, predicted_m: np.ndarray) -> float:
    """One pair after the other, its ends lifted by the inverse of the camera's matrix."""
    camera = prediction.intrinsics
    assert camera is not None
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    inverse = np.linalg.inv(matrix)
    errors = []
    for first, second in random_pairs(prediction.image, len(prediction.true_m)).tolist():
        rays = [inverse @ (*prediction.query_points[index], 1.0) for index in (first, second)]
        true = math.dist(rays[0] * prediction.true_m[first], rays[1] * prediction.true_m[second])
        predicted = math.dist(rays[0] * predicted_m[first], rays[1] * predicted_m[second])
        if true >= 0.05:
            errors.append(abs(predicted - true) / true)
    return float(np.median(errors))


def test_two_points_by_hand(image_prediction: MakePrediction) -> None:
    # On the axis at 1 m and, 50 pixels to the right of it, at 2 m: X is 0 and 2, so √(2² + 1²) apart.
    # Predicted at 1 and 1 m: X is 0 and 1, so 1 apart.
    points = [(39.5, 23.5), (89.5, 23.5)]
    prediction = image_prediction("a", [1.0, 1.0], [1.0, 2.0], points=points, intrinsics=CAMERA)
    distance = pair_distance([prediction], OPEN_DEPTH_RANGE)
    assert distance is not None
    assert distance.mean == pytest.approx(1 - 1 / math.sqrt(5))
    assert (distance.num_images, distance.standard_error, distance.mean_over_scenes) == (1, None, None)


@pytest.mark.parametrize("seed", range(3))
def test_is_the_median_of_all_pairs(image_prediction: MakePrediction, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform((0, 0), (79, 47), (90, 2))
    true, predicted = random.uniform(0.02, 6, 90), random.uniform(0.02, 6, 90)
    prediction = image_prediction(f"{seed}", predicted, true, points=points, intrinsics=CAMERA)
    raw, aligned = (pair_distance([prediction], OPEN_DEPTH_RANGE, kind) for kind in ("raw", "median_aligned"))
    assert raw is not None
    assert aligned is not None
    assert raw.per_image == (pytest.approx(slow_error(prediction, predicted)),)
    scaled = predicted * np.median(true) / np.median(predicted)
    assert aligned.per_image == (pytest.approx(slow_error(prediction, scaled)),)
    clamped = pair_distance([prediction], DepthRange(0.5, 3.0))
    assert clamped is not None
    assert clamped.mean == pytest.approx(slow_error(prediction, predicted.clip(0.5, 3.0)))


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(0.2, 4.0))
def test_a_wrong_scale_is_a_wrong_distance(factor: float) -> None:
    random = np.random.default_rng(0)
    points, true = random.uniform(0, 47, (40, 2)), random.uniform(1, 5, 40)
    prediction = ImagePrediction("a", points, true, factor * true, 1.0, (48, 80), "", CAMERA)
    raw, aligned = (pair_distance([prediction], OPEN_DEPTH_RANGE, kind) for kind in ("raw", "median_aligned"))
    assert raw is not None
    assert aligned is not None
    assert raw.mean == pytest.approx(abs(factor - 1), abs=1e-9)
    assert aligned.mean == pytest.approx(0, abs=1e-9)


def test_images_and_scenes_are_averaged_by_hand(image_prediction: MakePrediction) -> None:
    points = [(39.5, 23.5), (89.5, 23.5)]

    def off_by(factor: float, name: str, scene: str = "", intrinsics: Intrinsics | None = CAMERA) -> ImagePrediction:
        predicted = [factor * 1.0, factor * 2.0]
        return image_prediction(name, predicted, [1.0, 2.0], points=points, scene=scene, intrinsics=intrinsics)

    distance = pair_distance(
        [off_by(1.1, "a", "desk"), off_by(1.3, "b", "desk"), off_by(1.8, "c", "hall"), off_by(9, "d", "hall", None)],
        OPEN_DEPTH_RANGE,
    )
    assert distance is not None
    assert distance.per_image == (pytest.approx(0.1), pytest.approx(0.3), pytest.approx(0.8), None)
    assert distance.num_images == 3
    assert distance.mean == pytest.approx(0.4)
    # .1, .3 and .8: squares of .3, .1 and .4 over two degrees of freedom and three images.
    assert distance.standard_error == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2 / 3))
    assert distance.mean_over_scenes == pytest.approx((0.2 + 0.8) / 2)


def test_near_pairs_and_images_without_a_camera_have_no_distance(image_prediction: MakePrediction) -> None:
    near = image_prediction("a", [2.0, 3.0], [1.0, 1.04], points=[(39.5, 23.5)] * 2, intrinsics=CAMERA)
    bare = image_prediction("b", [1.0, 2.0], [1.0, 3.0])
    single = image_prediction("c", [1.0], [1.0], intrinsics=CAMERA)
    assert pair_distance([near, bare, single], OPEN_DEPTH_RANGE) is None


def test_pairs_depend_on_the_name_and_the_number_of_points_alone() -> None:
    pairs = random_pairs("rgb/0.png", 640)
    assert pairs.shape == (NUM_PAIRS, 2)
    np.testing.assert_array_equal(pairs, random_pairs("rgb/0.png", 640))
    assert (pairs != random_pairs("rgb/1.png", 640)).any(axis=1).mean() > 0.9
    # 2,048 draws from 640 numbers: about 96 % of them come.
    assert 0.93 < len(np.unique(pairs)) / 640 < 0.98
    assert (pairs.min() < 10, 630 < pairs.max() < 640) == (True, True)
    # Recorded: figures of all machines are of these pairs.
    assert pairs[:3].tolist() == [[466, 452], [353, 594], [215, 0]]
