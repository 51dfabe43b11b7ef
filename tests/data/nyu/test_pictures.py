"""Bytes of images and depth maps."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spd.data.nyu.pictures import encode_png, to_millimetres


@pytest.mark.parametrize(("kind", "shape"), [(np.uint8, (5, 7, 3)), (np.uint16, (5, 7))])
def test_png_keeps_every_value(kind: type, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    with Image.open(io.BytesIO(encode_png(pixels))) as read:
        np.testing.assert_array_equal(np.array(read), pixels)


@settings(deadline=None)
@given(st.floats(0, 65.5, width=32))
def test_depth_is_off_by_half_a_millimetre_at_most(depth: float) -> None:
    (millimetres,) = to_millimetres(np.full((1, 1), depth, np.float32), "x")[0]
    assert abs(int(millimetres) - float(depth) * 1000) <= 0.5


def test_what_is_no_measurement_is_zero() -> None:
    depth = np.array([[0, -1, np.nan], [np.inf, -np.inf, 2.5]], np.float32)
    np.testing.assert_array_equal(to_millimetres(depth, "x"), [[0, 0, 0], [0, 0, 2500]])


def test_millimetres_for_metres_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a.h5 must hold metres up to 65.535, got 2500"):
        to_millimetres(np.array([[2500.0, 1.0]], np.float32), "a.h5")
