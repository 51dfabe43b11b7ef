"""More furniture of the rooms: beds, storage, kitchens, lamps, plants, and what hangs on walls.

Builders in the frame of ``furniture``.
"""

from __future__ import annotations

import math

import numpy as np

from spd.data.rooms.furniture import Piece, ball, box, clutter, cylinder
from spd.data.rooms.geometry import Primitive
from spd.data.rooms.style import Style, pick, vary
from spd.data.rooms.textures import Material


def _fronts(
    x: float, y: float, z: float, width: float, height: float, grid: tuple[int, int], front: Material, knob: Material
) -> list[Primitive]:
    """Doors or drawers, (rows, columns) of them, on the face at y, with a handle each."""
    rows, columns = grid
    wide, high = width / columns, height / rows
    parts: list[Primitive] = []
    for row in range(rows):
        for column in range(columns):
            left, bottom = x + (column + 0.5) * wide - width / 2, z + row * high
            parts += [box(left, y + 0.008, bottom + 0.008, wide - 0.016, 0.016, high - 0.016, front)]
            if high > wide:
                side = 1 if column % 2 == 0 else -1
                handle = box(left + side * (wide / 2 - 0.05), y + 0.03, bottom + high * 0.45, 0.015, 0.03, 0.14, knob)
            else:
                handle = box(left, y + 0.03, bottom + high * 0.6, min(0.14, wide * 0.4), 0.03, 0.015, knob)
            parts += [handle]
    return parts


def bed(rng: np.random.Generator, style: Style) -> Piece:
    """A bed with its headboard against the wall."""
    width, depth, base = float(rng.choice((0.95, 1.4, 1.6))), rng.uniform(1.95, 2.1), rng.uniform(0.25, 0.35)
    frame, sheet, cover = (
        pick(rng, style.wood, style.dark, style.paint),
        style.paint,
        pick(rng, style.fabric, style.accent),
    )
    head = rng.uniform(0.8, 1.15)
    parts = [box(0.0, 0.03, 0.0, width + 0.06, 0.06, head, frame)]
    parts += [box(0.0, depth / 2 + 0.03, 0.08, width + 0.04, depth, base - 0.08, frame)]
    parts += [box(0.0, depth / 2 + 0.05, base, width, depth - 0.06, 0.22, vary(rng, sheet, 0.03))]
    part = rng.uniform(0.55, 0.75)
    parts += [box(0.0, depth * (1 - part / 2) + 0.06, base - 0.1, width + 0.05, depth * part, 0.35, cover)]
    if rng.random() < 0.5:
        fold = box(
            0.0, depth * (1 - part) + 0.15, base - 0.09, width + 0.055, 0.25, 0.355, pick(rng, style.accent, sheet)
        )
        parts += [fold]
    pillows = 1 if width < 1.2 else 2
    for number in range(pillows):
        x = (number - (pillows - 1) / 2) * width / 2
        half = (min(0.34, width / pillows / 2 - 0.03), 0.21, 0.1)
        parts += [Primitive("sphere", (x, 0.32, base + 0.28), half, rng.normal(0, 0.1), vary(rng, sheet, 0.05))]
    return Piece(tuple(parts), width + 0.06, depth + 0.06, head)


def nightstand(rng: np.random.Generator, style: Style) -> Piece:
    """A small cabinet beside a bed."""
    width, depth, height = rng.uniform(0.4, 0.55), rng.uniform(0.36, 0.45), rng.uniform(0.45, 0.6)
    wood = pick(rng, style.wood, style.paint)
    parts = [box(0.0, depth / 2, 0.0, width, depth, height, wood)]
    parts += _fronts(0.0, depth, 0.07, width - 0.03, height - 0.1, (2, 1), vary(rng, wood), style.metal)
    parts += [
        cylinder(0.0, depth / 2, height, 0.07, 0.02, style.metal),
        cylinder(0.0, depth / 2, height, 0.012, 0.3, style.metal),
    ]
    parts += [cylinder(0.0, depth / 2, height + 0.27, 0.12, 0.18, style.lamp)]
    return Piece(tuple(parts), width, depth + 0.05, height + 0.45, (0.0, depth / 2, height + 0.36))


