"""One random room: its size, what stands in it, its light, and the camera."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from spd.data.rooms import furniture, storage, walls
from spd.data.rooms.furniture import Builder, Piece, placed
from spd.data.rooms.geometry import Camera, Primitive, Vector, cast, look
from spd.data.rooms.style import Style, draw_style, vary
from spd.data.rooms.textures import Colour, Material


class Light(NamedTuple):
    """A lamp: where it is and how bright."""

    position: Vector
    colour: Colour
    """Linear RGB that it gives a white surface facing it at one metre."""


class Scene(NamedTuple):
    """Everything that is in a room, and the camera that sees it."""

    kind: str
    """What the room is for."""
    size: Vector
    """Metres along X, Y and up."""
    shell: tuple[Material, ...]
    """The walls at x = 0, x = width, y = 0 and y = length, then floor and ceiling."""
    primitives: tuple[Primitive, ...]
    lights: tuple[Light, ...]
    ambient: Colour
    exposure: float
    """Linear brightness that the mean of the picture is brought to."""
    noise: float
    """Standard deviation of the sensor's noise in grey levels of 255."""
    camera: Camera


_FURNISHING: dict[str, tuple[tuple[Builder, ...], tuple[Builder, ...]]] = {
    "living_room": (
        (furniture.sofa, storage.sideboard, storage.bookshelf, storage.floor_lamp, storage.plant, furniture.sofa),
        (furniture.coffee_table, furniture.sofa, furniture.dining_table, storage.toy_balls),
    ),
    "bedroom": (
        (storage.bed, storage.wardrobe, storage.nightstand, storage.dresser, furniture.desk, storage.floor_lamp),
        (storage.toy_balls, furniture.stool, storage.boxes),
    ),
    "office": (
        (furniture.desk, storage.bookshelf, furniture.desk, storage.bin_, storage.dresser, storage.plant),
        (furniture.dining_table, furniture.chair, storage.boxes, storage.toy_balls),
    ),
    "kitchen": (
        (storage.kitchen_run, storage.bin_, storage.sideboard, furniture.stool, storage.plant),
        (furniture.dining_table, furniture.dining_table, furniture.stool),
    ),
    "dining_room": (
        (storage.sideboard, storage.dresser, storage.plant, furniture.chair, storage.floor_lamp, storage.bookshelf),
        (furniture.dining_table, furniture.dining_table, storage.plant),
    ),
    "storage_room": (
        (storage.bookshelf, storage.boxes, storage.wardrobe, storage.boxes, storage.bin_, storage.toy_balls),
        (storage.boxes, furniture.chair, storage.column),
    ),
}
"""What stands against the walls, in the order in which it is tried, and what stands free."""

_GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NYU_FIELD = math.radians(63.3)
"""Horizontal field of view of NYU Depth V2's colour camera."""
_CLEARANCE = 0.62
"""Metres around the camera, level with the floor, in which nothing stands."""


class Footprint(NamedTuple):
    """An upright block that something fills or that must stay free."""

    x: float
    y: float
    half_x: float
    half_y: float
    yaw: float
    bottom: float
    top: float

    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Unit vectors of its width and its depth on the floor."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return (cos, sin), (-sin, cos)

    def reach(self, axis: tuple[float, float]) -> float:
        """Half of its extent along a direction on the floor."""
        first, second = self.axes()
        along_x = abs(first[0] * axis[0] + first[1] * axis[1])
        along_y = abs(second[0] * axis[0] + second[1] * axis[1])
        return self.half_x * along_x + self.half_y * along_y

    def meets(self, other: Footprint) -> bool:
        """Whether the two overlap: no axis of either keeps them apart."""
        if self.top <= other.bottom or other.top <= self.bottom:
            return False
        dx, dy = other.x - self.x, other.y - self.y
        return all(
            abs(dx * axis[0] + dy * axis[1]) < self.reach(axis) + other.reach(axis)
            for axis in (*self.axes(), *other.axes())
        )


