"""Furniture of the rooms, built of boxes, cylinders and spheres.

A builder draws one piece in a frame of its own: X along its width from the middle, Y from its back (0) to its front,
Z up from the floor; metres. A piece that hangs has parts that start above the floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spd.data.rooms.geometry import Primitive, Vector
from spd.data.rooms.style import Style, pick, vary
from spd.data.rooms.textures import Material


class Piece(NamedTuple):
    """A piece of furniture in its own frame, with the space that it takes, in metres."""

    parts: tuple[Primitive, ...]
    width: float
    depth: float
    height: float
    light: Vector | None = None
    """Where it shines from, for a lamp."""


Builder = Callable[[np.random.Generator, Style], Piece]


def box(
    x: float, y: float, z: float, width: float, depth: float, height: float, material: Material, yaw: float = 0.0
) -> Primitive:
    """A box that stands with the middle of its base at (x, y, z)."""
    return Primitive("box", (x, y, z + height / 2), (width / 2, depth / 2, height / 2), yaw, material)


def cylinder(x: float, y: float, z: float, radius: float, height: float, material: Material) -> Primitive:
    """An upright cylinder that stands with the middle of its base at (x, y, z)."""
    return Primitive("cylinder", (x, y, z + height / 2), (radius, radius, height / 2), 0.0, material)


def ball(x: float, y: float, z: float, radius: float, material: Material, flat: float = 1.0) -> Primitive:
    """A sphere that rests on (x, y, z); ``flat`` scales its height."""
    return Primitive("sphere", (x, y, z + radius * flat), (radius, radius, radius * flat), 0.0, material)


def legs(
    width: float, depth: float, height: float, thick: float, material: Material, y: float = 0.0
) -> list[Primitive]:
    """Four legs under the corners of a top whose back edge is at y."""
    x, inset = width / 2 - thick, thick
    return [
        box(side * x, y + back, 0.0, thick, thick, height, material)
        for side in (-1, 1)
        for back in (inset, depth - inset)
    ]


def clutter(
    rng: np.random.Generator, style: Style, z: float, width: float, depth: float, count: int
) -> list[Primitive]:
    """Small things on a top of that width and depth at height z, side by side."""
    parts: list[Primitive] = []
    slots = rng.permutation(max(count, int(width / 0.3)))[:count]
    for slot in slots:
        x = (slot + 0.5) / max(count, int(width / 0.3)) * width - width / 2
        y = depth * rng.uniform(0.35, 0.65)
        material = pick(rng, style.accent, style.vivid, style.paint, style.dark)._replace(gloss=0.25)
        what = rng.integers(5)
        if what == 0:
            radius = rng.uniform(0.04, 0.07)
            tall = rng.uniform(0.1, 0.22)
            parts += [cylinder(x, y, z, radius, tall, material)]
            parts += [ball(x, y, z + tall - 0.02, radius * 1.8, vary(rng, style.leaf))]
        elif what == 1:
            for level in range(int(rng.integers(2, 5))):
                size = rng.uniform(0.16, 0.22)
                book = pick(rng, style.accent, style.vivid, style.paint, style.dark)
                parts += [box(x, y, z + 0.03 * level, size, size * 0.7, 0.03, book, rng.uniform(-0.4, 0.4))]
        elif what == 2:
            parts += [ball(x, y, z, rng.uniform(0.06, 0.1), material, flat=rng.uniform(0.6, 1.0))]
        elif what == 3:
            parts += [cylinder(x, y, z, rng.uniform(0.03, 0.05), rng.uniform(0.08, 0.12), material)]
        else:
            size = rng.uniform(0.1, 0.2)
            parts += [box(x, y, z, size, size * 0.8, rng.uniform(0.08, 0.2), material, rng.uniform(-0.5, 0.5))]
    return parts


def _chair(rng: np.random.Generator, frame: Material, seat: Material) -> list[Primitive]:
    size, height = 0.43, 0.45
    parts = legs(size, size, height, 0.04, frame)
    parts += [box(0.0, size / 2, height, size, size, 0.04, seat)]
    parts += [box(side * (size / 2 - 0.02), 0.02, height, 0.04, 0.04, 0.45, frame) for side in (-1, 1)]
    if rng.random() < 0.5:
        parts += [box(0.0, 0.02, height + 0.13, size - 0.08, 0.03, 0.32, seat)]
    else:
        parts += [box(0.0, 0.02, height + z, size - 0.08, 0.025, 0.07, frame) for z in (0.14, 0.26, 0.38)]
    return parts


def _moved(parts: list[Primitive], x: float, y: float, yaw: float) -> list[Primitive]:
    """Parts turned about the vertical through the origin, then shifted."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return [
        part._replace(
            centre=(
                x + cos * part.centre[0] - sin * part.centre[1],
                y + sin * part.centre[0] + cos * part.centre[1],
                part.centre[2],
            ),
            yaw=part.yaw + yaw,
        )
        for part in parts
    ]


