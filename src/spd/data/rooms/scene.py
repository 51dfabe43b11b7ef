"""One random room: its size, what stands in it, its light, and the camera."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spd.data.rooms import furniture, storage, walls
from spd.data.rooms.furniture import Builder, placed
from spd.data.rooms.geometry import Camera, Primitive, Vector
from spd.data.rooms.layout import Footprint, Layout
from spd.data.rooms.sensor import Sensor, draw_sensor
from spd.data.rooms.style import Style, draw_style, vary
from spd.data.rooms.textures import Colour, Material
from spd.data.rooms.viewpoint import aim_at_room, any_lens, nyu_lens, standing_place


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
    sensor: Sensor
    camera: Camera
    detail: float = 0.004
    """Metres of the smallest thing that light heeds: from there on things have shadows of their own."""


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

_CLEARANCE = 0.62
"""Metres around the camera, level with the floor, in which nothing stands."""


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw one room, seen standing by a camera near NYU's; what is drawn does not depend on the size of the picture."""
    return _sample(rng, any_camera=False)


def sample_room_view(rng: np.random.Generator) -> Scene:
    """Draw one room, seen by any camera from 0.4 to 2.2 m above the floor."""
    return _sample(rng, any_camera=True)._replace(kind="room")


def _sample(rng: np.random.Generator, *, any_camera: bool) -> Scene:
    kind = list(_FURNISHING)[int(rng.integers(len(_FURNISHING)))]
    size, style = draw_room(rng)
    layout = Layout(size)
    heights = (0.4, min(2.2, size[2] - 0.25)) if any_camera else (0.8, min(2.0, size[2] - 0.6))
    position = standing_place(rng, size, heights)
    layout.blocks.append(
        Footprint(float(position[0]), float(position[1]), _CLEARANCE, _CLEARANCE, rng.uniform(0, 1.5), 0.0, 9.0)
    )
    lights = furnish(rng, layout, style, kind)
    shell = draw_shell(rng, style)
    camera = aim_at_room(rng, layout, position, any_lens(rng) if any_camera else nyu_lens(rng))
    ambient = draw_ambient(rng)
    return Scene(
        kind=kind,
        size=size,
        shell=shell,
        primitives=layout.primitives(),
        lights=tuple(lights),
        ambient=ambient,
        sensor=draw_sensor(rng) if any_camera else Sensor(rng.uniform(0.2, 0.34), rng.uniform(0.5, 3.0)),
        camera=camera,
    )


def draw_room(rng: np.random.Generator) -> tuple[Vector, Style]:
    """Size and materials of a room."""
    size = (rng.uniform(2.7, 5.6), rng.uniform(3.2, 7.6), rng.uniform(2.35, 3.1))
    return size, draw_style(rng)


def draw_shell(rng: np.random.Generator, style: Style) -> tuple[Material, ...]:
    """The walls, one of which may differ, floor and ceiling."""
    shell = [vary(rng, style.wall, 0.02) for _ in range(4)] + [style.floor, style.ceiling]
    shell[int(rng.integers(4))] = style.feature_wall
    return tuple(shell)


def draw_ambient(rng: np.random.Generator) -> Colour:
    """Light that comes from everywhere."""
    warmth = rng.uniform(-0.06, 0.08)
    level = rng.uniform(0.3, 0.6)
    return (level * (1 + warmth), level, level * (1 - warmth))


def furnish(rng: np.random.Generator, layout: Layout, style: Style, kind: str | None = None) -> list[Light]:
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
    against, free = _FURNISHING[kind or list(_FURNISHING)[int(rng.integers(len(_FURNISHING)))]]
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


def _lamps(rng: np.random.Generator, layout: Layout, style: Style, windows: list[Light]) -> list[Light]:
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
