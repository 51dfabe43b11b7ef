"""Where rooms are seen from: standing, by cameras near NYU's, or by any camera from anywhere, also from near."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from spd.data.rooms.geometry import Camera, Primitive, Vector, cast, look
from spd.data.rooms.layout import Layout
from spd.data.rooms.textures import Material

CANONICAL_FOCAL = 518.8579 / 640
"""Focal length of NYU Depth V2's colour camera over the width of its images: the canonical one of a 4:3 image."""
FOCAL_RANGE = (0.6, 2.0)
"""Focal lengths of cameras of any kind over the canonical one."""
NEAR_DEPTH = (0.3, 1.5)
"""Metres between which the median depth of a near view lies."""
_NYU_FIELD = math.radians(63.3)
"""Horizontal field of view of NYU Depth V2's colour camera."""
_GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_PROBE = (18, 24)
"""Size of the picture on which a near view is judged; its pixels reach almost into the corners."""
_CLEARANCE = 0.22
"""Metres around a near camera in which there is nothing: 0.1 m of z-depth in the corner of the widest field."""


class Lens(NamedTuple):
    """Focal length and principal point over the width of the image, and how the camera is held."""

    focal: float
    shift: tuple[float, float]
    pitch: float
    """Radians below the horizon."""
    roll: float


class Aim(NamedTuple):
    """What a near view is to show, and from where."""

    target: Vector
    yaw: tuple[float, float]
    """Radians between which the direction of view is drawn, counterclockwise from the world's X."""
    pitch: tuple[float, float]
    """Radians below the horizon between which the camera is tilted."""
    distance: tuple[float, float]
    """Metres between the camera and the target, log-uniform."""


def nyu_lens(rng: np.random.Generator) -> Lens:
    """A field of view 0.7 to 1.2 times that of NYU Depth V2, held level, a little down."""
    focal = 0.5 / math.tan(rng.uniform(0.7, 1.2) * _NYU_FIELD / 2)
    shift = (rng.normal(0, 0.01), rng.normal(0, 0.01))
    pitch, roll = math.radians(min(max(rng.normal(11, 7), -3), 25)), math.radians(rng.normal(0, 2))
    return Lens(focal, shift, pitch, roll)


def any_lens(rng: np.random.Generator) -> Lens:
    """Any focal length, a principal point off the centre in a third of the views, tilted as by hand."""
    low, high = (math.log(part) for part in FOCAL_RANGE)
    focal = CANONICAL_FOCAL * math.exp(rng.uniform(low, high))
    x, y = rng.uniform(-0.08, 0.08, 2) if rng.random() < 1 / 3 else rng.normal(0, 0.008, 2)
    pitch = math.radians(min(max(rng.normal(11, 13), -15), 45))
    roll = math.radians(rng.uniform(-25, 25) if rng.random() < 0.2 else rng.normal(0, 3))
    return Lens(focal, (float(x), float(y)), pitch, roll)


def standing_place(rng: np.random.Generator, size: Vector, heights: tuple[float, float]) -> Float[np.ndarray, "3"]:
    """A place in a room, nearer the walls than the middle, so that there is something to see."""
    margin = 0.66
    x, y = (0.5 + 0.5 * math.copysign(abs(s) ** 0.5, s) for s in rng.uniform(-1, 1, 2))
    height = rng.uniform(*heights)
    return np.array((margin + x * (size[0] - 2 * margin), margin + y * (size[1] - 2 * margin), height))


def aim_at_room(rng: np.random.Generator, layout: Layout, position: Float[np.ndarray, "3"], lens: Lens) -> Camera:
    """Turn the camera to where there is something to see at some distance.

    Each direction that is tried is judged on a few rays that are cast at the blocks in place of the furniture.
    """
    proxies = tuple(
        Primitive("box", (b.x, b.y, (b.bottom + b.top) / 2), (b.half_x, b.half_y, (b.top - b.bottom) / 2), b.yaw, _GREY)
        for b in layout.blocks[1:]
        if b.top < layout.size[2]
    )
    best, best_score = None, -math.inf
    for _ in range(8):
        target = rng.uniform(0.1, 0.9, 2) * layout.size[:2]
        yaw = math.atan2(target[1] - position[1], target[0] - position[0])
        camera = Camera(position, look(yaw, lens.pitch, lens.roll), lens.focal, lens.shift)
        depth, owner = cast(layout.size, proxies, camera, (15, 20))
        counts = np.bincount(owner.ravel() + 1, minlength=2)[1:]
        seen = int((counts >= 6).sum())
        filled = 4 * min(float((owner >= 0).mean()), 0.5)
        score = min(seen, 5) + min(float(np.median(depth)), 2.5) + filled - 4 * float((depth < 0.9).mean())
        if score > best_score:
            best, best_score = camera, score
        if seen >= 3 and score >= 7:
            break
    assert best is not None
    return best


def aim_near(
    rng: np.random.Generator,
    room: Vector,
    primitives: tuple[Primitive, ...],
    shown: Bool[np.ndarray, "P"],
    aim: Aim,
) -> Camera | None:
    """A camera near the target that is clear of everything and sees mostly what it is to show.

    Args:
        rng: draws lens and place.
        room: its size in metres.
        primitives: what stands in it.
        shown: which of them the view is about.
        aim: the target and the ranges of the view.

    Returns:
        The camera; None if none was found: something stands in the way.
    """
    size = np.array(room)
    blocks = _Blocks(primitives)
    for _ in range(40):
        lens = any_lens(rng)
        pitch, yaw = rng.uniform(*aim.pitch), rng.uniform(*aim.yaw)
        distance = math.exp(rng.uniform(math.log(aim.distance[0]), math.log(aim.distance[1])))
        rotation = look(yaw, pitch, lens.roll)
        position = np.array(aim.target) - distance * rotation[2]
        if (np.minimum(position, size - position) < _CLEARANCE).any() or blocks.distance(position) < _CLEARANCE:
            continue
        camera = Camera(position, rotation, lens.focal, lens.shift)
        depth, owner = cast(room, primitives, camera, _PROBE)
        median = float(np.median(depth))
        about = np.append(shown, False)[owner].mean()
        # A margin on both sides: the median of the full picture differs a little.
        if NEAR_DEPTH[0] * 1.03 < median < NEAR_DEPTH[1] / 1.03 and about > 0.5:
            return camera
    return None


class _Blocks:
    """The boxes around primitives, along their own axes."""

    def __init__(self, primitives: tuple[Primitive, ...]) -> None:
        self.rotations = np.stack([primitive.rotation() for primitive in primitives])
        self.centres = np.array([primitive.centre for primitive in primitives])
        self.halves = np.array([primitive.half for primitive in primitives])

    def distance(self, point: Float[np.ndarray, "3"]) -> float:
        """Metres from a point to the nearest box; 0 inside one."""
        local = np.einsum("pij,pj->pi", self.rotations, point - self.centres)
        outside = np.maximum(np.abs(local) - self.halves, 0)
        return float(np.sqrt((outside * outside).sum(1).min()))
