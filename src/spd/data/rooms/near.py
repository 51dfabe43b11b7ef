"""Views from near: a table with things on it, a shelf, or what lies within reach of a hand, in a furnished room."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spd.data.rooms import tops
from spd.data.rooms.furniture import Piece, placed
from spd.data.rooms.geometry import Vector
from spd.data.rooms.layout import Layout
from spd.data.rooms.scene import Light, Scene, draw_ambient, draw_room, draw_shell, furnish
from spd.data.rooms.sensor import draw_sensor
from spd.data.rooms.style import Style
from spd.data.rooms.viewpoint import Aim, aim_near

_DETAIL = 0.0012
_TRIES = 20
"""Rooms that are drawn until one has a free view; of 100, 97 have."""


class _Kind(NamedTuple):
    """One kind of near view."""

    tops: tuple[Callable[[np.random.Generator, Style], tops.Top], ...]
    spread: float
    """Radians to both sides of straight on from which it is seen."""
    pitch: tuple[float, float]
    """Degrees below the horizon."""
    distance: tuple[float, float]


_KINDS = {
    "table": _Kind((tops.desk, tops.desk, tops.table, tops.counter), 1.0, (10, 75), (0.55, 1.5)),
    "shelf": _Kind((tops.shelf,), 0.7, (-15, 40), (0.4, 1.5)),
    "hands": _Kind((tops.desk, tops.table, tops.table, tops.counter, tops.bed, tops.floor), 1.2, (15, 80), (0.3, 0.75)),
}
_SHARES = {"table": 0.45, "shelf": 0.2, "hands": 0.35}


def sample_near_view(rng: np.random.Generator) -> Scene:
    """Draw a room with something to see from 0.3 to 1.5 m, and a camera there.

    Its ``kind`` is ``table``, ``shelf`` or ``hands``: within reach of a hand, so nearer and from steeper above.
    """
    name = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    for _ in range(_TRIES):
        scene = _try(rng, name, _KINDS[name])
        if scene is not None:
            return scene
    raise AssertionError(f"no free view of kind {name} in {_TRIES} rooms")


def _try(rng: np.random.Generator, name: str, kind: _Kind) -> Scene | None:
    size, style = draw_room(rng)
    layout = Layout(size)
    top = kind.tops[int(rng.integers(len(kind.tops)))](rng, style)
    if top.free and rng.random() < 0.6:
        if not layout.try_free(rng, top.piece):
            return None
    elif layout.try_wall(rng, top.piece, gap=rng.uniform(0.0, 0.02)) is None:
        return None
    block = layout.blocks[0]
    x = block.x + math.sin(block.yaw) * top.piece.depth / 2
    y = block.y - math.cos(block.yaw) * top.piece.depth / 2
    layout.blocks.append(tops.in_front(block, 0.9))
    things = [placed(thing, x, y, block.yaw, number + 1) for number, thing in enumerate(top.things)]
    layout.pieces += things
    # Cords end where their lamp's light is; near views see shadows of things that thin.
    lights = [
        light._replace(position=(*light.position[:2], light.position[2] - 0.03))
        for light in furnish(rng, layout, style)
    ]
    if rng.random() < 0.7:
        lights += _lamps(rng, things)
    primitives = layout.primitives()
    target = _target(rng, things)
    if target is None:
        return None
    facing = block.yaw - math.pi / 2
    spread = math.pi if top.free and name != "shelf" else kind.spread
    pitch = (math.radians(kind.pitch[0]), math.radians(kind.pitch[1]))
    aim = Aim(target, (facing - spread, facing + spread), pitch, kind.distance)
    shown = np.array([primitive.piece <= len(things) for primitive in primitives])
    camera = aim_near(rng, size, primitives, shown, aim)
    if camera is None:
        return None
    return Scene(
        name,
        size,
        draw_shell(rng, style),
        primitives,
        tuple(lights),
        draw_ambient(rng),
        draw_sensor(rng),
        camera,
        _DETAIL,
    )


def _lamps(rng: np.random.Generator, things: list[Piece]) -> list[Light]:
    """The first lamp among the things, if there is one."""
    found = [thing.light for thing in things if thing.light is not None][:1]
    level = rng.uniform(0.3, 0.9)
    return [Light(position, (1.1 * level, 0.95 * level, 0.7 * level)) for position in found]


def _target(rng: np.random.Generator, things: list[Piece]) -> Vector | None:
    """A point near one of the things."""
    parts = [part for thing in things for part in thing.parts[:1]]
    if not parts:
        return None
    x, y, z = parts[int(rng.integers(len(parts)))].centre
    return (x + rng.normal(0, 0.06), y + rng.normal(0, 0.06), z + rng.normal(0, 0.02))
