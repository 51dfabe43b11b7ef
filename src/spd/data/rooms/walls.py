"""What the rooms have on walls, floor and ceiling: doors, windows, pictures, skirting, rugs, hanging lamps.

Builders in the frame of ``furniture``, with the wall as their back.
"""

from __future__ import annotations

import numpy as np

from spd.data.rooms.furniture import Piece, ball, box, cylinder
from spd.data.rooms.geometry import Primitive, Vector
from spd.data.rooms.style import Style, pick, vary
from spd.data.rooms.textures import Material

SILL = 0.95
"""Metres above the floor below which furniture may stand before a window."""
PICTURE_BOTTOM = 1.2
"""The same for a picture."""


def door(rng: np.random.Generator, style: Style) -> Piece:
    """A closed door in its frame; the depth keeps the floor before it free."""
    width, height = rng.uniform(0.75, 0.92), rng.uniform(1.98, 2.1)
    leaf = pick(rng, style.wood, style.paint, style.paint)
    parts = [box(0.0, 0.02, 0.0, width, 0.04, height, leaf)]
    parts += [box(side * (width / 2 + 0.04), 0.03, 0.0, 0.08, 0.06, height + 0.08, style.trim) for side in (-1, 1)]
    parts += [box(0.0, 0.03, height, width, 0.06, 0.08, style.trim)]
    if rng.random() < 0.6:
        panel = vary(rng, leaf, 0.1)
        parts += [
            box(side * width * 0.22, 0.043, z * height, width * 0.32, 0.008, 0.38 * height, panel)
            for side in (-1, 1)
            for z in (0.06, 0.54)
        ]
    parts += [ball(width / 2 - 0.08, 0.075, 0.98, 0.03, style.metal)]
    return Piece(tuple(parts), width + 0.16, 0.75, height + 0.08)


def window(rng: np.random.Generator, style: Style, room_height: float) -> Piece:
    """A window with bars, a sill and sometimes curtains; it lights the room from just before its middle."""
    width, bottom = rng.uniform(0.8, 2.0), rng.uniform(SILL, 1.1)
    top = min(room_height - 0.2, bottom + rng.uniform(0.9, 1.3))
    height, middle = top - bottom, (top + bottom) / 2
    sky = Material(
        "sky", (0.82, 0.9, 1.0), (0.45, 0.55, 0.42), glow=rng.uniform(1.2, 2.2), seed=int(rng.integers(4096))
    )
    trim, bar = style.trim._replace(pattern="plain"), 0.06
    parts = [box(0.0, 0.01, bottom, width, 0.02, height, sky)]
    parts += [box(side * (width - bar) / 2, 0.035, bottom, bar, 0.07, height, trim) for side in (-1, 1)]
    parts += [box(0.0, 0.035, z, width, 0.07, bar, trim) for z in (bottom, top - bar)]
    parts += [box(0.0, 0.03, bottom, 0.04, 0.05, height, trim)]
    if rng.random() < 0.5:
        parts += [box(0.0, 0.03, middle, width, 0.05, 0.03, trim)]
    parts += [box(0.0, 0.08, bottom - 0.04, width + 0.1, 0.16, 0.04, trim)]
    span = width + 0.1
    if rng.random() < 0.45:
        cloth, wide = pick(rng, style.fabric, style.accent, style.paint), width * rng.uniform(0.16, 0.3)
        folds = cloth._replace(pattern="stripes", scale=0.09)
        parts += [
            box(side * (width / 2 + 0.02), 0.1, SILL - 0.1, wide, 0.06, top - SILL + 0.18, folds) for side in (-1, 1)
        ]
        parts += [box(0.0, 0.1, top + 0.08, width + wide + 0.1, 0.025, 0.025, style.metal)]
        span = width + wide + 0.15
    return Piece(tuple(parts), span, 0.17, top + 0.12, (0.0, 0.35, middle))


