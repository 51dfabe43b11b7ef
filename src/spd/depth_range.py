"""Which true depths count: when a model is scored, when a constant is fitted, when a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DepthRange:
    """The depths between two bounds, both excluded, in metres.

    Args:
        min_m: above 0.
        max_m: above ``min_m`` and finite, so that a prediction clamped to it has a finite error.

    Raises:
        ValueError: the bounds are not such numbers.

    Example:
        >>> str(DepthRange(0.001, 10.0))
        '0.001 to 10 m'
    """

    min_m: float
    max_m: float

    def __post_init__(self) -> None:
        # A lower bound of 0 would clamp to a depth without a logarithm.
        if not 0 < self.min_m < self.max_m < math.inf:
            raise ValueError(
                f"a depth range must be MIN MAX in metres with 0 < MIN < MAX, got {self.min_m} {self.max_m}"
            )

    def mask(self, depth_m: Any) -> Any:
        """Which values of an array or a tensor lie in the range, of the same kind; NaN does not."""
        return (depth_m > self.min_m) & (depth_m < self.max_m)

    def __str__(self) -> str:
        return f"{self.min_m:g} to {self.max_m:g} m"


EIGEN_DEPTH_RANGE = DepthRange(1e-3, 10.0)
"""Of Eigen et al. 2014 on NYU Depth V2, whose Kinect ends at 10 m."""
OPEN_DEPTH_RANGE = DepthRange(1e-3, 1000.0)
"""Where a protocol names no range: no sensor measures beyond it, and a renderer writes there what is sky."""
