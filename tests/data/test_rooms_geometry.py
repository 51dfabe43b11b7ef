"""Exact depth of the rooms against hand-computed cases, a slow scalar caster and an independent projection."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.camera import lift
from spd.data.rooms.geometry import SHELL, Camera, Primitive, cast, look
from spd.data.rooms.scene import sample_scene
from spd.data.rooms.textures import Material

SIZE = (36, 52)
ROOM = (4.0, 5.0, 3.0)
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _level_camera(y: float = 1.0, height: float = 1.5) -> Camera:
    """In the middle of the room's width, looking level along the world's Y."""
    return Camera(np.array((2.0, y, height)), look(math.pi / 2, 0.0, 0.0), 0.7, (0.011, -0.017))


def _pixel_rays(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """X / Z and Y / Z of every pixel, from the intrinsics."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    fx, fy, cx, cy = camera.intrinsics(size)
    return (columns - cx) / fx, (rows - cy) / fy


class TestExactDepth:
    def test_empty_room(self) -> None:
        """Straight ahead every pixel of the wall is 4 m away in z, though its rays are longer."""
        camera = _level_camera()
        depth, owner = cast(ROOM, (), camera, SIZE)
        x, y = _pixel_rays(camera, SIZE)
        # Facing +Y, the world's X is the camera's X: both side walls are 2 m away, floor and ceiling 1.5 m.
        expected = np.minimum(np.minimum(4.0, 2.0 / np.abs(x)), 1.5 / np.abs(y))
        np.testing.assert_allclose(depth, expected, rtol=1e-12)
        assert (owner == SHELL).all()
        assert depth[18, 26] == pytest.approx(4.0, abs=1e-12)
        assert depth[0, 26] < 4.0

    def test_sphere(self) -> None:
        camera = _level_camera()
        sphere = Primitive("sphere", (2.0, 3.5, 1.5), (0.6, 0.6, 0.6), 0.3, GREY)
        depth, owner = cast(ROOM, (sphere,), camera, SIZE)
        x, y = _pixel_rays(camera, SIZE)
        # |(x, y, 1) t - (0, 0, 2.5)| = 0.6
        a, b, c = x**2 + y**2 + 1, -5.0, 2.5**2 - 0.36
        discriminant = b * b - 4 * a * c
        hit = discriminant > 0
        np.testing.assert_array_equal(owner == 0, hit)
        assert 50 < hit.sum() < hit.size / 2
        np.testing.assert_allclose(depth[hit], (-b - np.sqrt(discriminant[hit])) / (2 * a[hit]), rtol=1e-12)

    def test_cylinder_side_and_cap(self) -> None:
        """Seen from above its top: the cap where the ray is inside the circle at that height, else the side."""
        camera = _level_camera(height=2.0)
        bin_ = Primitive("cylinder", (2.0, 2.7, 0.7), (0.4, 0.4, 0.7), 1.1, GREY)
        depth, owner = cast(ROOM, (bin_,), camera, (60, 84))
        x, y = _pixel_rays(camera, (60, 84))
        top, bottom = 0.6, 2.0
        with np.errstate(all="ignore"):
            on_cap = top / y
            cap = (y > 0) & (np.hypot(x * on_cap, on_cap - 1.7) <= 0.4)
            on_side = (1.7 - np.sqrt(1.7**2 - (1 + x**2) * (1.7**2 - 0.16))) / (1 + x**2)
            side = ~cap & (on_side * y >= top) & (on_side * y <= bottom)
        np.testing.assert_array_equal(owner == 0, cap | side)
        assert cap.sum() > 20
        assert side.sum() > 20
        np.testing.assert_allclose(depth[cap], on_cap[cap], rtol=1e-12)
        np.testing.assert_allclose(depth[side], on_side[side], rtol=1e-12)

    def test_turned_box(self) -> None:
        """A box on its edge: turned by 45 degrees, its nearest line is half a diagonal before its middle."""
        camera = _level_camera()._replace(shift=(0.0, 0.0))
        crate = Primitive("box", (2.0, 3.5, 1.5), (0.5, 0.5, 0.3), math.pi / 4, GREY)
        depth, owner = cast(ROOM, (crate,), camera, (35, 53))
        assert owner[17, 26] == 0
        assert depth[17, 26] == pytest.approx(2.5 - math.sqrt(0.5), abs=1e-12)
        x, _ = _pixel_rays(camera, (35, 53))
        # The two faces that are seen run at 45 degrees: z = 2.5 - sqrt(0.5) + |x| z.
        seen = owner == 0
        np.testing.assert_allclose(depth[seen], (2.5 - math.sqrt(0.5)) / (1 - np.abs(x[seen])), rtol=1e-12)

    @pytest.mark.parametrize("seed", range(6))
    def test_equals_slow_reference(self, seed: int) -> None:
        """Whole rooms against a loop over rays and primitives that knows nothing of unit shapes or bounds."""
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        depth, owner = cast(scene.size, scene.primitives, scene.camera, SIZE)
        x, y = _pixel_rays(scene.camera, SIZE)
        for row, column in zip(rng.integers(0, SIZE[0], 40), rng.integers(0, SIZE[1], 40), strict=True):
            ray = np.array((x[row, column], y[row, column], 1.0)) @ scene.camera.rotation
            expected, thing = _slow_cast(scene.size, scene.primitives, scene.camera.position, ray)
            assert depth[row, column] == pytest.approx(expected, rel=1e-9)
            assert owner[row, column] == thing or expected == pytest.approx(
                _slow_hit(scene.primitives[owner[row, column]], scene.camera.position, ray), rel=1e-9
            )

    def test_primitive_that_reaches_behind_the_camera(self) -> None:
        """A long shelf beside the camera: its corners are before and behind it."""
        camera = _level_camera(y=2.0)
        shelf = Primitive("box", (3.0, 2.4, 1.0), (0.2, 2.3, 0.2), 0.0, GREY)
        depth, owner = cast(ROOM, (shelf,), camera, SIZE)
        x, y = _pixel_rays(camera, SIZE)
        for row, column in np.ndindex(SIZE):
            ray = np.array((x[row, column], y[row, column], 1.0)) @ camera.rotation
            expected, thing = _slow_cast(ROOM, (shelf,), camera.position, ray)
            assert depth[row, column] == pytest.approx(expected, rel=1e-9)
            assert owner[row, column] == thing
        assert (owner == 0).sum() > 50


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(("box", "cylinder", "sphere")),
    centre=st.tuples(st.floats(0.2, 3.8), st.floats(2.2, 4.8), st.floats(0.2, 2.8)),
    half=st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.floats(0.05, 0.9)),
    yaw=st.floats(-4, 4),
    turn=st.tuples(st.floats(1.0, 2.1), st.floats(-0.2, 0.5), st.floats(-0.3, 0.3)),
)
def test_points_lie_on_what_they_hit(kind: str, centre: tuple, half: tuple, yaw: float, turn: tuple) -> None:
    """Back-projected with the camera of the image, every pixel is a point of the surface that it sees."""
    primitive = Primitive(kind, centre, half, yaw, GREY)  # pyright: ignore[reportArgumentType]
    camera = Camera(np.array((2.0, 0.7, 1.4)), look(*turn), 0.6, (0.01, 0.02))
    depth, owner = cast(ROOM, (primitive,), camera, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack((columns.ravel(), rows.ravel()), axis=1).astype(float)
    world = lift(pixels, depth.ravel(), camera.intrinsics(SIZE)) @ camera.rotation + camera.position
    hit = owner.ravel() == 0
    shell = world[~hit]
    assert np.abs(np.stack((shell, np.array(ROOM) - shell))).min(axis=(0, 2)).max(initial=0.0) < 1e-9
    offset = world[hit] - centre
    cos, sin = math.cos(yaw), math.sin(yaw)
    local = np.stack(
        (cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0], offset[:, 2]), 1
    )
    unit = np.abs(local / half)
    if kind == "box":
        size = unit.max(1, initial=0.0)
    elif kind == "sphere":
        size = np.sqrt((unit**2).sum(1))
    else:
        size = np.maximum(np.hypot(unit[:, 0], unit[:, 1]), unit[:, 2])
    np.testing.assert_allclose(size, 1.0, atol=1e-8)


