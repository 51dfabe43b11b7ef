"""Predictions that tests make up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from spd.camera import Intrinsics
from spd.evaluation.protocol import ImagePrediction

MakePrediction = Callable[..., ImagePrediction]


@pytest.fixture
def image_prediction() -> MakePrediction:
    """Answers about one image of 48x80."""

    def make(
        name: str,
        predicted: Sequence[float],
        true: Sequence[float],
        *,
        points: Sequence[tuple[float, float]] | None = None,
        seconds: float = 0.5,
        scene: str = "",
        intrinsics: Intrinsics | None = None,
    ) -> ImagePrediction:
        places = np.zeros((len(true), 2)) if points is None else np.array(points, np.float64)
        return ImagePrediction(name, places, np.array(true), np.array(predicted), seconds, (48, 80), scene, intrinsics)

    return make
