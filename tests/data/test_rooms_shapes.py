"""Shapes of the rooms against a loop that tries every surface of a shape in metres, and against membership in space."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from spd.data.rooms.geometry import Camera, Primitive, cast, look
from spd.data.rooms.shapes import Shape
from spd.data.rooms.textures import Material

ROOM = (4.0, 5.0, 3.0)
SIZE = (21, 31)
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CASES = {
    "box": Primitive("box", (2.0, 2.2, 1.0), (0.3, 0.2, 0.25), 0.4, GREY),
    "leaning box": Primitive("box", (2.0, 2.2, 1.0), (0.05, 0.2, 0.3), 0.4, GREY, tilt=0.3),
    "open box": Primitive("box", (2.0, 2.2, 1.0), (0.3, 0.2, 0.15), -0.5, GREY, wall=0.03),
    "lying cylinder": Primitive("cylinder", (2.0, 2.2, 1.0), (0.15, 0.15, 0.3), 0.9, GREY, tilt=math.pi / 2),
    "mug": Primitive("cylinder", (2.0, 2.2, 1.0), (0.2, 0.2, 0.25), 0.3, GREY, wall=0.03),
    "tilted mug": Primitive("cylinder", (2.0, 2.2, 1.0), (0.2, 0.2, 0.25), 2.3, GREY, tilt=0.7, wall=0.03),
    "cone": Primitive("cone", (2.0, 2.2, 1.0), (0.3, 0.3, 0.2), 0.3, GREY, taper=0.3),
    "widening cone": Primitive("cone", (2.0, 2.2, 1.0), (0.3, 0.3, 0.2), 0.3, GREY, tilt=-0.5, taper=2.5),
    "flat cone": Primitive("cone", (2.0, 2.2, 0.7), (0.4, 0.4, 0.03), 0.0, GREY, taper=0.05),
    "cup": Primitive("cone", (2.0, 2.2, 1.0), (0.25, 0.25, 0.2), 0.0, GREY, taper=1.6, wall=0.02),
    "vase": Primitive("cone", (2.0, 2.2, 1.0), (0.3, 0.3, 0.25), 0.0, GREY, tilt=0.4, taper=0.6, wall=0.03),
    "dome": Primitive("bowl", (2.0, 2.2, 1.0), (0.3, 0.3, 0.12), 0.0, GREY, tilt=math.pi * 0.9),
    "bowl": Primitive("bowl", (2.0, 2.2, 1.0), (0.3, 0.3, 0.12), 0.2, GREY, wall=0.025),
}


def to_own(primitive: Primitive, vector: np.ndarray) -> np.ndarray:
    """A world vector along the primitive's axes: undo the yaw, then the tilt."""
    x = math.cos(primitive.yaw) * vector[0] + math.sin(primitive.yaw) * vector[1]
    y = math.cos(primitive.yaw) * vector[1] - math.sin(primitive.yaw) * vector[0]
    cos, sin = math.cos(primitive.tilt), math.sin(primitive.tilt)
    return np.array((x, cos * y + sin * vector[2], cos * vector[2] - sin * y))


def radii(primitive: Primitive, z: float) -> float:
    """Radius of a cylinder or cone in metres at a height above its middle."""
    wide, half = primitive.half[0], primitive.half[2]
    taper = primitive.taper if primitive.kind == "cone" else 1.0
    base, top = (wide, wide * taper) if taper <= 1 else (wide / taper, wide)
    return base + (top - base) * (z + half) / (2 * half)


def contains(primitive: Primitive, p: np.ndarray) -> bool:
    """Whether the material of the primitive fills a point of its own frame, in metres."""
    (hx, hy, hz), w = primitive.half, primitive.wall
    x, y, z = p
    if abs(z) > hz:
        return False
    if primitive.kind == "box":
        outer = abs(x) <= hx and abs(y) <= hy
        inner = abs(x) <= hx - w and abs(y) <= hy - w and z >= w - hz
    elif primitive.kind == "bowl":
        drop = hz - z
        outer = (x / hx) ** 2 + (y / hy) ** 2 + (drop / (2 * hz)) ** 2 <= 1
        inner = (x / (hx - w)) ** 2 + (y / (hy - w)) ** 2 + (drop / (2 * hz - w)) ** 2 <= 1
    else:
        outer = math.hypot(x, y) <= radii(primitive, z)
        inner = math.hypot(x, y) <= radii(primitive, z) - w and z >= w - hz
    return outer and not (w and inner)