def sideboard(rng: np.random.Generator, style: Style) -> Piece:
    """A low cabinet, half of the time with a television on it."""
    width, depth, height = rng.uniform(1.0, 1.9), rng.uniform(0.38, 0.5), rng.uniform(0.45, 0.9)
    wood = pick(rng, style.wood, style.wood, style.paint)
    parts = [box(0.0, depth / 2, 0.08, width, depth, height - 0.08, wood)]
    parts += [box(0.0, depth / 2, 0.0, width - 0.1, depth - 0.08, 0.08, style.dark)]
    grid = (int(rng.integers(1, 4)), max(2, round(width / 0.5)))
    parts += _fronts(0.0, depth, 0.1, width - 0.03, height - 0.13, grid, pick(rng, wood, style.paint), style.metal)
    if height < 0.75 and rng.random() < 0.6:
        wide = min(width, rng.uniform(0.8, 1.3))
        screen = style.dark._replace(gloss=0.6)
        parts += [
            box(0.0, depth / 2, height, 0.4, 0.2, 0.02, screen),
            box(0.0, depth / 2, height + 0.02, 0.06, 0.05, 0.06, screen),
        ]
        parts += [box(0.0, depth / 2, height + 0.07, wide, 0.05, wide * 0.57, screen)]
        return Piece(tuple(parts), width, depth + 0.05, height + 0.1 + wide * 0.57)
    parts += clutter(rng, style, height, width * 0.9, depth, int(rng.integers(2, 5)))
    return Piece(tuple(parts), width, depth + 0.05, height + 0.5)


def dresser(rng: np.random.Generator, style: Style) -> Piece:
    """A chest of drawers."""
    width, depth, height = rng.uniform(0.7, 1.2), rng.uniform(0.42, 0.52), rng.uniform(0.8, 1.25)
    wood = pick(rng, style.wood, style.paint)
    parts = [
        box(0.0, depth / 2, 0.06, width, depth, height - 0.09, wood),
        box(0.0, depth / 2, 0.0, width - 0.06, depth - 0.06, 0.06, wood),
    ]
    parts += [box(0.0, depth / 2 + 0.01, height - 0.03, width + 0.03, depth + 0.03, 0.03, wood)]
    grid = (int(rng.integers(3, 6)), int(rng.integers(1, 3)))
    parts += _fronts(0.0, depth, 0.08, width - 0.03, height - 0.14, grid, vary(rng, wood), style.metal)
    parts += clutter(rng, style, height, width * 0.8, depth, int(rng.integers(1, 3)))
    return Piece(tuple(parts), width + 0.03, depth + 0.06, height + 0.5)


def wardrobe(rng: np.random.Generator, style: Style) -> Piece:
    """A tall cupboard."""
    width, depth, height = rng.uniform(0.9, 1.9), rng.uniform(0.55, 0.65), rng.uniform(1.85, 2.2)
    wood = pick(rng, style.wood, style.paint)
    parts = [box(0.0, depth / 2, 0.0, width, depth, height, wood)]
    columns = 2 if width < 1.4 else 3
    parts += _fronts(0.0, depth, 0.08, width - 0.04, height - 0.12, (1, columns), vary(rng, wood, 0.12), style.metal)
    return Piece(tuple(parts), width, depth + 0.05, height)


def bookshelf(rng: np.random.Generator, style: Style) -> Piece:
    """Shelves with books."""
    width, depth, height = rng.uniform(0.6, 1.3), rng.uniform(0.27, 0.36), rng.uniform(1.1, 2.1)
    wood, board = pick(rng, style.wood, style.wood, style.paint, style.dark), 0.025
    parts = [box(s * (width - board) / 2, depth / 2, 0.0, board, depth, height, wood) for s in (-1, 1)]
    parts += [box(0.0, 0.008, 0.0, width - board, 0.015, height, vary(rng, wood, 0.15))]
    rows = max(2, round(height / 0.36))
    gap, inner = (height - board) / rows, width - 2 * board
    parts += [box(0.0, depth / 2, row * gap, inner, depth, board, wood) for row in range(rows + 1)]
    for row in range(rows):
        x, floor = -inner / 2, row * gap + board
        while x < inner / 2 - 0.1:
            run = min(rng.uniform(0.12, 0.45), inner / 2 - x)
            if rng.random() < 0.75:
                tall, deep = (gap - board) * rng.uniform(0.6, 0.92), depth * rng.uniform(0.6, 0.85)
                parts += [
                    box(x + run / 2, deep / 2 + 0.02, floor, run - 0.005, deep, tall, vary(rng, style.books, 0.2))
                ]
            elif rng.random() < 0.5:
                parts += clutter_at(rng, style, x + run / 2, depth / 2, floor, min(run * 0.4, 0.1))
            x += run
    return Piece(tuple(parts), width, depth, height)


