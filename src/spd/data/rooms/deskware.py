"""Small things of desks and shelves, in true sizes: books, screens, keyboards, papers, pens, phones, lamps.

Builders in the frame of ``furniture``: X along the width from the middle, Y from the back (0) to the front, Z up from
what the thing stands on; metres.
"""

from __future__ import annotations

import math

import numpy as np

from spd.data.rooms.furniture import Piece, ball, box, cylinder
from spd.data.rooms.geometry import Primitive
from spd.data.rooms.style import Style, hsv, pick, vary
from spd.data.rooms.tableware import cone, glaze, leaning, printed, text
from spd.data.rooms.textures import Material

_PAGES = Material("stripes", (0.93, 0.91, 0.84), (0.82, 0.79, 0.7), 0.002)


def cover(rng: np.random.Generator, height: float) -> Material:
    """Cloth or print around a book that is that tall."""
    colour = hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.9))
    ink = hsv(0.12, rng.uniform(0.0, 0.5), 0.9) if sum(colour) < 1.8 else (0.1, 0.1, 0.12)
    return Material("spine", colour, ink, height, 0.1, seed=int(rng.integers(4096)))


def books(rng: np.random.Generator, style: Style) -> Piece:
    """Books that lie on each other, with their pages."""
    parts: list[Primitive] = []
    z, wide, deep = 0.0, 0.0, 0.0
    for _ in range(int(rng.choice((1, 1, 2, 3, 5)))):
        width, depth, thick = rng.uniform(0.16, 0.27), rng.uniform(0.12, 0.2), rng.uniform(0.012, 0.045)
        yaw, bound = (
            rng.normal(0, 0.12),
            printed(rng, rng.uniform(0.3, 0.7)) if rng.random() < 0.6 else cover(rng, width),
        )
        board = 0.0025
        parts += [box(0.0, 0.12, z, width, depth, board, bound, yaw)]
        parts += [box(0.0, 0.12, z + board, width - 0.006, depth - 0.006, thick - 2 * board, _PAGES, yaw)]
        parts += [box(0.0, 0.12, z + thick - board, width, depth, board, bound, yaw)]
        spine = -(depth - board) / 2
        back = box(-spine * -math.sin(yaw), 0.12 + spine * math.cos(yaw), z, width, board, thick, bound, yaw)
        parts += [back]
        z += thick
        wide, deep = max(wide, width + 0.03), max(deep, depth)
    return Piece(tuple(parts), wide, 0.24, z)


def row_of_books(
    rng: np.random.Generator, start: float, end: float, y: float, z: float, height: float, depth: float
) -> list[Primitive]:
    """Books that stand side by side from ``start`` to ``end``, their backs near the front y; the last one may lean."""
    parts: list[Primitive] = []
    x, series = start, cover(rng, height)
    while True:
        thick = rng.uniform(0.01, 0.05)
        tall = min(height * 0.96, float(rng.choice((0.18, 0.21, 0.24, 0.28))) + rng.uniform(-0.008, 0.008))
        deep = min(depth * 0.95, tall * rng.uniform(0.65, 0.8))
        if x + thick > end:
            break
        look = vary(rng, series, 0.02)._replace(scale=tall) if rng.random() < 0.25 else cover(rng, tall)
        set_back = y - rng.uniform(0.0, min(0.03, depth - deep))
        if x + thick + tall * 0.35 > end and end - x > thick + 0.04 and rng.random() < 0.6:
            tilt = rng.uniform(0.08, min(0.3, (end - x - thick) / tall))
            # It leans to the row, to -X: its own back looks there.
            foot = (x + tall * math.sin(tilt) + thick / 2 * math.cos(tilt), set_back - deep / 2, z + 0.0005)
            half = (deep / 2, thick / 2, tall / 2)
            lean = leaning("box", foot, half, -math.pi / 2, tilt, look)
            parts += [
                lean._replace(centre=(lean.centre[0], lean.centre[1], lean.centre[2] + thick / 2 * math.sin(tilt)))
            ]
            break
        parts += [box(x + thick / 2, set_back - deep / 2, z, thick - 0.0008, deep, tall, look)]
        x += thick
        if rng.random() < 0.06:
            series = cover(rng, height)
    return parts


