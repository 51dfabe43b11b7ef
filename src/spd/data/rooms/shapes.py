"""The unit shapes that everything in a room is made of: where rays meet them, and which way their surfaces look.

Each shape fills the cube from -1 to 1 along the axes of its own frame, and may have a cavity that is open at its top.
Rays are ``origin + t · direction``; ``origin`` and ``direction`` are three numbers or arrays (x, y, z) in the shape's
frame, of shapes that broadcast, and t is the same in every frame.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Kind = Literal["box", "cylinder", "sphere", "cone", "bowl"]


class Shape(NamedTuple):
    """A unit shape, with what its kind leaves open."""

    kind: Kind
    """``cone`` is a straight frustum, ``bowl`` the lower half of an ellipsoid whose rim is at z = 1."""
    taper: float = 1.0
    """Radius of a cone at its top over that at its base, above 0; the larger of them is 1."""
    wall: tuple[float, float, float] | None = None
    """How thick the wall is along each axis, 1 being half of the extent; None for a shape without a cavity."""

    def radius(self, z: Any) -> Any:
        """Radius of a cylinder or cone at a height."""
        base, top = (1 / self.taper, 1.0) if self.taper > 1 else (1.0, self.taper)
        return (base + top) / 2 + (top - base) / 2 * z

    def hull(self, origin: Any, direction: Any) -> tuple[Any, Any]:
        """Where rays enter and leave the shape without its cavity; near > far (or NaN) where they miss it."""
        if self.kind == "cone":
            near, far = _cone(origin, direction, self.radius(0.0), self.radius(1.0) - self.radius(0.0))
            return _between(near, far, origin[2], direction[2], -1.0, 1.0)
        if self.kind == "bowl":
            near, far = _quadratic(_bowl_frame(origin, 1.0), _bowl_frame(direction, 0.0))
            return _between(near, far, origin[2], direction[2], -1.0, 1.0)
        return interval(self.kind, origin, direction)

    def cavity(self, origin: Any, direction: Any) -> tuple[Any, Any]:
        """Where rays enter and leave the cavity, as if it went on above the top."""
        assert self.wall is not None
        inner = [1 - thick for thick in self.wall]
        if self.kind == "bowl":
            scale = (inner[0], inner[1], 1 - self.wall[2] / 2)
            return _quadratic(_bowl_frame(origin, 1.0, scale), _bowl_frame(direction, 0.0, scale))
        if self.kind == "cone":
            near, far = _cone(origin, direction, self.radius(0.0) - self.wall[0], self.radius(1.0) - self.radius(0.0))
        elif self.kind == "cylinder":
            near, far = _quadratic([o / inner[0] for o in origin[:2]], [d / inner[0] for d in direction[:2]])
        else:
            near, far = _between(-np.inf, np.inf, origin[0], direction[0], -inner[0], inner[0])
            near, far = _between(near, far, origin[1], direction[1], -inner[1], inner[1])
        return _between(near, far, origin[2], direction[2], -inner[2], np.inf)

    def entry(self, origin: Any, direction: Any) -> tuple[Any, Any]:
        """Where rays that start outside first meet the surface, and which of them do: (t, mask)."""
        near, far = self.hull(origin, direction)
        hit = (near <= far) & (near > 0)
        if self.wall is not None:
            enter, leave = self.cavity(origin, direction)
            # A ray that comes in through the open top meets the wall from within.
            near = np.where((enter <= near) & (near < leave), leave, near)
        return near, hit

    def blocks(self, origin: Any, direction: Any) -> Any:
        """Whether something of the shape lies on the ray between t = 0 and t = 1."""
        near, far = self.hull(origin, direction)
        met = (near <= far) & (near < 1) & (far > 0)
        if self.wall is not None:
            enter, leave = self.cavity(origin, direction)
            met &= ~((enter <= np.maximum(near, 0)) & (np.minimum(far, 1) <= leave))
        return met

    def normal(self, points: Float[np.ndarray, "3 N"]) -> Float[np.ndarray, "3 N"]:
        """A vector along the outward normal, in the shape's frame, at points of its surface."""
        normal = self._hull_normal(points)
        if self.wall is None:
            return normal
        inner = [1 - thick for thick in self.wall]
        slack = 1e-3
        if self.kind == "bowl":
            scaled = np.stack(_bowl_frame(points, 1.0, (inner[0], inner[1], 1 - self.wall[2] / 2)))
            inside = ((scaled * scaled).sum(0) < 1 + slack) & (points[2] < 1 - slack)
            return np.where(inside, -normal, normal)
        if self.kind == "box":
            depth = np.stack((inner[0] - np.abs(points[0]), inner[1] - np.abs(points[1]), points[2] + inner[2]))
            side = -np.sign(points)
            side[2] = 1
            toward = side * (depth.argmin(0) == np.arange(3)[:, None])
        else:
            radial = np.hypot(points[0], points[1])
            room = self.radius(points[2]) - self.wall[0] - radial
            depth = np.stack((room, points[2] + inner[2]))
            slope = self.radius(1.0) - self.radius(0.0)
            wall = np.stack((-points[0], -points[1], slope * radial))
            toward = np.where(depth[0] < depth[1], wall, np.array((0, 0, 1), points.dtype)[:, None])
        inside = (depth.min(0) > -slack) & (points[2] < 1 - slack)
        return np.where(inside, toward, normal)

    def _hull_normal(self, points: Float[np.ndarray, "3 N"]) -> Float[np.ndarray, "3 N"]:
        if self.kind == "box":
            return np.sign(points) * (np.abs(points).argmax(0) == np.arange(3)[:, None])
        normal = points.copy()
        if self.kind == "sphere":
            return normal
        cap = np.abs(points[2]) > 1 - 1e-4
        if self.kind == "bowl":
            # The gradient of x² + y² + ((z - 1) / 2)².
            cap &= points[2] > 0
            normal[2] = (points[2] - 1) / 4
        elif self.kind == "cone":
            normal[2] = (self.radius(0.0) - self.radius(1.0)) * np.hypot(points[0], points[1])
        else:
            normal[2] = 0
        normal[2, cap] = np.sign(points[2, cap])
        normal[:2, cap] = 0
        return normal


