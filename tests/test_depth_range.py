"""Which depths a range holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spd.depth_range import DepthRange


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_bounds_are_excluded(kind) -> None:
    depth_m = kind([0.0, 0.5, 0.51, 79.9, 80.0, math.nan, math.inf, -1.0])
    assert DepthRange(0.5, 80.0).mask(depth_m).tolist() == [False, False, True, True, False, False, False, False]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_other_bounds_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be MIN MAX in metres with 0 < MIN < MAX, got"):
        DepthRange(*bounds)
