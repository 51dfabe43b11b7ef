"""Answers averaged with those about the mirror image, against models whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spd.camera import Intrinsics
from spd.evaluation.flip import FlipAveraged


class ReadsRed:
    """A predictor whose depth at a pixel is its red value, once more by ``gain`` in the right half of what it sees."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.cameras: list[Any] = []

    def encode(self, image: np.ndarray, *, intrinsics: Any) -> Callable[[np.ndarray], np.ndarray]:
        self.cameras.append(intrinsics)

        def scene(points: np.ndarray) -> np.ndarray:
            u, v = points.astype(int).T
            return image[v, u, 0] * np.where(u >= image.shape[1] / 2, self.gain, 1.0)

        return scene


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (5, 8, 3)).astype(np.uint8)


POINTS = np.array([(0, 0), (7, 4), (3, 2), (6, 1)], dtype=float)


def test_a_model_that_does_not_care_answers_as_before(image: np.ndarray) -> None:
    plain = ReadsRed()
    answers = FlipAveraged(predictor=plain).encode(image, intrinsics=None)(POINTS)
    np.testing.assert_allclose(answers, plain.encode(image, intrinsics=None)(POINTS))


def test_a_preference_for_a_side_is_evened_out_by_the_geometric_mean(image: np.ndarray) -> None:
    answers = FlipAveraged(predictor=ReadsRed(gain=4.0)).encode(image, intrinsics=None)(POINTS)
    u, v = POINTS.astype(int).T
    np.testing.assert_allclose(answers, 2.0 * image[v, u, 0])


def test_the_mirror_image_has_a_mirrored_camera(image: np.ndarray) -> None:
    plain = ReadsRed()
    FlipAveraged(predictor=plain).encode(image, intrinsics=(5.0, 6.0, 2.5, 3.0))
    assert plain.cameras == [(5.0, 6.0, 2.5, 3.0), Intrinsics(5.0, 6.0, 4.5, 3.0)]