def picture(rng: np.random.Generator, style: Style) -> Piece:
    """A framed picture, sometimes a round clock or a shelf board."""
    middle = rng.uniform(1.5, 1.7)
    if rng.random() < 0.12:
        radius = rng.uniform(0.12, 0.2)
        face = Primitive("sphere", (0.0, 0.0, middle), (radius, 0.03, radius), 0.0, style.paint)
        rim = Primitive("sphere", (0.0, 0.0, middle), (radius + 0.03, 0.022, radius + 0.03), 0.0, style.dark)
        return Piece((rim, face), 2 * radius + 0.06, 0.03, middle + radius + 0.03)
    width, height = rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.75)
    bottom = max(middle - height / 2, PICTURE_BOTTOM)
    frame = pick(rng, style.wood, style.dark, style.paint)
    art = Material(
        "painting", style.vivid.base, style.rug.second, rng.uniform(0.5, 1.5), 0.15, seed=int(rng.integers(4096))
    )
    edge, border = rng.uniform(0.02, 0.05), rng.choice((0.0, 0.06))
    parts = [box(0.0, 0.015, bottom, width, 0.03, height, frame)]
    inner = edge
    if border and min(width, height) > 0.35:
        parts += [box(0.0, 0.016, bottom + edge, width - 2 * edge, 0.032, height - 2 * edge, style.paint)]
        inner = edge + float(border)
    parts += [box(0.0, 0.017, bottom + inner, width - 2 * inner, 0.034, height - 2 * inner, art)]
    return Piece(tuple(parts), width, 0.035, bottom + height)


def skirting(style: Style, size: Vector) -> Piece:
    """Boards along the foot of all four walls, in the frame of the room itself."""
    width, length, _ = size
    trim, thick, high = style.trim._replace(pattern="plain"), 0.015, 0.08
    parts = [box(width / 2, y, 0.0, width, thick, high, trim) for y in (thick / 2, length - thick / 2)]
    parts += [box(x, length / 2, 0.0, thick, length, high, trim) for x in (thick / 2, width - thick / 2)]
    return Piece(tuple(parts), width, length, high)


def rug(rng: np.random.Generator, style: Style, size: Vector) -> Piece:
    """A rug in the middle of the floor, in the frame of the room itself; a round one now and then."""
    width, length = size[0] * rng.uniform(0.35, 0.6), size[1] * rng.uniform(0.3, 0.55)
    x, y, thick = size[0] * rng.uniform(0.4, 0.6), size[1] * rng.uniform(0.4, 0.6), 0.012
    if rng.random() < 0.25:
        return Piece((cylinder(x, y, 0.0, min(width, length) / 2, thick, style.rug),), 0.0, 0.0, thick)
    parts = [box(x, y, 0.0, width, length, thick, style.rug)]
    if rng.random() < 0.5:
        parts = [box(x, y, 0.0, width + 0.2, length + 0.2, thick - 0.003, vary(rng, style.accent)), *parts]
    return Piece(tuple(parts), 0.0, 0.0, thick)


def pendant(rng: np.random.Generator, style: Style, room_height: float) -> Piece:
    """A lamp that hangs from the ceiling or sits on it."""
    drop, radius = rng.uniform(0.0, 0.55) if room_height > 2.6 else 0.0, rng.uniform(0.13, 0.24)
    z = room_height - drop - 0.12
    if drop < 0.1:
        parts = [cylinder(0.0, radius, room_height - 0.1, radius, 0.1, style.lamp)]
        z = room_height - 0.2
    else:
        parts = [cylinder(0.0, radius, z, 0.01, drop + 0.12, style.dark)]
        shade = ball(0.0, radius, z - radius, radius, style.lamp)
        parts += [shade if rng.random() < 0.5 else cylinder(0.0, radius, z - 0.1, radius, 0.2, style.lamp)]
    return Piece(tuple(parts), 2 * radius, 2 * radius, room_height, (0.0, radius, z))
