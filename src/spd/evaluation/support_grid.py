"""Points that see each other, asked with a regular grid beside them: the support grid of CoTracker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spd.coordinates import anchor_points, resize_points
from spd.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class WithSupportGrid:
    """A predictor that adds the same grid of points to every call and keeps their answers to itself."""

    predictor: Predictor
    stride: int
    """Pixels between neighbours of the grid, in the image as the model sees it."""

    def encode(self, image: np.ndarray, *, intrinsics: Any = None) -> Callable[[np.ndarray], np.ndarray]:
        """As :meth:`spd.Predictor.encode`; the answer is a function from (K, 2) xy pixels to (K,) metres."""
        scene = self.predictor.encode(image, intrinsics=intrinsics)
        grid = resize_points(anchor_points(scene.seen_size, self.stride), scene.seen_size, scene.size).numpy()
        return lambda points: scene(np.concatenate((points, grid)))[: len(points)]