def papers(rng: np.random.Generator, style: Style) -> Piece:
    """Printed sheets of A4, one or a loose pile, or a notebook."""
    parts: list[Primitive] = []
    z = 0.0
    for _ in range(int(rng.integers(1, 4))):
        yaw, thick, page = rng.normal(0, 0.1), rng.choice((0.0008, 0.002, 0.008)), text(rng, rng.uniform(0.005, 0.009))
        white = page._replace(pattern="plain")
        parts += [box(0.0, 0.12, z, 0.297, 0.21, float(thick), white, yaw)]
        parts += [box(0.0, 0.12, z, 0.25, 0.17, float(thick) + 0.0004, page, yaw)]
        if rng.random() < 0.3:
            parts += [box(-0.06, 0.12, z, 0.1, 0.15, float(thick) + 0.0007, printed(rng, 0.4), yaw)]
        z += float(thick) + 0.0008
    return Piece(tuple(parts), 0.31, 0.24, z)


def keyboard(rng: np.random.Generator, style: Style) -> Piece:
    """A keyboard with keys 19 mm apart."""
    width, grey = float(rng.choice((0.29, 0.36, 0.44))), float(rng.choice((0.08, 0.15, 0.8)))
    case = Material("plain", (grey, grey, grey), (grey, grey, grey), gloss=0.2)
    tone = grey * 0.7 + (0.12 if grey < 0.5 else 0.25)
    gaps = (grey * 0.5, grey * 0.5, grey * 0.5)
    keys = Material("keys", gaps, (tone, tone, tone), 0.019, 0.15, seed=int(rng.integers(99)))
    parts = [box(0.0, 0.066, 0.0, width, 0.132, 0.016, case)]
    parts += [box(0.0, 0.066, 0.016, width - 0.014, 0.115, 0.006, keys)]
    return Piece(tuple(parts), width, 0.132, 0.022)


def mouse(rng: np.random.Generator, style: Style) -> Piece:
    """A computer mouse, with its mat or without."""
    body = glaze(rng, 0.3) if rng.random() < 0.4 else style.dark._replace(gloss=0.3)
    y, z, parts = 0.055, 0.0, []
    if rng.random() < 0.5:
        y, z = 0.1, 0.003
        parts += [box(0.0, y, 0.0, 0.23, 0.19, 0.003, pick(rng, style.dark, style.accent, printed(rng, 1.0)))]
    parts += [Primitive("sphere", (0.0, y, z + 0.018), (0.032, 0.056, 0.018), 0.0, body)]
    parts += [box(0.0, y - 0.03, z + 0.022, 0.005, 0.02, 0.012, style.metal)]
    return Piece(tuple(parts), 0.07 if y < 0.1 else 0.23, 2 * y, 0.035)


def _screen(rng: np.random.Generator, style: Style) -> Material:
    if rng.random() < 0.3:
        return style.dark._replace(gloss=0.6, base=(0.05, 0.05, 0.06))
    if rng.random() < 0.3:
        return printed(rng, rng.uniform(1.0, 2.0))._replace(glow=rng.uniform(0.5, 1.0))
    paper, ink = ((0.95, 0.96, 0.98), (0.2, 0.25, 0.35)) if rng.random() < 0.6 else ((0.1, 0.1, 0.14), (0.6, 0.8, 0.7))
    glow = rng.uniform(0.4, 0.9)
    return Material("screen", paper, ink, rng.uniform(0.008, 0.014), 0.1, glow, seed=int(rng.integers(4096)))