def placed(piece: Piece, x: float, y: float, yaw: float, number: int) -> Piece:
    """The piece with its back's middle at (x, y) of the floor; its parts carry ``number``."""
    parts = _moved(list(piece.parts), x, y, yaw)
    light = None
    if piece.light is not None:
        cos, sin = math.cos(yaw), math.sin(yaw)
        light = (
            x + cos * piece.light[0] - sin * piece.light[1],
            y + sin * piece.light[0] + cos * piece.light[1],
            piece.light[2],
        )
    return piece._replace(parts=tuple(part._replace(piece=number) for part in parts), light=light)


def chair(rng: np.random.Generator, style: Style) -> Piece:
    """A dining chair."""
    return Piece(tuple(_chair(rng, style.wood, pick(rng, style.wood, style.fabric))), 0.43, 0.43, 0.9)


def stool(rng: np.random.Generator, style: Style) -> Piece:
    """A round stool on four legs."""
    height, radius = rng.uniform(0.42, 0.7), rng.uniform(0.16, 0.2)
    parts = legs(radius * 1.5, radius * 1.5, height, 0.03, style.metal, y=radius * 0.25)
    parts += [cylinder(0.0, radius, height, radius, 0.05, pick(rng, style.wood, style.accent))]
    return Piece(tuple(parts), 2 * radius, 2 * radius, height + 0.05)


def dining_table(rng: np.random.Generator, style: Style) -> Piece:
    """A table, square or round, with chairs pushed under it to varying depth."""
    width, depth, height = rng.uniform(1.0, 1.8), rng.uniform(0.75, 0.95), rng.uniform(0.71, 0.77)
    wood, seat, margin = vary(rng, style.wood), pick(rng, style.wood, style.fabric, style.paint), 0.45
    if rng.random() < 0.3:
        width = depth = rng.uniform(0.9, 1.2)
        middle = margin + depth / 2
        parts = [cylinder(0.0, middle, height, depth / 2, 0.035, wood), cylinder(0.0, middle, 0.0, 0.05, height, wood)]
        parts += [cylinder(0.0, middle, 0.0, 0.26, 0.03, wood)]
    else:
        parts = [box(0.0, margin + depth / 2, height, width, depth, 0.035, wood)]
        parts += legs(width, depth, height, 0.06, wood, y=margin)
        parts += [box(0.0, margin + y, height - 0.09, width - 0.16, 0.02, 0.09, wood) for y in (0.08, depth - 0.08)]
    parts += [
        part._replace(centre=(part.centre[0], part.centre[1] + margin, part.centre[2]))
        for part in clutter(rng, style, height + 0.035, width * 0.7, depth, int(rng.integers(1, 4)))
    ]
    seats = [-0.25, 0.25] if width > 1.3 else [0.0]
    for x in seats:
        for side in (0, 1):
            if rng.random() < 0.8:
                back = rng.uniform(0.0, 0.22) if side == 0 else 2 * margin + depth - rng.uniform(0.0, 0.22)
                yaw = side * math.pi + rng.normal(0, 0.08)
                parts += _moved(_chair(rng, style.wood, seat), x * width * 0.95, back, yaw)
    return Piece(tuple(parts), width, depth + 2 * margin + 0.08, 1.3)


def coffee_table(rng: np.random.Generator, style: Style) -> Piece:
    """A low table."""
    width, depth, height = rng.uniform(0.7, 1.2), rng.uniform(0.45, 0.65), rng.uniform(0.32, 0.45)
    wood = pick(rng, style.wood, style.wood, style.paint, style.dark)
    if rng.random() < 0.35:
        depth = width = rng.uniform(0.6, 0.85)
        parts = [cylinder(0.0, depth / 2, height, depth / 2, 0.04, wood)]
        parts += legs(width * 0.6, depth * 0.6, height, 0.05, wood, y=depth * 0.2)
    else:
        parts = [box(0.0, depth / 2, height, width, depth, 0.04, wood), *legs(width, depth, height, 0.05, wood)]
        if rng.random() < 0.5:
            parts += [box(0.0, depth / 2, height * 0.35, width - 0.1, depth - 0.1, 0.02, wood)]
    parts += clutter(rng, style, height + 0.04, width * 0.7, depth, int(rng.integers(1, 3)))
    return Piece(tuple(parts), width, depth, height + 0.55)


