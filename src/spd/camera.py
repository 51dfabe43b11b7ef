"""Pinhole intrinsics: how they follow an image that is resized or cropped, and what they make of a depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Intrinsics(NamedTuple):
    """A pinhole camera in pixels of its image; (cx, cy) is a pixel index, (0, 0) the centre of the first pixel."""

    fx: float
    fy: float
    cx: float
    cy: float

    @property
    def focal_length(self) -> float:
        """√(fx·fy): the one number that ties apparent size to depth."""
        return math.sqrt(self.fx * self.fy)

    def resized(self, source_size: tuple[int, int], target_size: tuple[int, int]) -> Intrinsics:
        """The camera of the image resized from ``source_size`` to ``target_size``, both (height, width)."""
        ratio_y = target_size[0] / source_size[0]
        ratio_x = target_size[1] / source_size[1]
        return Intrinsics(
            self.fx * ratio_x,
            self.fy * ratio_y,
            (self.cx + 0.5) * ratio_x - 0.5,
            (self.cy + 0.5) * ratio_y - 0.5,
        )

    def cropped(self, left: float, top: float) -> Intrinsics:
        """The camera of the crop whose first pixel is (left, top); negative where the crop pads."""
        return self._replace(cx=self.cx - left, cy=self.cy - top)

    def flipped(self, width: int) -> Intrinsics:
        """The camera of the image mirrored left to right."""
        return self._replace(cx=width - 1 - self.cx)


def lift(
    query_points: Float[np.ndarray, "K 2"], depth_m: Float[np.ndarray, "K"], intrinsics: Intrinsics
) -> Float[np.ndarray, "K 3"]:
    """Points in camera coordinates, metres: X right, Y down, Z along the optical axis.

    X = (u - cx) / fx · Z and Y = (v - cy) / fy · Z, with Z the predicted depth.

    Args:
        query_points: xy pixel indices of the image that ``intrinsics`` belong to.
        depth_m: z-depth at those pixels in metres.
        intrinsics: the camera.

    Example:
        >>> lift(np.array([[320.0, 240.0]]), np.array([2.0]), Intrinsics(500, 500, 320, 240)).tolist()
        [[0.0, 0.0, 2.0]]
    """
    x = (query_points[:, 0] - intrinsics.cx) / intrinsics.fx
    y = (query_points[:, 1] - intrinsics.cy) / intrinsics.fy
    return np.stack((x * depth_m, y * depth_m, depth_m), axis=1)