def interval(kind: Kind, origin: Any, direction: Any) -> tuple[Any, Any]:
    """Where rays enter and leave the unit box, cylinder or sphere; near > far (or NaN) where they miss it."""
    if kind == "sphere":
        return _quadratic(origin, direction)
    if kind == "cylinder":
        near, far = _quadratic(origin[:2], direction[:2])
        pairs = ((origin[2], direction[2]),)
    else:
        near, far = -np.inf, np.inf
        pairs = tuple(zip(origin, direction, strict=True))
    for start, step in pairs:
        near, far = _between(near, far, start, step, -1.0, 1.0)
    return near, far


def _between(near: Any, far: Any, start: Any, step: Any, low: float, high: float) -> tuple[Any, Any]:
    """The part of an interval in which start + t · step lies between low and high."""
    inverse = 1 / step
    first, last = (low - start) * inverse, (high - start) * inverse
    return np.maximum(near, np.minimum(first, last)), np.minimum(far, np.maximum(first, last))


def _quadratic(origin: Any, direction: Any) -> tuple[Any, Any]:
    """Where rays cross the unit circle or sphere of as many dimensions as are given; NaN where they do not."""
    a = sum(step * step for step in direction)
    # A ray along the axis is inside or outside for all t; a tiny speed says so without a branch.
    a = np.maximum(a, 1e-30)
    b = sum(start * step for start, step in zip(origin, direction, strict=True))
    c = sum(start * start for start in origin) - 1
    root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def _cone(origin: Any, direction: Any, middle: float, slope: float) -> tuple[Any, Any]:
    """Where rays are inside x² + y² ≤ (middle + slope · z)², of its two halves the one whose radius is positive."""
    radius, growth = middle + slope * origin[2], slope * direction[2]
    a = direction[0] * direction[0] + direction[1] * direction[1] - growth * growth
    b = origin[0] * direction[0] + origin[1] * direction[1] - radius * growth
    c = origin[0] * origin[0] + origin[1] * origin[1] - radius * radius
    # Roots without the difference of two like numbers, which a near 0 would spoil.
    stable = -(b + np.copysign(np.sqrt(b * b - a * c), b))
    first, second = stable / a, c / stable
    low, high = np.minimum(first, second), np.maximum(first, second)
    # A ray steeper than the side is inside on both outer parts; one of them belongs to the other half.
    steep = a < 0
    near = np.where(steep, np.where(growth > 0, high, -np.inf), low)
    far = np.where(steep, np.where(growth > 0, np.inf, low), high)
    return near, far


def _bowl_frame(vector: Any, rim: float, scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[Any, Any, Any]:
    """A vector in the frame where the bowl's ellipsoid, of radii (1, 1, 2) · scale around the rim, is the unit ball."""
    return vector[0] / scale[0], vector[1] / scale[1], (vector[2] - rim) / (2 * scale[2])
