from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spd.camera import Intrinsics, lift

CAMERA = Intrinsics(518.9, 519.5, 325.6, 253.7)
focal = st.floats(10, 5000)
centre = st.floats(-500, 5000)
side = st.integers(1, 4000)


def project(xyz: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """The pinhole camera, point by point: where a point in space falls in pixels."""
    return np.array([(camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy) for x, y, z in xyz.tolist()])


def test_focal_length_is_the_geometric_mean() -> None:
    assert Intrinsics(400.0, 900.0, 0.0, 0.0).focal_length == pytest.approx(600.0)


def test_resized_by_hand() -> None:
    # Half as wide and a third as high; the image's centre, between pixels 319 and 320, stays its centre.
    camera = Intrinsics(500.0, 600.0, 319.5, 239.5).resized((480, 640), (160, 320))
    assert camera == pytest.approx((250.0, 200.0, 159.5, 79.5))


@given(fx=focal, fy=focal, cx=centre, cy=centre, source=st.tuples(side, side), target=st.tuples(side, side))
def test_resized_keeps_the_fraction_of_the_image(
    fx: float, fy: float, cx: float, cy: float, source: tuple[int, int], target: tuple[int, int]
) -> None:
    """A point in space falls on the same fraction of the image, measured between its edges, before and after."""
    camera = Intrinsics(fx, fy, cx, cy)
    xyz = np.array([[0.3, -0.2, 2.0], [-1.0, 0.5, 4.0]])
    before = (project(xyz, camera) + 0.5) / (source[1], source[0])
    after = (project(xyz, camera.resized(source, target)) + 0.5) / (target[1], target[0])
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


def test_cropped_moves_the_projection() -> None:
    xyz = np.array([[0.3, -0.2, 2.0]])
    moved = project(xyz, CAMERA.cropped(left=40.0, top=-7.0))
    np.testing.assert_allclose(moved, project(xyz, CAMERA) - (40, -7))


def test_flipped_mirrors_the_projection() -> None:
    """Mirroring the scene left to right mirrors the image: pixel u goes to W - 1 - u."""
    u, v = project(np.array([[0.3, -0.2, 2.0]]), CAMERA)[0]
    mirrored = project(np.array([[-0.3, -0.2, 2.0]]), CAMERA.flipped(640))[0]
    np.testing.assert_allclose(mirrored, (639 - u, v))
    assert CAMERA.flipped(640).flipped(640) == pytest.approx(CAMERA)


@given(
    fx=focal,
    fy=focal,
    cx=centre,
    cy=centre,
    points=st.lists(st.tuples(centre, centre, st.floats(0.1, 20)), max_size=6),
)
def test_lift_is_undone_by_projection(
    fx: float, fy: float, cx: float, cy: float, points: list[tuple[float, float, float]]
) -> None:
    camera = Intrinsics(fx, fy, cx, cy)
    array = np.array(points, dtype=np.float64).reshape(-1, 3)
    xyz = lift(array[:, :2], array[:, 2], camera)
    assert xyz.shape == (len(points), 3)
    np.testing.assert_array_equal(xyz[:, 2], array[:, 2])
    np.testing.assert_allclose(project(xyz, camera).reshape(-1, 2), array[:, :2], atol=1e-8)


def test_lift_points_right_and_down() -> None:
    x, y, z = lift(np.array([[425.6, 353.7]]), np.array([2.0]), CAMERA)[0]
    assert x == pytest.approx(2.0 * 100 / 518.9)
    assert y == pytest.approx(2.0 * 100 / 519.5)
    assert z == 2.0
    assert math.hypot(x, y, z) > 2.0  # Depth is along the axis, not along the ray.