def desk(rng: np.random.Generator, style: Style) -> Piece:
    """A desk with a screen, a drawer unit and a chair before it."""
    width, depth, height = rng.uniform(1.1, 1.6), rng.uniform(0.6, 0.75), 0.73
    wood, dark = pick(rng, style.wood, style.paint), style.dark
    parts = [box(0.0, depth / 2, height, width, depth, 0.03, wood), *legs(width, depth, height, 0.05, style.metal)]
    side = 1 if rng.random() < 0.5 else -1
    parts += [box(side * (width / 2 - 0.28), depth / 2, 0.05, 0.4, depth - 0.12, height - 0.1, wood)]
    for z in (0.08, 0.3, 0.52):
        parts += [box(side * (width / 2 - 0.28), depth - 0.05, z, 0.36, 0.02, 0.18, vary(rng, wood))]
    x = -side * width * rng.uniform(0.05, 0.15)
    screen = dark._replace(gloss=0.5) if rng.random() < 0.5 else style.vivid._replace(pattern="painting", glow=0.5)
    wide = rng.uniform(0.45, 0.62)
    parts += [box(x, 0.2, height + 0.03, 0.22, 0.16, 0.015, dark), box(x, 0.18, height + 0.04, 0.05, 0.03, 0.12, dark)]
    parts += [box(x, 0.2, height + 0.13, wide, 0.03, wide * 0.58, dark)]
    parts += [box(x, 0.216, height + 0.145, wide - 0.03, 0.004, wide * 0.58 - 0.03, screen)]
    parts += [box(x, depth - 0.2, height + 0.03, 0.42, 0.14, 0.02, pick(rng, dark, style.paint))]
    chair_parts = _chair(rng, style.metal, pick(rng, style.fabric, style.accent, dark))
    parts += _moved(chair_parts, x, depth + rng.uniform(0.25, 0.5), math.pi + rng.normal(0.0, 0.4))
    return Piece(tuple(parts), width + 0.1, depth + 0.66, 1.25)


def sofa(rng: np.random.Generator, style: Style) -> Piece:
    """A sofa of one to three seats, with cushions and perhaps pillows."""
    seats, fabric = int(rng.integers(1, 4)), pick(rng, style.fabric, style.fabric, style.accent)
    seat, arm, depth, back = rng.uniform(0.58, 0.68), rng.uniform(0.12, 0.2), rng.uniform(0.82, 0.95), 0.22
    width, height, arm_height = seats * seat + 2 * arm, rng.uniform(0.72, 0.88), rng.uniform(0.5, 0.62)
    parts = [box(0.0, depth / 2, 0.06, width - 0.02, depth - 0.02, 0.22, fabric)]
    parts += [box(0.0, back / 2, 0.06, width - 0.01, back, height - 0.06, vary(rng, fabric, 0.03))]
    parts += [
        box(s * (width - arm) / 2, depth / 2 + 0.005, 0.06, arm, depth - 0.01, arm_height, fabric) for s in (-1, 1)
    ]
    parts += [
        box(s * (width / 2 - 0.08), y, 0.0, 0.05, 0.05, 0.06, style.dark) for s in (-1, 1) for y in (0.08, depth - 0.08)
    ]
    for number in range(seats):
        x = (number - (seats - 1) / 2) * seat
        parts += [box(x, (depth + back) / 2, 0.28, seat - 0.015, depth - back, 0.15, vary(rng, fabric, 0.05))]
        parts += [box(x, back + 0.07, 0.43, seat - 0.02, 0.13, height - 0.46, vary(rng, fabric, 0.05))]
    for side in (-1, 1):
        if rng.random() < 0.6:
            pillow = pick(rng, style.accent, style.vivid, style.paint)
            x = side * (seats * seat / 2 - 0.2)
            parts += [Primitive("sphere", (x, back + 0.24, 0.6), (0.21, 0.09, 0.19), rng.normal(0, 0.3), pillow)]
    return Piece(tuple(parts), width, depth, height + 0.08)
