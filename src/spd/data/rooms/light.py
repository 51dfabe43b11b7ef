"""Light in the rooms.

Surfaces are Lambertian with a little highlight; lights are points with hard shadows; corners and the surroundings of
furniture are darkened as ambient occlusion would.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int16

from spd.data.rooms.geometry import Primitive, Vector
from spd.data.rooms.scene import Light, Scene
from spd.data.rooms.shapes import Shape, interval

_TILE = 8
"""Pixels a side of the tiles whose shadow rays are ruled out together."""


class Surface(NamedTuple):
    """What the N pixels of a picture see, row-major."""

    points: Float32[np.ndarray, "3 N"]
    normals: Float32[np.ndarray, "3 N"]
    view: Float32[np.ndarray, "3 N"]
    """Unit vectors to the camera."""
    colour: Float32[np.ndarray, "3 N"]
    gloss: Float32[np.ndarray, "N"]
    glow: Float32[np.ndarray, "N"]
    piece: Int16[np.ndarray, "N"]


Bounds = dict[int, tuple[Float32[np.ndarray, "3"], Float32[np.ndarray, "3"]]]


class _Caster(NamedTuple):
    """A piece of furniture as shadow rays see it: the block around it, and its P parts."""

    block: Float32[np.ndarray, "1 3 3"]
    middle: Float32[np.ndarray, "1 3"]
    shapes: tuple[Shape, ...]
    matrices: Float32[np.ndarray, "P 3 3"]
    centres: Float32[np.ndarray, "P 3"]


def shade(scene: Scene, surface: Surface, size: tuple[int, int]) -> Float32[np.ndarray, "3 H W"]:
    """Linear radiance of every pixel of a (height, width) picture."""
    bounds = _piece_bounds(scene.primitives, 25 * scene.detail)
    light = np.array(scene.ambient, np.float32)[:, None] * _ambient(scene, surface, bounds, size) + surface.glow
    highlight = np.zeros_like(light)
    casters = _casters(scene.primitives, bounds, 2.5 * scene.detail)
    for lamp in scene.lights:
        visible = _sees(lamp.position, casters, surface, size, scene.detail)
        _illuminate(lamp, surface, visible, light, highlight)
    return (surface.colour * light + highlight).reshape(3, *size)


def turn(matrix: Float[np.ndarray, "3 3 ..."], vectors: Any) -> tuple[Any, Any, Any]:
    """matrix · vectors, (3, ...), for matrices, (3, 3) or as many as the rest broadcasts, of primitives: most only
    scale and turn about the vertical."""
    x, y, z = vectors
    if np.any(matrix[1, 2]) or np.any(matrix[2, 1]):
        return tuple(row[0] * x + row[1] * y + row[2] * z for row in matrix)  # pyright: ignore[reportReturnType]
    return (matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y, matrix[2, 2] * z)


def _ambient(scene: Scene, surface: Surface, bounds: Bounds, size: tuple[int, int]) -> Float32[np.ndarray, "N"]:
    """Ambient light: a little more from above, less near the room's other faces and around furniture."""
    points, normals = surface.points, surface.normals
    share = 0.92 + 0.08 * normals[2]
    for axis in range(3):
        for far in (0, 1):
            distance = scene.size[axis] - points[axis] if far else points[axis]
            toward = normals[axis] if far else -normals[axis]
            # 0 on the face itself, 1 on what stands square to it or looks at it.
            weight = np.float32(0.38) * np.clip(1 + toward, 0, 1)
            share *= 1 - weight * np.exp(np.minimum(distance, 4) * np.float32(-3.5))
    tiles = _tile_indices(size)
    lowest, highest = points[:, tiles].min(2), points[:, tiles].max(2)
    for piece, (low, high) in bounds.items():
        # What is small darkens only what is close to it.
        decay = max(8.0, 2.0 / float(high[2] - low[2])) if scene.detail < 0.004 else 8.0
        reach = np.float32(4 / decay)
        within = ((lowest < (high + reach)[:, None]) & (highest > (low - reach)[:, None])).all(0)
        pixels = tiles[within].ravel()
        gap = np.zeros(len(pixels), np.float32)
        for axis in range(3):
            along = points[axis, pixels]
            gap += np.square(np.maximum(np.maximum(low[axis] - along, along - high[axis]), 0))
        near = np.flatnonzero((gap < reach**2) & (surface.piece[pixels] != piece))
        if len(near):
            # Pixels that stand in beyond the edge come twice and get the same value twice.
            share[pixels[near]] *= 1 - np.float32(0.3) * np.exp(np.sqrt(gap[near]) * np.float32(-decay))
    return share