def _slow_cast(
    room: tuple[float, float, float], primitives: tuple[Primitive, ...], start: np.ndarray, ray: np.ndarray
) -> tuple[float, int]:
    best = min((room[k] - start[k]) / ray[k] if ray[k] > 0 else -start[k] / ray[k] for k in range(3) if ray[k] != 0)
    thing = SHELL
    for number, primitive in enumerate(primitives):
        t = _slow_hit(primitive, start, ray)
        if t < best:
            best, thing = t, number
    return best, thing


def _slow_hit(primitive: Primitive, start: np.ndarray, ray: np.ndarray) -> float:
    """The first t > 0 at which a ray is on one of the primitive's surfaces, each tried by itself."""
    cos, sin = math.cos(primitive.yaw), math.sin(primitive.yaw)
    o = start - np.array(primitive.centre)
    o, d = (
        np.array((cos * vector[0] + sin * vector[1], cos * vector[1] - sin * vector[0], vector[2]))
        for vector in (o, ray)
    )
    h, found = np.array(primitive.half), [math.inf]

    def inside(t: float, axes: tuple[int, ...]) -> bool:
        point = np.abs(o + t * d)
        return all(point[axis] <= h[axis] * (1 + 1e-12) for axis in axes)

    if primitive.kind == "box":
        for axis in range(3):
            others = tuple({0, 1, 2} - {axis})
            planes = [(side * h[axis] - o[axis]) / d[axis] for side in (-1, 1)]
            found += [t for t in planes if t > 0 and inside(t, others)]
        return min(found)
    axes = 3 if primitive.kind == "sphere" else 2
    weights = 1 / h[:axes] ** 2
    a, b, c = (
        (weights * d[:axes] ** 2).sum(),
        2 * (weights * o[:axes] * d[:axes]).sum(),
        (weights * o[:axes] ** 2).sum(),
    )
    roots = np.roots((a, b, c - 1))
    found += [float(t.real) for t in roots if t.imag == 0 and t.real > 0 and (axes == 3 or inside(t.real, (2,)))]
    if axes == 2:
        for side in (-1, 1):
            t = (side * h[2] - o[2]) / d[2]
            if t > 0 and (((o + t * d)[:2] / h[:2]) ** 2).sum() <= 1:
                found.append(t)
    return min(found)


def test_look() -> None:
    """Level along Y the camera's right is the world's X; a pitch looks down; a roll keeps the optical axis."""
    np.testing.assert_allclose(look(math.pi / 2, 0.0, 0.0), ((1, 0, 0), (0, 0, -1), (0, 1, 0)), atol=1e-12)
    np.testing.assert_allclose(look(0.0, math.pi / 6, 0.0)[2], (math.sqrt(0.75), 0, -0.5), atol=1e-12)
    rolled = look(0.7, 0.2, 0.3)
    np.testing.assert_allclose(rolled @ rolled.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rolled) == pytest.approx(1.0)
    np.testing.assert_allclose(rolled[2], look(0.7, 0.2, 0.0)[2], atol=1e-12)
    assert rolled[0] @ look(0.7, 0.2, 0.0)[1] == pytest.approx(math.sin(0.3))
