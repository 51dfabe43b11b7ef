"""Answers averaged with those about the mirrored image, as dense models are often scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spd.evaluation.protocol import EncodesImages
from spd.inputs import as_intrinsics


@dataclass(frozen=True, kw_only=True)
class FlipAveraged:
    """A predictor whose answer is the geometric mean of its answers about the image and about its mirror image.

    Both are encoded, so an image takes twice the time. The mean is geometric, since errors of depth are factors.
    """

    predictor: EncodesImages

    def encode(self, image: np.ndarray, *, intrinsics: Any = None) -> Callable[[np.ndarray], np.ndarray]:
        """As :meth:`spd.Predictor.encode`; the answer is a function from (K, 2) xy pixels to (K,) metres."""
        width = image.shape[1]
        camera = as_intrinsics(intrinsics)
        mirrored_camera = None if camera is None else camera.flipped(width)
        scene = self.predictor.encode(image, intrinsics=intrinsics)
        mirrored = self.predictor.encode(np.ascontiguousarray(image[:, ::-1]), intrinsics=mirrored_camera)

        def answer(points: np.ndarray) -> np.ndarray:
            points = np.asarray(points)
            across = np.stack((width - 1 - points[:, 0], points[:, 1]), axis=1)
            return np.sqrt(scene(points) * mirrored(across))

        return answer