def monitor(rng: np.random.Generator, style: Style) -> Piece:
    """A computer screen on its foot."""
    width, y = rng.uniform(0.46, 0.66), 0.12
    height, raised, dark = width * 0.58, rng.uniform(0.08, 0.15), pick(rng, style.dark, style.dark, style.metal)
    parts = [box(0.0, y, 0.0, 0.24, 0.18, 0.012, dark), box(0.0, y - 0.03, 0.01, 0.05, 0.03, raised + 0.1, dark)]
    tilt = rng.uniform(0.0, 0.15)
    panel = leaning("box", (0.0, y + 0.02, raised), (width / 2, 0.014, height / 2), 0.0, tilt, dark)
    # The picture sticks out of the panel by a millimetre.
    face = panel._replace(half=(width / 2 - 0.012, 0.015, height / 2 - 0.012), material=_screen(rng, style))
    return Piece((*parts, panel, face), width, 0.24, raised + height)


def laptop(rng: np.random.Generator, style: Style) -> Piece:
    """An open laptop."""
    width, depth, grey = rng.uniform(0.29, 0.37), rng.uniform(0.2, 0.25), float(rng.choice((0.15, 0.6, 0.75)))
    case = Material("plain", (grey, grey, grey), (grey, grey, grey), gloss=0.35)
    gaps = (grey * 0.8, grey * 0.8, grey * 0.8)
    keys = Material("keys", gaps, (0.1, 0.1, 0.11), 0.019, seed=int(rng.integers(99)))
    back, tilt = 0.12, rng.uniform(0.15, 0.55)
    y = back + depth / 2
    parts = [box(0.0, y, 0.0, width, depth, 0.016, case)]
    parts += [box(0.0, y - depth * 0.14, 0.0, width * 0.88, depth * 0.5, 0.0165, keys)]
    parts += [box(0.0, y + depth * 0.33, 0.0, 0.1, depth * 0.24, 0.0163, vary(rng, case, 0.1))]
    lid = leaning("box", (0.0, back, 0.012), (width / 2, 0.003, depth / 2), 0.0, tilt, case)
    face = lid._replace(half=(width / 2 - 0.008, 0.0036, depth / 2 - 0.01), material=_screen(rng, style))
    return Piece((*parts, lid, face), width, back + depth, depth)


def pen(rng: np.random.Generator, style: Style) -> Piece:
    """A pen or pencil that lies."""
    length, radius, body = rng.uniform(0.12, 0.18), rng.uniform(0.0035, 0.006), glaze(rng, 0.15)
    shaft = Primitive("cylinder", (0.0, length / 2, radius), (radius, radius, length / 2), 0.0, body, tilt=math.pi / 2)
    tip = Primitive(
        "cone", (0.0, -0.009, radius), (radius, radius, 0.009), 0.0, style.dark, tilt=math.pi / 2, taper=0.15
    )
    return Piece((shaft, tip), 0.03, length, 2 * radius)


def pen_cup(rng: np.random.Generator, style: Style) -> Piece:
    """A cup of pens that lean on its rim."""
    radius, height = rng.uniform(0.034, 0.045), rng.uniform(0.09, 0.11)
    parts = [cylinder(0.0, radius, 0.0, radius, height, glaze(rng, 0.2))._replace(wall=0.003)]
    for _ in range(int(rng.integers(3, 8))):
        yaw, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.13, 0.18)
        tilt = math.atan2(radius * 1.3, height) * rng.uniform(0.5, 0.9)
        foot = (-math.sin(yaw) * radius * 0.45, radius + math.cos(yaw) * radius * 0.45, 0.006)
        parts += [leaning("cylinder", foot, (0.004, 0.004, length / 2), yaw, tilt, glaze(rng, 0.1))]
    return Piece(tuple(parts), 2 * radius, 2 * radius, 0.19)