def _piece_bounds(primitives: tuple[Primitive, ...], flat: float) -> Bounds:
    """Lowest and highest corner of each piece, without those that are no higher than ``flat``."""
    bounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for primitive in primitives:
        x, y, z = primitive.half
        if primitive.tilt:
            reach = np.abs(primitive.rotation().T) @ np.array((x, y, z))
        else:
            cos, sin = abs(math.cos(primitive.yaw)), abs(math.sin(primitive.yaw))
            reach = np.array((cos * x + sin * y, sin * x + cos * y, z))
        centre = np.array(primitive.centre)
        low, high = bounds.get(primitive.piece, (centre, centre))
        bounds[primitive.piece] = (np.minimum(low, centre - reach), np.maximum(high, centre + reach))
    return {
        piece: (low.astype(np.float32), high.astype(np.float32))
        for piece, (low, high) in bounds.items()
        if high[2] - low[2] > flat
    }


def _casters(primitives: tuple[Primitive, ...], bounds: Bounds, thin: float) -> tuple[_Caster, ...]:
    """What throws shadows: no lamp shades, no handles and cables, nothing that lies flat."""
    parts: dict[int, list[Primitive]] = {}
    for primitive in primitives:
        if primitive.piece in bounds and primitive.material.glow == 0 and sorted(primitive.half)[1] > thin:
            parts.setdefault(primitive.piece, []).append(primitive)
    casters: list[_Caster] = []
    for piece, members in parts.items():
        low, high = bounds[piece]
        frames = [part.world_to_unit() for part in members]
        casters.append(
            _Caster(
                np.diag(2 / (high - low))[None],
                (low + high)[None] / 2,
                tuple(part.shape for part in members),
                np.stack([matrix for matrix, _ in frames]).astype(np.float32),
                np.stack([centre for _, centre in frames]).astype(np.float32),
            )
        )
    return tuple(casters)


def _illuminate(
    lamp: Light, surface: Surface, visible: Float32[np.ndarray, "N"], light: np.ndarray, highlight: np.ndarray
) -> None:
    """Add one lamp to what it sees: Lambert's cosine, falling off with distance, and a Blinn highlight."""
    to_lamp = np.array(lamp.position, np.float32)[:, None] - surface.points
    squared = np.maximum((to_lamp * to_lamp).sum(0), 1e-4)
    to_lamp *= 1 / np.sqrt(squared)
    cosine = np.maximum((to_lamp * surface.normals).sum(0), 0)
    # Softer than an inverse square: the room's own reflections fill the distance.
    strength = visible / (1 + np.float32(0.35) * squared)
    colour = np.array(lamp.colour, np.float32)[:, None]
    light += colour * (cosine * strength)
    glossy = np.flatnonzero((surface.gloss > 0) & (cosine * visible > 0))
    halfway = to_lamp[:, glossy] + surface.view[:, glossy]
    shine = (halfway * surface.normals[:, glossy]).sum(0) / np.sqrt(np.maximum((halfway * halfway).sum(0), 1e-6))
    for _ in range(5):
        shine = shine * shine
    highlight[:, glossy] += colour * (0.5 * surface.gloss[glossy] * strength[glossy] * shine)