class _Layout:
    """A room that is being filled: what is placed so far, and the blocks that it takes."""

    def __init__(self, size: Vector) -> None:
        self.size = size
        self.blocks: list[Footprint] = []
        self.pieces: list[Piece] = []

    def wall_pose(self, wall: int, along: float, gap: float = 0.0) -> tuple[float, float, float]:
        """(x, y, yaw) of a piece whose back is against wall 0 to 3 (y = 0, x = width, y = length, x = 0)."""
        width, length, _ = self.size
        positions = (
            (along, gap), (width - gap, along), (width - along, length - gap), (gap, length - along)
        )  # fmt: skip
        return (*positions[wall], wall * math.pi / 2)

    def wall_length(self, wall: int) -> float:
        return self.size[wall % 2]

    def add(self, piece: Piece, pose: tuple[float, float, float], *, bottom: float = 0.0, margin: float = 0.03) -> bool:
        """Place a piece with its back's middle at ``pose`` unless it meets a block or leaves the room."""
        x, y, yaw = pose
        block = Footprint(
            x - math.sin(yaw) * piece.depth / 2,
            y + math.cos(yaw) * piece.depth / 2,
            piece.width / 2 + margin,
            piece.depth / 2 + margin,
            yaw,
            bottom,
            piece.height,
        )
        slack = margin + 0.005
        inside = all(
            block.reach(axis) - slack <= centre <= self.size[number] - block.reach(axis) + slack
            for number, (axis, centre) in enumerate((((1.0, 0.0), block.x), ((0.0, 1.0), block.y)))
        )
        if not inside or any(block.meets(other) for other in self.blocks):
            return False
        self.blocks.append(block)
        self.pieces.append(placed(piece, x, y, yaw, len(self.pieces)))
        return True

    def try_wall(self, rng: np.random.Generator, piece: Piece, *, bottom: float = 0.0, gap: float = 0.01) -> int | None:
        """Place a piece somewhere against a wall; the wall that took it, None if none did."""
        for _ in range(8):
            wall = int(rng.integers(4))
            free = self.wall_length(wall) - piece.width
            if free > 0.02 and self.add(
                piece, self.wall_pose(wall, piece.width / 2 + rng.uniform(0.01, free), gap), bottom=bottom
            ):
                return wall
        return None

    def try_free(self, rng: np.random.Generator, piece: Piece, *, tries: int = 10) -> bool:
        """Place a piece in the open, mostly parallel to the walls."""
        for _ in range(tries):
            yaw = float(rng.integers(4)) * math.pi / 2 + rng.normal(0, 0.15 if rng.random() < 0.7 else 0.7)
            x, y = rng.uniform(0.25, 0.75) * self.size[0], rng.uniform(0.2, 0.8) * self.size[1]
            if self.add(piece, (x, y, yaw), margin=0.1):
                return True
        return False


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw one room with everything in it; what is drawn does not depend on the size of the picture."""
    kind = list(_FURNISHING)[int(rng.integers(len(_FURNISHING)))]
    size = (rng.uniform(2.7, 5.6), rng.uniform(3.2, 7.6), rng.uniform(2.35, 3.1))
    style = draw_style(rng)
    layout = _Layout(size)
    position = _camera_position(rng, size)
    layout.blocks.append(
        Footprint(float(position[0]), float(position[1]), _CLEARANCE, _CLEARANCE, rng.uniform(0, 1.5), 0.0, 9.0)
    )
    lights = _furnish(rng, layout, style, kind)
    shell = [vary(rng, style.wall, 0.02) for _ in range(4)] + [style.floor, style.ceiling]
    shell[int(rng.integers(4))] = style.feature_wall
    camera = _aim(rng, layout, position)
    warmth = rng.uniform(-0.06, 0.08)
    level = rng.uniform(0.3, 0.6)
    return Scene(
        kind=kind,
        size=size,
        shell=tuple(shell),
        primitives=tuple(part for piece in layout.pieces for part in piece.parts),
        lights=tuple(lights),
        ambient=(level * (1 + warmth), level, level * (1 - warmth)),
        exposure=rng.uniform(0.2, 0.34),
        noise=rng.uniform(0.5, 3.0),
        camera=camera,
    )


def _camera_position(rng: np.random.Generator, size: Vector) -> np.ndarray:
    """A place to stand, nearer the walls than the middle, so that there is something to see."""
    margin = 0.66
    x, y = (0.5 + 0.5 * math.copysign(abs(s) ** 0.5, s) for s in rng.uniform(-1, 1, 2))
    height = rng.uniform(0.8, min(2.0, size[2] - 0.6))
    return np.array((margin + x * (size[0] - 2 * margin), margin + y * (size[1] - 2 * margin), height))


def _furnish(rng: np.random.Generator, layout: _Layout, style: Style, kind: str) -> list[Light]:
    """Fill the room: openings first, then what stands against walls, what stands free, and what hangs."""
    lights: list[Light] = []
    width, length, height = layout.size
    layout.try_wall(rng, walls.door(rng, style), gap=0.0)
    for _ in range(int(rng.integers(0, 3))):
        window = walls.window(rng, style, height)
        if layout.try_wall(rng, window, bottom=walls.SILL, gap=0.0) is not None:
            light = layout.pieces[-1].light
            assert light is not None
            lights.append(Light(light, _scaled((0.85, 0.95, 1.1), rng.uniform(1.5, 3.5))))
    against, free = _FURNISHING[kind]
    area = width * length
    for number, builder in enumerate(against):
        if number < 2 or rng.random() < 0.5 + area / 50:
            layout.try_wall(rng, builder(rng, style), gap=rng.uniform(0.01, 0.06))
    if rng.random() < 0.5:
        layout.pieces.append(placed(walls.rug(rng, style, layout.size), 0.0, 0.0, 0.0, len(layout.pieces)))
    for builder in free:
        if rng.random() < 0.4 + area / 50:
            layout.try_free(rng, builder(rng, style))
    for _ in range(int(rng.integers(0, 5))):
        picture = walls.picture(rng, style)
        layout.try_wall(rng, picture, bottom=walls.PICTURE_BOTTOM, gap=0.0)
    lights = _lamps(rng, layout, style, lights)
    layout.pieces.append(placed(walls.skirting(style, layout.size), 0.0, 0.0, 0.0, len(layout.pieces)))
    return lights


def _lamps(rng: np.random.Generator, layout: _Layout, style: Style, windows: list[Light]) -> list[Light]:
    """One or two lights: the ceiling's lamp, or a window or another lamp, or both."""
    others = windows + [
        Light(piece.light, _scaled((1.1, 0.95, 0.7), rng.uniform(0.8, 1.8)))
        for piece in layout.pieces
        if piece.light is not None and piece.parts[0].material.glow == 0
    ]
    others = [others[int(rng.integers(len(others)))]] if others else []
    if others and rng.random() < 0.3:
        return others
    lamp = walls.pendant(rng, style, layout.size[2])
    warm = rng.uniform(-0.05, 0.12)
    for _ in range(10):
        x, y = rng.uniform(0.35, 0.65) * layout.size[0], rng.uniform(0.35, 0.65) * layout.size[1]
        # Under the lamp is free for all that is not as tall as it hangs.
        if layout.add(lamp, (x, y, 0.0), bottom=layout.size[2] - 0.9):
            break
    light = layout.pieces[-1].light or (layout.size[0] / 2, layout.size[1] / 2, layout.size[2] - 0.2)
    return [Light(light, _scaled((1 + warm, 1.0, 1 - warm), rng.uniform(2.0, 4.0))), *others]


def _scaled(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _aim(rng: np.random.Generator, layout: _Layout, position: np.ndarray) -> Camera:
    """Turn the camera to where there is something to see at some distance.

    Each direction that is tried is judged on a few rays that are cast at the blocks in place of the furniture.
    """
    focal = 0.5 / math.tan(rng.uniform(0.7, 1.2) * _NYU_FIELD / 2)
    shift = (rng.normal(0, 0.01), rng.normal(0, 0.01))
    pitch, roll = math.radians(min(max(rng.normal(11, 7), -3), 25)), math.radians(rng.normal(0, 2))
    proxies = tuple(
        Primitive("box", (b.x, b.y, (b.bottom + b.top) / 2), (b.half_x, b.half_y, (b.top - b.bottom) / 2), b.yaw, _GREY)
        for b in layout.blocks[1:]
        if b.top < layout.size[2]
    )
    best, best_score = None, -math.inf
    for _ in range(8):
        target = rng.uniform(0.1, 0.9, 2) * layout.size[:2]
        yaw = math.atan2(target[1] - position[1], target[0] - position[0])
        camera = Camera(position, look(yaw, pitch, roll), focal, shift)
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