def phone(rng: np.random.Generator, style: Style) -> Piece:
    """A phone or a remote control that lies."""
    if rng.random() < 0.35:
        pad = Material("keys", (0.1, 0.1, 0.1), hsv(rng.random(), 0.2, 0.5), 0.013, seed=int(rng.integers(99)))
        parts = [box(0.0, 0.09, 0.0, 0.05, 0.18, 0.018, style.dark), box(0.0, 0.1, 0.0, 0.042, 0.12, 0.02, pad)]
        return Piece(tuple(parts), 0.05, 0.18, 0.02)
    parts = [box(0.0, 0.077, 0.0, 0.074, 0.154, 0.008, glaze(rng, 0.2))]
    parts += [box(0.0, 0.077, 0.0, 0.068, 0.146, 0.0086, _screen(rng, style)._replace(gloss=0.9))]
    return Piece(tuple(parts), 0.074, 0.154, 0.009)


def desk_lamp(rng: np.random.Generator, style: Style) -> Piece:
    """A lamp with an arm and a shade, which shines."""
    height, body = rng.uniform(0.26, 0.4), pick(rng, style.metal, style.dark, glaze(rng, 0.2))
    parts = [cone(0.0, 0.08, 0.0, 0.075, 0.025, body, 0.7), cylinder(0.0, 0.08, 0.02, 0.008, height, body)]
    if rng.random() < 0.5:
        parts += [cone(0.0, 0.08, height, 0.1, 0.15, style.lamp, 0.6)]
        return Piece(tuple(parts), 0.2, 0.2, height + 0.16, (0.0, 0.08, height + 0.07))
    parts += [leaning("cylinder", (0.0, 0.08, height), (0.007, 0.007, 0.09), math.pi, 1.1, body)]
    shade = Primitive("cone", (0.0, 0.24, height + 0.06), (0.07, 0.07, 0.05), 0.0, body, tilt=-0.3, taper=0.4)
    parts += [shade, ball(0.0, 0.25, height - 0.015, 0.025, style.lamp)]
    return Piece(tuple(parts), 0.16, 0.32, height + 0.12, (0.0, 0.27, height - 0.04))


def pot_plant(rng: np.random.Generator, style: Style) -> Piece:
    """A plant in a pot: leaves like tongues, or a crown of small balls."""
    radius, height = rng.uniform(0.045, 0.08), rng.uniform(0.07, 0.12)
    earth = Material("speckle", (0.25, 0.17, 0.1), (0.4, 0.3, 0.2), 0.01)
    clay = Material("noise", (0.72, 0.4, 0.27), (0.62, 0.34, 0.22), 0.5)
    y = max(radius, 0.09)
    parts = [cone(0.0, y, 0.0, radius, height, pick(rng, clay, glaze(rng)), 1.35, 0.004)]
    parts += [cylinder(0.0, y, 0.004, radius / 1.35, height * 0.8, earth)]
    leaf, long = vary(rng, style.leaf, 0.2), rng.uniform(0.1, 0.2)
    for number in range(int(rng.integers(6, 12))):
        angle = number * 2.4 + rng.uniform(-0.3, 0.3)
        half = (0.016, 0.004, long / 2 * rng.uniform(0.7, 1.0))
        tilt = rng.uniform(0.1, 0.75)
        parts += [leaning("sphere", (0.0, y, height * 0.75), half, angle, tilt, vary(rng, leaf, 0.2))]
    return Piece(tuple(parts), 0.2, 0.2, height + long)


def speaker(rng: np.random.Generator, style: Style) -> Piece:
    """A loudspeaker with two cones, or a clock of the same build."""
    width, depth, height = rng.uniform(0.1, 0.18), rng.uniform(0.1, 0.18), rng.uniform(0.16, 0.28)
    parts = [box(0.0, depth / 2, 0.0, width, depth, height, pick(rng, style.wood, style.dark, style.paint))]
    for z, part in ((0.35, 0.4), (0.75, 0.24)):
        radius = width * part
        ring = Primitive(
            "cylinder",
            (0.0, depth, height * z),
            (radius, radius, 0.006),
            0.0,
            style.metal,
            tilt=-math.pi / 2,
            wall=0.004,
        )
        parts += [ring]
    return Piece(tuple(parts), width, depth + 0.008, height)
