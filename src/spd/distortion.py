"""Lens distortion by OpenCV: the Brown–Conrady and rational models, and the fisheye one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

DistortionKind: TypeAlias = Literal["opencv", "fisheye"]
_NUMBERS: dict[DistortionKind, tuple[int, ...]] = {"opencv": (4, 5, 8, 12, 14), "fisheye": (4,)}
_ITERATIONS, _PRECISION = 100, 1e-12
_LARGEST_ERROR = 0.1
"""Pixels by which a ray may miss the pixel that it belongs to; where more, the lens model does not reach the pixel."""


@dataclass(frozen=True)
class Distortion:
    """A lens that is not a pinhole.

    Example:
        >>> Distortion("opencv", (-0.3, 0.1, 0.0, 0.0)).kind
        'opencv'

    Source: OpenCV's documentation of ``calib3d`` and of ``cv::fisheye``.
    """

    kind: DistortionKind
    """``opencv``: k1, k2, p1, p2[, k3[, k4, k5, k6[, s1...s4[, τx, τy]]]], from 4 coefficients up Brown–Conrady, from 8
    rational, from 12 with thin prisms. ``fisheye``: k1...k4 of Kannala and Brandt."""
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = _NUMBERS[self.kind]
        if len(self.coefficients) not in numbers or not np.isfinite(self.coefficients).all():
            raise ValueError(
                f"a distortion of kind {self.kind} must be {', '.join(map(str, numbers))} finite coefficients, "
                f"got {list(self.coefficients)}"
            )

    def undo(self, points: Float[np.ndarray, "K 2"], matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "K 2"]:
        """(X / Z, Y / Z) of what is seen at xy pixels, float64; NaN where the model reaches no such pixel.

        Args:
            points: xy pixel indices.
            matrix: of the camera.

        Raises:
            ImportError: OpenCV is not installed.
        """
        import cv2

        if len(points) == 0:
            return np.zeros((0, 2))
        values: Any = np.array(self.coefficients)
        # Until it is exact: OpenCV's own five steps leave tenths of a pixel in the corners of a wide lens.
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _ITERATIONS, _PRECISION)
        pixels = np.ascontiguousarray(points[:, None])
        undo = cv2.fisheye.undistortPoints if self.kind == "fisheye" else cv2.undistortPoints
        seen = undo(pixels, matrix, values, None, None, None, stop)[:, 0]
        error = np.abs(self.apply(seen, matrix) - points).max(axis=1)
        # A comparison with NaN is false.
        return np.where((error <= _LARGEST_ERROR)[:, None], seen, np.nan)

    def apply(self, seen: Float[np.ndarray, "K 2"], matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "K 2"]:
        """The xy pixels at which (X / Z, Y / Z) are seen, float64: the inverse of :meth:`undo`."""
        import cv2

        places = np.concatenate((seen, np.ones((len(seen), 1))), axis=1)[:, None]
        values: Any = np.array(self.coefficients)
        still = np.zeros(3)
        project = cv2.fisheye.projectPoints if self.kind == "fisheye" else cv2.projectPoints
        return project(places, still, still, matrix, values)[0][:, 0]