def clutter_at(rng: np.random.Generator, style: Style, x: float, y: float, z: float, radius: float) -> list[Primitive]:
    """One ball or jar of that radius."""
    material = pick(rng, style.accent, style.vivid, style.paint)._replace(gloss=0.3)
    return [ball(x, y, z, radius, material) if rng.random() < 0.5 else cylinder(x, y, z, radius, 2 * radius, material)]


def kitchen_run(rng: np.random.Generator, style: Style) -> Piece:
    """Base cabinets under a worktop, a tiled back, wall cabinets, and a fridge at one end."""
    width, depth, height = rng.uniform(1.5, 2.6), 0.6, 0.87
    front = pick(rng, style.paint, style.wood, style.accent._replace(pattern="plain"))
    top = pick(rng, style.wood, style.dark, style.paint)
    parts = [
        box(0.0, depth / 2, 0.1, width, depth, height - 0.1, front),
        box(0.0, depth / 2 - 0.03, 0.0, width, depth - 0.06, 0.1, style.dark),
    ]
    columns = max(2, round(width / 0.55))
    parts += _fronts(0.0, depth, 0.12, width, height - 0.14, (1, columns), vary(rng, front, 0.04), style.metal)
    parts += [box(0.0, depth / 2 + 0.015, height, width + 0.02, depth + 0.04, 0.04, top._replace(gloss=0.3))]
    back = style.paint._replace(pattern="tiles", scale=0.12, second=(0.5, 0.5, 0.5), gloss=0.3)
    parts += [box(0.0, 0.006, height + 0.04, width, 0.012, 0.5, vary(rng, back))]
    parts += [box(0.0, 0.175, height + 0.54, width, 0.35, 0.65, front)]
    parts += _fronts(0.0, 0.35, height + 0.55, width, 0.63, (1, columns), vary(rng, front, 0.04), style.metal)
    hob = width * rng.uniform(-0.3, 0.3)
    parts += [box(hob, 0.32, height + 0.04, 0.55, 0.48, 0.008, style.dark._replace(gloss=0.5))]
    for x, y in ((-0.13, 0.2), (0.13, 0.42)):
        if rng.random() < 0.6:
            parts += [cylinder(hob + x, y, height + 0.048, 0.1, rng.uniform(0.08, 0.16), style.metal)]
    parts += clutter(rng, style, height + 0.04, width * 0.9, depth * 0.7, int(rng.integers(1, 4)))
    side, wide, tall = (1 if rng.random() < 0.5 else -1), 0.62, rng.uniform(1.6, 1.9)
    fridge = pick(rng, style.paint, style.metal)._replace(gloss=0.3, pattern="plain")
    parts += [box(side * (width + wide) / 2, 0.32, 0.02, wide, 0.64, tall, fridge)]
    parts += _fronts(side * (width + wide) / 2, 0.64, 0.04, wide - 0.02, tall * 0.62, (1, 1), fridge, style.metal)
    parts += _fronts(
        side * (width + wide) / 2, 0.64, 0.05 + tall * 0.62, wide - 0.02, tall * 0.36, (1, 1), fridge, style.metal
    )
    centred = [part._replace(centre=(part.centre[0] - side * wide / 2, *part.centre[1:])) for part in parts]
    return Piece(tuple(centred), width + wide, 0.7, 2.1)


