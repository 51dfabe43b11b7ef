"""Geometry of the rooms: primitives, a pinhole camera, and exact z-depth by analytic ray casting.

World axes: X and Y on the floor, Z up; the room spans (0, 0, 0) to its size, in metres. A ray is
``origin + t · direction`` with a direction whose component along the optical axis is 1, so t *is* the z-depth.
Each primitive is cast as the unit shape of its kind in its own scaled frame, which leaves t as it is, and only in the
pixels of the rectangle that bounds its projection.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int16

from spd.camera import Intrinsics
from spd.data.rooms.shapes import Kind, Shape, interval
from spd.data.rooms.textures import Material

Vector = tuple[float, float, float]

SHELL = -1
"""Owner of the pixels that see the room itself: floor, ceiling or a wall."""

_NEAR = 0.05
"""Metres before the camera from which projections are bounded; nothing stands nearer."""
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
_EDGES = np.array([(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b).bit_count() == 1])


class Primitive(NamedTuple):
    """A box, (elliptic) cylinder, ellipsoid, frustum or bowl, solid or open at its top, turned and tilted."""

    kind: Kind
    centre: Vector
    half: Vector
    """Half of its extent along its own axes: (r, r, half height) for a cylinder, (r, r, r) for a sphere. The radius of
    a cone is that of its wider end."""
    yaw: float
    """Radians from the world's X to its own first axis, counterclockwise seen from above."""
    material: Material
    piece: int = 0
    """The piece of furniture that it is part of."""
    tilt: float = 0.0
    """Radians by which its top leans towards its back, -Y of its own frame: π/2 lays it down on its back."""
    taper: float = 1.0
    """Radius of a cone at its top over that at its base."""
    wall: float = 0.0
    """Metres of wall around a cavity that is open at the top; 0 for something solid."""

    @property
    def shape(self) -> Shape:
        """The unit shape that it is in its own scaled frame."""
        if not self.wall:
            return Shape(self.kind, self.taper)
        x, y, z = (float(self.wall / half) for half in self.half)
        return Shape(self.kind, self.taper, (x, y, z))

    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """World to own axes; its rows are these axes in the world."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        upright = np.array(((cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0)))
        if not self.tilt:
            return upright
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return np.array(((1.0, 0.0, 0.0), (0.0, cos, sin), (0.0, -sin, cos))) @ upright

    def world_to_unit(self) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
        """(A, c): a world point p is A (p - c) in the frame where the primitive is the unit shape."""
        return self.rotation() / np.array(self.half)[:, None], np.array(self.centre)


class Camera(NamedTuple):
    """A pinhole camera in the room, free of the size of the image."""

    position: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    """World to camera; its rows are the camera's right, down and forward in the world."""
    focal: float
    """Focal length over the width of the image."""
    shift: tuple[float, float]
    """Offset of the principal point from the centre of the image, over the width."""

    def intrinsics(self, size: tuple[int, int]) -> Intrinsics:
        """The camera of an image of (height, width), with square pixels."""
        height, width = size
        return Intrinsics(
            self.focal * width,
            self.focal * width,
            width * (0.5 + self.shift[0]) - 0.5,
            height / 2 + width * self.shift[1] - 0.5,
        )


def look(yaw: float, pitch: float, roll: float) -> Float[np.ndarray, "3 3"]:
    """World-to-camera rotation.

    Args:
        yaw: radians from the world's X to the optical axis, counterclockwise seen from above.
        pitch: radians below the horizon.
        roll: radians about the optical axis.
    """
    forward = np.array((math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)))
    level = np.array((math.sin(yaw), -math.cos(yaw), 0.0))
    down = np.cross(forward, level)
    right = math.cos(roll) * level + math.sin(roll) * down
    return np.stack((right, np.cross(forward, right), forward))


