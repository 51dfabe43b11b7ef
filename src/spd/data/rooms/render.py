"""From a scene to a picture: what each pixel sees and the colour of it.

Depth is float64 and exact, shading is float32.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int16, UInt8

from spd.data.rooms.geometry import SHELL, Primitive, cast
from spd.data.rooms.light import Surface, shade, turn
from spd.data.rooms.scene import Scene
from spd.data.rooms.sensor import develop
from spd.data.rooms.textures import Material, albedo


def render(
    scene: Scene, size: tuple[int, int], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
    """The picture of a scene and its z-depth in metres, at (height, width); ``rng`` draws the sensor's noise."""
    depth, owner = cast(scene.size, scene.primitives, scene.camera, size)
    surface = _surface(scene, depth, owner)
    return develop(shade(scene, surface, size), scene.sensor, rng), depth


def _surface(scene: Scene, depth: Float[np.ndarray, "H W"], owner: Int16[np.ndarray, "H W"]) -> Surface:
    """Position, normal and colour of what each pixel sees, one primitive after the other."""
    size, camera = depth.shape, scene.camera
    intrinsics = camera.intrinsics((size[0], size[1]))
    x = ((np.arange(size[1]) - intrinsics.cx) / intrinsics.fx)[None, :]
    y = ((np.arange(size[0]) - intrinsics.cy) / intrinsics.fy)[:, None]
    rays = np.stack([row[0] * x + (row[1] * y + row[2]) for row in camera.rotation.T]).reshape(3, -1)
    points = (camera.position[:, None] + rays * depth.ravel()).astype(np.float32)
    length = np.sqrt((rays * rays).sum(0))
    view = (rays / -length).astype(np.float32)
    count = points.shape[1]
    surface = Surface(
        points,
        np.zeros((3, count), np.float32),
        view,
        np.zeros((3, count), np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.full(count, -1, np.int16),
    )
    pixel = (depth.ravel() / intrinsics.fx).astype(np.float32)
    flat = owner.ravel()
    order = np.argsort(flat, kind="stable")
    for pixels in np.split(order, np.flatnonzero(np.diff(flat[order])) + 1):
        index = int(flat[pixels[0]])
        if index == SHELL:
            _paint_shell(scene, surface, pixels, pixel)
        else:
            _paint(scene.primitives[index], surface, pixels, pixel)
    return surface


def _paint_shell(scene: Scene, surface: Surface, pixels: np.ndarray, pixel: np.ndarray) -> None:
    """Fill in the walls, the floor and the ceiling."""
    points = surface.points[:, pixels]
    for face, material in enumerate(scene.shell):
        axis, far = divmod(face, 2)
        plane = np.float32(scene.size[axis] if far else 0.0)
        chosen = np.flatnonzero(np.abs(points[axis] - plane) < np.float32(1e-3))
        if len(chosen):
            normal = np.zeros((3, 1), np.float32)
            normal[axis] = -1.0 if far else 1.0
            u, v = points[0 if axis == 1 else 1, chosen], points[0 if axis == 2 else 2, chosen]
            _fill(material, surface, pixels[chosen], u, v, normal, pixel)


def _paint(primitive: Primitive, surface: Surface, pixels: np.ndarray, pixel: np.ndarray) -> None:
    """Fill in the pixels that see a primitive."""
    half = np.array(primitive.half, np.float32)[:, None]
    matrix, centre = primitive.world_to_unit()
    rotation = (matrix * half).astype(np.float32)
    local = np.stack(turn(rotation, surface.points[:, pixels] - centre.astype(np.float32)[:, None]))
    unit = local / half
    surface.piece[pixels] = primitive.piece
    normal = primitive.shape.normal(unit)
    if primitive.kind == "box":
        axis = np.abs(normal).argmax(0)
        u, v = np.where(axis == 1, local[0], local[1]), np.where(axis == 2, local[0], local[2])
    else:
        u, v = np.arctan2(unit[1], unit[0]) * half[0], local[2]
        if primitive.kind != "sphere":
            flat = (normal[0] == 0) & (normal[1] == 0)
            u, v = np.where(flat, local[0], u), np.where(flat, local[1], v)
        normal = normal / half
        normal /= np.sqrt((normal * normal).sum(0))
    _fill(primitive.material, surface, pixels, u, v, np.stack(turn(rotation.T, normal)), pixel)


def _fill(
    material: Material,
    surface: Surface,
    pixels: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    normal: np.ndarray,
    pixel: np.ndarray,
) -> None:
    """Fill in pixels that see one material; ``pixel`` is how wide every pixel is where it looks, in metres."""
    surface.normals[:, pixels] = normal
    facing = np.abs((normal * surface.view[:, pixels]).sum(0))
    surface.colour[:, pixels] = albedo(material, u, v, pixel[pixels] / np.maximum(facing, np.float32(0.15)))
    surface.gloss[pixels] = material.gloss
    surface.glow[pixels] = material.glow