def floor_lamp(rng: np.random.Generator, style: Style) -> Piece:
    """A lamp on a pole, which shines."""
    height, radius = rng.uniform(1.35, 1.75), rng.uniform(0.16, 0.24)
    parts = [
        cylinder(0.0, radius, 0.0, radius * 0.8, 0.03, style.metal),
        cylinder(0.0, radius, 0.0, 0.015, height, style.metal),
    ]
    round_shade = rng.random() < 0.35
    parts += [
        ball(0.0, radius, height - 0.05, radius * 0.9, style.lamp)
        if round_shade
        else cylinder(0.0, radius, height - 0.1, radius, rng.uniform(0.22, 0.34), style.lamp)
    ]
    return Piece(tuple(parts), 2 * radius, 2 * radius, height + 0.4, (0.0, radius, height + 0.05))


def plant(rng: np.random.Generator, style: Style) -> Piece:
    """A pot with a stem and a crown of leaf balls."""
    radius, height = rng.uniform(0.13, 0.2), rng.uniform(0.25, 0.4)
    stem = rng.uniform(0.1, 0.6)
    parts = [cylinder(0.0, 0.3, 0.0, radius, height, pick(rng, style.accent, style.paint, style.dark))]
    parts += [cylinder(0.0, 0.3, height, 0.02, stem + 0.1, style.wood)]
    for _ in range(int(rng.integers(5, 10))):
        angle, out, size = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.14), rng.uniform(0.08, 0.15)
        x, y = out * math.cos(angle), 0.3 + out * math.sin(angle)
        parts += [ball(x, y, height + stem + rng.uniform(-0.05, 0.3), size, vary(rng, style.leaf, 0.2))]
    return Piece(tuple(parts), 0.6, 0.6, height + stem + 0.6)


def bin_(rng: np.random.Generator, style: Style) -> Piece:
    """A waste bin."""
    radius, height = rng.uniform(0.11, 0.19), rng.uniform(0.25, 0.6)
    body = pick(rng, style.metal, style.dark, style.accent, style.vivid)
    parts = [
        cylinder(0.0, radius, 0.0, radius, height, body),
        cylinder(0.0, radius, height, radius * 1.04, 0.025, style.dark),
    ]
    return Piece(tuple(parts), 2.2 * radius, 2.2 * radius, height + 0.03)


def toy_balls(rng: np.random.Generator, style: Style) -> Piece:
    """A few balls on the floor."""
    parts: list[Primitive] = []
    for number in range(int(rng.integers(1, 4))):
        radius = rng.uniform(0.08, 0.17)
        toy = pick(rng, style.vivid, style.accent)._replace(gloss=0.35)
        parts += [ball((number - 1) * 0.35, 0.2, 0.0, radius, toy)]
    return Piece(tuple(parts), 1.05, 0.4, 0.35)


def boxes(rng: np.random.Generator, style: Style) -> Piece:
    """A stack of cardboard boxes."""
    card = Material("noise", (0.72, 0.56, 0.38), (0.66, 0.5, 0.33), 1.0)
    parts: list[Primitive] = []
    z, size = 0.0, rng.uniform(0.4, 0.55)
    for _ in range(int(rng.integers(1, 4))):
        height = rng.uniform(0.22, 0.4)
        parts += [box(0.0, 0.3, z, size, size * 0.8, height, vary(rng, card), rng.normal(0.0, 0.12))]
        parts += [box(0.0, 0.3, z + height, size * 0.12, size * 0.75, 0.003, style.paint, rng.normal(0.0, 0.02))]
        z, size = z + height, size * rng.uniform(0.75, 0.95)
    return Piece(tuple(parts), 0.65, 0.62, z + 0.01)


def column(rng: np.random.Generator, style: Style) -> Piece:
    """A column from floor to ceiling."""
    radius = rng.uniform(0.13, 0.22)
    parts = [
        cylinder(0.0, radius + 0.04, 0.0, radius, 4.0, style.paint),
        cylinder(0.0, radius + 0.04, 0.0, radius + 0.03, 0.12, style.paint),
    ]
    return Piece(tuple(parts), 2 * radius + 0.08, 2 * radius + 0.08, 4.0)
