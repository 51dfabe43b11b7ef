"""What small things stand on in near views: desks, tables, counters, beds, the floor, shelves.

Builders in the frame of ``furniture``. Things are put on a top where there is room for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spd.data.rooms import deskware, tableware
from spd.data.rooms.furniture import Builder, Piece, box, cylinder, legs, placed
from spd.data.rooms.geometry import Primitive
from spd.data.rooms.layout import Footprint
from spd.data.rooms.style import Style, hsv, pick, vary
from spd.data.rooms.textures import Material


class Top(NamedTuple):
    """Something to put things on."""

    piece: Piece
    things: tuple[Piece, ...]
    """What stands on it, in its frame."""
    free: bool
    """Whether it may stand in the open and be seen from all sides."""


_DESK: tuple[Builder, ...] = (
    deskware.books, deskware.books, deskware.papers, deskware.papers, deskware.pen, deskware.pen_cup, deskware.phone,
    deskware.desk_lamp, deskware.pot_plant, deskware.speaker, tableware.cup, tableware.glass, tableware.bottle,
    tableware.carton, tableware.balls, tableware.can,
)  # fmt: skip
_TABLE: tuple[Builder, ...] = (
    tableware.cup, tableware.cup, tableware.glass, tableware.bowl, tableware.bowl, tableware.plate, tableware.plate,
    tableware.bottle, tableware.carton, tableware.can, tableware.pot, deskware.books, deskware.papers, deskware.phone,
    deskware.pot_plant, tableware.balls,
)  # fmt: skip
_MIXED: tuple[Builder, ...] = (
    tableware.cardboard, tableware.cardboard, tableware.balls, tableware.blocks, tableware.teddy, tableware.carton,
    tableware.bottle, tableware.can, deskware.books, tableware.cup, deskware.laptop, deskware.phone, tableware.bowl,
    deskware.keyboard,
)  # fmt: skip


def _surface(rng: np.random.Generator, style: Style) -> Material:
    """Wood, paint, stone or plastic of a table top."""
    tone = rng.uniform(0.25, 0.85)
    stone, grains = (tone, tone, tone * 0.97), (tone * 0.55, tone * 0.55, tone * 0.55)
    colour = hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.9))
    return pick(
        rng, style.wood, style.wood, style.paint, style.dark,
        Material("speckle", stone, grains, rng.uniform(0.01, 0.04), 0.3),
        Material("plain", colour, colour, gloss=0.2),
    )  # fmt: skip


def _cloth(rng: np.random.Generator, style: Style) -> Material:
    """Woven, checked, striped or printed cloth."""
    hue, value = rng.random(), rng.uniform(0.4, 0.9)
    base, second = hsv(hue, rng.uniform(0.1, 0.7), value), hsv(hue + rng.choice((0, 0.5)), 0.1, 0.95)
    what = rng.integers(4)
    if what == 0:
        return Material(
            "weave", base, hsv(hue, 0.4, value * 0.7), rng.uniform(0.002, 0.006), seed=int(rng.integers(99))
        )
    if what == 1:
        return Material("checker", base, second, rng.uniform(0.03, 0.12))
    if what == 2:
        return Material("stripes", base, second, rng.uniform(0.02, 0.15))
    return Material("painting", base, second, rng.uniform(0.3, 1.0), seed=int(rng.integers(4096)))


def spread(
    rng: np.random.Generator,
    style: Style,
    builders: Sequence[Builder],
    count: int,
    area: tuple[float, float, float, float],
    z: float,
    turn: float,
    taken: Sequence[Footprint] = (),
) -> list[Piece]:
    """Things side by side on a level.

    Args:
        rng: draws them.
        style: colours of the room.
        builders: what may stand there.
        count: how many are tried; what finds no place is left out.
        area: (left, right, back, front) in metres.
        z: height of the level.
        turn: standard deviation of their direction in radians.
        taken: what already stands there.
    """
    left, right, back, front = area
    blocks, things = list(taken), []
    for _ in range(count):
        thing = builders[int(rng.integers(len(builders)))](rng, style)
        half_x, half_y = thing.width / 2, thing.depth / 2
        for _ in range(6):
            yaw = rng.normal(0, turn)
            block = Footprint(0.0, 0.0, half_x + 0.008, half_y + 0.008, yaw, 0.0, 1.0)
            reach = block.reach((1.0, 0.0)), block.reach((0.0, 1.0))
            if left + reach[0] > right - reach[0] or back + reach[1] > front - reach[1]:
                continue
            block = block._replace(
                x=rng.uniform(left + reach[0], right - reach[0]), y=rng.uniform(back + reach[1], front - reach[1])
            )
            if not any(block.meets(other) for other in blocks):
                blocks.append(block)
                things.append(stood(thing, block.x, block.y, z, yaw))
                break
    return things


def stood(thing: Piece, x: float, y: float, z: float, yaw: float) -> Piece:
    """The thing with its middle at (x, y) of a level at height z."""
    parts = tuple(
        part._replace(centre=(part.centre[0], part.centre[1] - thing.depth / 2, part.centre[2] + z))
        for part in thing.parts
    )
    light = thing.light
    if light is not None:
        light = (light[0], light[1] - thing.depth / 2, light[2] + z)
    return placed(thing._replace(parts=parts, light=light, height=thing.height + z), x, y, yaw, 0)


def desk(rng: np.random.Generator, style: Style) -> Top:
    """A desk: a screen or a laptop, mostly a keyboard and a mouse, and what lies around."""
    width, depth, height, board = rng.uniform(1.0, 1.7), rng.uniform(0.58, 0.8), rng.uniform(0.69, 0.76), 0.028
    top = _surface(rng, style)
    parts = [box(0.0, depth / 2, height - board, width, depth, board, top)]
    parts += legs(width, depth, height - board, 0.05, pick(rng, style.metal, style.wood))
    if rng.random() < 0.6:
        side = 1 if rng.random() < 0.5 else -1
        parts += [box(side * (width / 2 - 0.25), depth / 2, 0.05, 0.4, depth - 0.06, height - 0.12, vary(rng, top))]
    piece = Piece(tuple(parts), width, depth, height + 0.45)
    things: list[Piece] = []
    x, what = rng.uniform(-0.2, 0.2) * width, rng.random()
    if what < 0.55:
        things += [stood(deskware.monitor(rng, style), x, 0.15, height, rng.normal(0, 0.12))]
        things += [stood(deskware.keyboard(rng, style), x, depth - 0.18, height, rng.normal(0, 0.06))]
        side = 1 if rng.random() < 0.8 else -1
        mouse = deskware.mouse(rng, style)
        things += [stood(mouse, x + side * 0.36, depth - 0.19, height, rng.normal(0, 0.15))]
    elif what < 0.85:
        laptop = deskware.laptop(rng, style)
        things += [stood(laptop, x, depth - laptop.depth / 2 - 0.06, height, rng.normal(0, 0.2))]
    taken = [_block(thing) for thing in things]
    edge = width / 2 - 0.01
    things += spread(
        rng, style, _DESK, int(rng.integers(9, 22)), (-edge, edge, 0.01, depth - 0.01), height, 0.35, taken
    )
    return Top(piece, tuple(things), free=False)


def table(rng: np.random.Generator, style: Style) -> Top:
    """A table, round or not, high or low, perhaps under a cloth, with a meal or its remains."""
    width, depth, height = rng.uniform(0.8, 1.6), rng.uniform(0.6, 0.95), rng.uniform(0.7, 0.77)
    if rng.random() < 0.25:
        width, depth, height = rng.uniform(0.7, 1.2), rng.uniform(0.45, 0.65), rng.uniform(0.36, 0.47)
    top, board, edge_x, edge_y = _surface(rng, style), 0.03, width / 2 - 0.02, depth - 0.02
    if rng.random() < 0.25:
        radius = depth = width = rng.uniform(0.75, 1.15)
        radius /= 2
        parts = [cylinder(0.0, radius, height - board, radius, board, top)]
        parts += [cylinder(0.0, radius, 0.0, 0.05, height - board, style.metal)]
        edge_x, edge_y = radius * 0.7, radius * 1.7
    else:
        parts = [box(0.0, depth / 2, height - board, width, depth, board, top)]
        parts += legs(width, depth, height - board, 0.06, vary(rng, style.wood))
    if rng.random() < 0.35:
        cloth, thick = _cloth(rng, style), 0.002
        if len(parts) == 2:
            parts += [cylinder(0.0, depth / 2, height - 0.16, depth / 2 + 0.006, 0.16 + thick, cloth)]
        else:
            parts += [box(0.0, depth / 2, height - 0.2, width + 0.012, depth + 0.012, 0.2 + thick, cloth)]
        height += thick
    piece = Piece(tuple(parts), width + 0.012, depth, height + 0.3)
    area = (-edge_x, edge_x, depth - edge_y, edge_y)
    things = spread(rng, style, _TABLE, int(rng.integers(9, 24)), area, height, 0.8)
    return Top(piece, tuple(things), free=True)


def counter(rng: np.random.Generator, style: Style) -> Top:
    """A kitchen counter before a tiled wall."""
    width, depth, height = rng.uniform(1.2, 2.2), rng.uniform(0.58, 0.65), rng.uniform(0.86, 0.93)
    front = pick(rng, style.paint, style.wood, style.accent._replace(pattern="plain"))
    parts = [box(0.0, depth / 2, 0.1, width, depth - 0.04, height - 0.14, front)]
    parts += [box(0.0, depth / 2, 0.0, width, depth - 0.1, 0.1, style.dark)]
    parts += [box(0.0, depth / 2, height - 0.04, width, depth, 0.04, _surface(rng, style)._replace(gloss=0.3))]
    tiles = style.paint._replace(pattern="tiles", scale=rng.uniform(0.08, 0.15), second=(0.5, 0.5, 0.5), gloss=0.3)
    parts += [box(0.0, 0.004, height, width, 0.008, 0.55, vary(rng, tiles))]
    for column in range(3):
        x = (column - 1) * width / 3
        parts += [box(x, depth - 0.015, 0.13, width / 3 - 0.01, 0.016, height - 0.2, vary(rng, front, 0.03))]
        parts += [box(x, depth, height - 0.13, 0.14, 0.025, 0.012, style.metal)]
    piece = Piece(tuple(parts), width, depth + 0.02, height + 0.55)
    edge = width / 2 - 0.01
    things = spread(rng, style, _TABLE, int(rng.integers(12, 26)), (-edge, edge, 0.02, depth - 0.02), height, 0.5)
    return Top(piece, tuple(things), free=False)


def bed(rng: np.random.Generator, style: Style) -> Top:
    """A bed or divan under a cover, with things that lie around."""
    width, depth, height = rng.uniform(0.8, 1.4), rng.uniform(1.4, 1.9), rng.uniform(0.38, 0.55)
    cover = _cloth(rng, style)
    parts = [box(0.0, depth / 2, 0.0, width - 0.1, depth - 0.1, 0.15, style.dark)]
    parts += [box(0.0, depth / 2, 0.12, width, depth, height - 0.12, cover)]
    half = (min(0.33, width / 2 - 0.1), 0.2, 0.09)
    parts += [
        Primitive("sphere", (0.0, 0.3, height + 0.06), half, rng.normal(0, 0.1), pick(rng, style.paint, style.accent))
    ]
    piece = Piece(tuple(parts), width, depth, height + 0.2)
    area = (-width / 2 + 0.03, width / 2 - 0.03, 0.55, depth - 0.05)
    return Top(piece, tuple(spread(rng, style, _MIXED, int(rng.integers(5, 12)), area, height, 1.0)), free=False)


def floor(rng: np.random.Generator, style: Style) -> Top:
    """Things on a rug or on the floor."""
    width, depth, thick = rng.uniform(0.9, 1.5), rng.uniform(0.9, 1.4), 0.0
    parts: list[Primitive] = []
    if rng.random() < 0.5:
        thick = 0.008
        parts = [box(0.0, depth / 2, 0.0, width, depth, thick, _cloth(rng, style))]
    area = (-width / 2, width / 2, 0.0, depth)
    things = spread(rng, style, _MIXED, int(rng.integers(7, 14)), area, thick, 1.5)
    return Top(Piece(tuple(parts), width, depth, 0.5), tuple(things), free=True)


def shelf(rng: np.random.Generator, style: Style) -> Top:
    """A bookcase: rows of books, piles of them, boxes, and things between."""
    width, depth, height = rng.uniform(0.7, 1.3), rng.uniform(0.24, 0.34), rng.uniform(1.3, 2.1)
    wood, board = pick(rng, style.wood, style.wood, style.paint, style.dark), 0.02
    rows = max(3, round(height / rng.uniform(0.29, 0.42)))
    gap, inner = (height - board) / rows, width - 2 * board
    parts = [box(s * (width - board) / 2, depth / 2, 0.0, board, depth, height, wood) for s in (-1, 1)]
    parts += [box(0.0, 0.004, 0.0, width - board, 0.008, height, vary(rng, wood, 0.15))]
    parts += [box(0.0, depth / 2, row * gap, inner, depth, board, wood) for row in range(rows + 1)]
    things: list[Piece] = []
    clear = gap - board
    for row in range(rows):
        x, z = -inner / 2 + 0.003, row * gap + board
        while x < inner / 2 - 0.08:
            run = min(rng.uniform(0.15, 0.6), inner / 2 - x)
            if rng.random() < 0.68:
                row_of = deskware.row_of_books(rng, x, x + run - 0.003, depth - 0.005, z, clear, depth - 0.02)
                things += [Piece(tuple(row_of), run, depth, z + clear)]
            else:
                things += [
                    thing
                    for thing in spread(rng, style, _DESK + _MIXED, 3, (x, x + run, 0.01, depth), z, 0.2)
                    if thing.height < z + clear
                ]
            x += run + rng.choice((0.0, 0.0, 0.03))
    return Top(Piece(tuple(parts), width, depth, height), tuple(things), free=False)


def _block(thing: Piece) -> Footprint:
    """The upright block around the parts of something that stands."""
    reaches = [np.abs(part.rotation().T) @ np.array(part.half) for part in thing.parts]
    low = np.min([np.array(part.centre) - reach for part, reach in zip(thing.parts, reaches, strict=True)], axis=0)
    high = np.max([np.array(part.centre) + reach for part, reach in zip(thing.parts, reaches, strict=True)], axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    return Footprint(float(middle[0]), float(middle[1]), float(half[0]), float(half[1]), 0.0, 0.0, 1.0)


def in_front(block: Footprint, reach: float) -> Footprint:
    """The floor before a block that stands with its back to a wall, as far as ``reach`` metres."""
    away = block.half_y + reach / 2
    return block._replace(
        x=block.x - math.sin(block.yaw) * away,
        y=block.y + math.cos(block.yaw) * away,
        half_y=reach / 2,
        bottom=0.0,
        top=9.0,
    )