def cast(
    room: Vector, primitives: tuple[Primitive, ...], camera: Camera, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "H W"], Int16[np.ndarray, "H W"]]:
    """Exact depth of every pixel and what it sees.

    Args:
        room: size of the room in metres; the camera is inside it and outside every primitive.
        primitives: what stands in it.
        camera: where it is seen from.
        size: (height, width) of the image.

    Returns:
        z-depth in metres, float64, and the index of the primitive that is seen, ``SHELL`` for the room itself.
    """
    intrinsics = camera.intrinsics(size)
    x = ((np.arange(size[1]) - intrinsics.cx) / intrinsics.fx)[None, :]
    y = ((np.arange(size[0]) - intrinsics.cy) / intrinsics.fy)[:, None]
    owner = np.full(size, SHELL, np.int16)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = np.array(room) / 2
        start = (camera.position - half) / half
        _, depth = interval("box", start, _directions(camera.rotation.T / half[:, None], x, y))
        for index in _in_view(primitives, camera, size):
            primitive = primitives[index]
            window = projected_bounds(primitive, camera, size)
            if window is None:
                continue
            matrix, centre = primitive.world_to_unit()
            direction = _directions(matrix @ camera.rotation.T, x[:, window[1]], y[window[0]])
            near, hit = primitive.shape.entry(matrix @ (camera.position - centre), direction)
            seen = depth[window]
            closer = hit & (near < seen)
            np.copyto(seen, near, where=closer)
            np.copyto(owner[window], np.int16(index), where=closer)
    return depth, owner


def _directions(
    matrix: Float[np.ndarray, "3 3"], x: Float[np.ndarray, "1 W"], y: Float[np.ndarray, "H 1"]
) -> list[Float[np.ndarray, "H W"]]:
    """The rays (x, y, 1) of a grid of pixels, brought to another frame by a matrix."""
    return [row[0] * x + (row[1] * y + row[2]) for row in matrix]


def _in_view(primitives: tuple[Primitive, ...], camera: Camera, size: tuple[int, int]) -> list[int]:
    """Which primitives may be seen: their bounding sphere meets the pyramid of view."""
    if not primitives:
        return []
    centres = np.array([primitive.centre for primitive in primitives])
    radii = np.sqrt(np.square([primitive.half for primitive in primitives]).sum(1))
    x, y, z = camera.rotation @ (centres - camera.position).T
    fx, fy, cx, cy = camera.intrinsics(size)
    met = z > _NEAR - radii
    for across, focal, first, last in ((x, fx, -1 - cx, size[1] - cx), (y, fy, -1 - cy, size[0] - cy)):
        # Metres before the plane through the camera and a column or row just outside the image.
        met &= (across * focal - first * z) > -radii * math.hypot(focal, first)
        met &= (last * z - across * focal) > -radii * math.hypot(focal, last)
    return np.flatnonzero(met).tolist()


def projected_bounds(primitive: Primitive, camera: Camera, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest rectangle that holds the primitive's bounding box; None if none does."""
    matrix, centre = primitive.world_to_unit()
    corners = (_CORNERS * primitive.half) @ (matrix * np.array(primitive.half)[:, None])
    corners = (corners + centre - camera.position) @ camera.rotation.T
    in_front = corners[:, 2] >= _NEAR
    if not in_front.any():
        return None
    points = corners[in_front]
    if not in_front.all():
        # The part of the box before the near plane: its corners, and where the plane cuts its edges.
        start, end = corners[_EDGES[:, 0]], corners[_EDGES[:, 1]]
        cut = (start[:, 2] >= _NEAR) != (end[:, 2] >= _NEAR)
        start, end = start[cut], end[cut]
        part = (_NEAR - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
        points = np.concatenate((points, start + part * (end - start)))
    intrinsics = camera.intrinsics(size)
    u = points[:, 0] / points[:, 2] * intrinsics.fx + intrinsics.cx
    v = points[:, 1] / points[:, 2] * intrinsics.fy + intrinsics.cy
    left, right = max(math.ceil(u.min() - 1e-6), 0), min(math.floor(u.max() + 1e-6), size[1] - 1)
    top, bottom = max(math.ceil(v.min() - 1e-6), 0), min(math.floor(v.max() + 1e-6), size[0] - 1)
    if left > right or top > bottom:
        return None
    return slice(top, bottom + 1), slice(left, right + 1)