def surfaces(primitive: Primitive) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Quadrics p·A p + b·p + c = 0 on which all surfaces of the primitive lie, in metres of its own frame."""
    (hx, hy, hz), w = primitive.half, primitive.wall

    def plane(axis: int, at: float) -> tuple[np.ndarray, np.ndarray, float]:
        return np.zeros((3, 3)), np.eye(3)[axis], -at

    found = [plane(2, hz), plane(2, -hz), plane(2, w - hz)]
    for thick in {0.0, w}:
        if primitive.kind == "box":
            found += [plane(axis, side * (half - thick)) for axis, half in ((0, hx), (1, hy)) for side in (-1, 1)]
        elif primitive.kind == "bowl":
            a = 1 / np.array((hx - thick, hy - thick, 2 * hz - thick)) ** 2
            found.append((np.diag(a), np.array((0, 0, -2 * hz * a[2])), a[2] * hz**2 - 1))
        else:
            middle, slope = radii(primitive, 0.0) - thick, (radii(primitive, hz) - radii(primitive, -hz)) / (2 * hz)
            found.append((np.diag((1, 1, -(slope**2))), np.array((0, 0, -2 * middle * slope)), -(middle**2)))
    return found


def crossings(primitive: Primitive, start: np.ndarray, ray: np.ndarray) -> list[float]:
    """All t > 0 at which the ray goes into or out of the primitive's material, in order."""
    o, d = to_own(primitive, start - np.array(primitive.centre)), to_own(primitive, ray)
    roots: list[float] = []
    for a, b, c in surfaces(primitive):
        terms = np.array((d @ a @ d, 2 * o @ a @ d + b @ d, o @ a @ o + b @ o + c))
        roots += [float(t.real) for t in np.roots(np.trim_zeros(terms, "f")) if abs(t.imag) < 1e-12 and t.real > 0]
    step = 1e-7
    return sorted(
        t for t in roots if contains(primitive, o + (t - step) * d) != contains(primitive, o + (t + step) * d)
    )


def view(primitive: Primitive, yaw: float, pitch: float, distance: float = 1.1) -> Camera:
    rotation = look(yaw, pitch, 0.1)
    return Camera(np.array(primitive.centre) - distance * rotation[2], rotation, 0.9, (0.02, -0.03))


@pytest.mark.parametrize("name", list(CASES))
def test_depth_equals_a_loop_over_surfaces(name: str) -> None:
    primitive, hits = CASES[name], 0
    for yaw, pitch in ((1.2, 0.9), (2.4, 0.15), (0.3, -0.5), (1.9, 1.3)):
        camera = view(primitive, yaw, pitch)
        depth, owner = cast(ROOM, (primitive,), camera, SIZE)
        fx, fy, cx, cy = camera.intrinsics(SIZE)
        for row, column in np.ndindex(SIZE):
            ray = np.array(((column - cx) / fx, (row - cy) / fy, 1.0)) @ camera.rotation
            expected = crossings(primitive, camera.position, ray)
            assert (owner[row, column] == 0) == bool(expected), (name, row, column)
            if expected:
                hits += 1
                assert depth[row, column] == pytest.approx(expected[0], rel=1e-9), (name, row, column)
    assert hits > 70


@pytest.mark.parametrize("name", list(CASES))
def test_shadow_and_normal(name: str) -> None:
    """A segment is blocked where it holds a point of the material; a normal points out of the material."""
    primitive, rng = CASES[name], np.random.default_rng(3)
    shape, (matrix, centre) = primitive.shape, primitive.world_to_unit()
    reach = 1.6 * max(primitive.half)
    blocked = 0
    for _ in range(300):
        ends = np.array(primitive.centre) + rng.uniform(-reach, reach, (2, 3))
        ray = ends[1] - ends[0]
        o = to_own(primitive, ends[0] - centre)
        inside = [contains(primitive, o + t * to_own(primitive, ray)) for t in (0.0, 1.0)]
        expected = any(inside) or any(t < 1 for t in crossings(primitive, ends[0], ray))
        with np.errstate(divide="ignore", invalid="ignore"):
            assert bool(shape.blocks(matrix @ (ends[0] - centre), matrix @ ray)) == expected
        blocked += expected
    assert 20 < blocked < 290
    camera = view(primitive, 1.2, 0.8)
    depth, owner = cast(ROOM, (primitive,), camera, SIZE)
    fx, fy, cx, cy = camera.intrinsics(SIZE)
    rows, columns = np.nonzero(owner == 0)
    rays = np.stack(((columns - cx) / fx, (rows - cy) / fy, np.ones(len(rows)))) * depth[rows, columns]
    unit = matrix @ (camera.position[:, None] + camera.rotation.T @ rays - centre[:, None])
    normal = shape.normal(unit) / np.array(primitive.half)[:, None]
    normal /= np.linalg.norm(normal, axis=0)
    own, outside, within = unit * np.array(primitive.half)[:, None], 0, 0
    for point, out in zip(own.T, normal.T, strict=True):
        outside += not contains(primitive, point + 1e-5 * out)
        within += contains(primitive, point - 1e-5 * out)
    assert len(rows) > 20
    # Within 0.01 mm of an edge either surface's normal will do.
    assert min(outside, within) >= 0.99 * len(rows)


def test_normals_of_smooth_sides_follow_a_finite_difference() -> None:
    """Of the implicit function of a frustum and of half an ellipsoid."""
    cases: list[tuple[Shape, Callable[[np.ndarray], float]]] = [
        (Shape("cone", taper=0.5), lambda p: math.hypot(p[0], p[1]) - (0.75 - 0.25 * p[2])),
        (Shape("bowl"), lambda p: p[0] ** 2 + p[1] ** 2 + ((1 - p[2]) / 2) ** 2),
    ]
    for shape, implicit in cases:
        radius = 0.75 - 0.25 * 0.2 if shape.kind == "cone" else math.sqrt(1 - 0.4**2)
        point = np.array((0.6 * radius, 0.8 * radius, 0.2))
        gradient = np.array([(implicit(point + e) - implicit(point - e)) / 2e-5 for e in 1e-5 * np.eye(3)])
        found = shape.normal(point[:, None])[:, 0]
        np.testing.assert_allclose(
            found / np.linalg.norm(found), gradient / np.linalg.norm(gradient), rtol=1e-6, atol=1e-9
        )