def _sees(
    position: Vector, casters: tuple[_Caster, ...], surface: Surface, size: tuple[int, int], bias: float
) -> Float32[np.ndarray, "N"]:
    """1 for the pixels that a position sees, 0 for those in the shadow of a primitive.

    Shadow rays start ``bias`` metres above their surface, or it would shade itself.
    Every other pixel of every other row is asked first, and the rest only in the tiles where these do not agree.
    """
    tiles = _tile_indices(size)
    target = np.array(position, np.float32)[:, None]
    # What looks away from the position is dark without a shadow.
    facing = ((target - surface.points) * surface.normals).sum(0) > 0
    tiles = tiles[facing[tiles].any(1)]
    origin = (surface.points + np.float32(bias) * surface.normals)[:, tiles]
    quarter = origin.reshape(3, -1, _TILE, _TILE)[:, :, ::2, ::2].reshape(3, len(tiles), -1)
    share = _blocked(quarter, target, casters).mean(1)
    blocked = np.repeat(share[:, None] == 1, _TILE * _TILE, axis=1)
    mixed = np.flatnonzero((share > 0) & (share < 1))
    if len(mixed):
        blocked[mixed] = _blocked(origin[:, mixed], target, casters)
    visible = np.ones(size[0] * size[1], np.float32)
    visible[tiles[blocked]] = 0
    return visible


def _blocked(
    origin: Float32[np.ndarray, "3 T S"], target: Float32[np.ndarray, "3 1"], casters: tuple[_Caster, ...]
) -> Bool[np.ndarray, "T S"]:
    """Which of the S points of each tile something hides from the target.

    Whole tiles are ruled out first: their rays stay within the tile's radius of the ray from its middle, so that no
    ray can meet a block that this one passes at more than the radius.
    """
    low, high = origin.min(2), origin.max(2)
    middle, radius = (low + high) / 2, np.sqrt(np.square(high - low).sum(0)) / 2
    blocked = np.zeros(origin.shape[1:], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        for caster in casters:
            near_piece = np.flatnonzero(_grown_hit(caster.block, caster.middle, middle, target, radius)[0])
            if not len(near_piece):
                continue
            near_part = _grown_hit(caster.matrices, caster.centres, middle[:, near_piece], target, radius[near_piece])
            for shape, matrix, centre, near in zip(
                caster.shapes, caster.matrices, caster.centres, near_part, strict=True
            ):
                chosen = near_piece[near]
                if len(chosen):
                    start = turn(matrix, origin[:, chosen] - centre[:, None, None])
                    end = turn(matrix, target[:, 0] - centre)
                    blocked[chosen] |= shape.blocks(start, [e - s for e, s in zip(end, start, strict=True)])
    return blocked


def _grown_hit(
    matrices: Float32[np.ndarray, "P 3 3"],
    centres: Float32[np.ndarray, "P 3"],
    start: Float32[np.ndarray, "3 T"],
    target: Float32[np.ndarray, "3 1"],
    radius: Float32[np.ndarray, "T"],
) -> Bool[np.ndarray, "P T"]:
    """Whether segments to the target come within ``radius`` of each block, which its matrix makes the unit box."""
    matrix, middle = matrices.transpose(1, 2, 0)[..., None], centres.T[..., None]
    # The length of a row is 1 over half of the block's extent along that axis.
    grown = 1 / (1 + np.sqrt(np.square(matrix).sum(1)) * radius)
    first = np.stack(turn(matrix, start[:, None] - middle)) * grown
    last = np.stack(turn(matrix, target[:, None] - middle)) * grown
    near, far = interval("box", first, last - first)
    return (near <= far) & (near < 1) & (far > 0)


def _tile_indices(size: tuple[int, int]) -> np.ndarray:
    """Flat pixel indices of each tile, (tiles, pixels of a tile); the last row or column stands in beyond the edge."""
    rows = np.minimum(np.arange(-(-size[0] // _TILE) * _TILE), size[0] - 1)
    columns = np.minimum(np.arange(-(-size[1] // _TILE) * _TILE), size[1] - 1)
    flat = rows[:, None] * size[1] + columns
    tiled = flat.reshape(len(rows) // _TILE, _TILE, len(columns) // _TILE, _TILE)
    return tiled.transpose(0, 2, 1, 3).reshape(-1, _TILE * _TILE)
