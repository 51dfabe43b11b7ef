"""Small things of kitchens and tables, in true sizes: cups, bowls, bottles, boxes, fruit, toys.

Builders in the frame of ``furniture``: X along the width from the middle, Y from the back (0) to the front, Z up from
what the thing stands on; metres.
"""

from __future__ import annotations

import math

import numpy as np

from spd.data.rooms.furniture import Piece, ball, box, cylinder
from spd.data.rooms.geometry import Primitive
from spd.data.rooms.style import Style, hsv, pick, vary
from spd.data.rooms.textures import Colour, Material


def glaze(rng: np.random.Generator, white: float = 0.45) -> Material:
    """Glossy ceramic or plastic: white with that probability, else of any colour."""
    if rng.random() < white:
        colour = hsv(rng.choice((0.1, 0.6)), rng.uniform(0.0, 0.1), rng.uniform(0.8, 0.97))
    else:
        colour = hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.9))
    return Material("plain", colour, colour, gloss=rng.uniform(0.2, 0.7))


def printed(rng: np.random.Generator, scale: float = 0.35) -> Material:
    """The printed front of a packet, a book or a label."""
    first, second = hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.4, 0.95)), hsv(rng.random(), 0.4, 0.9)
    return Material("painting", first, second, scale, 0.15, seed=int(rng.integers(4096)))


def text(rng: np.random.Generator, line: float = 0.006, paper: Colour = (0.95, 0.94, 0.9)) -> Material:
    """Print on paper, lines that many metres apart."""
    return Material("print", paper, (0.12, 0.12, 0.15), line, seed=int(rng.integers(4096)))


def cone(
    x: float, y: float, z: float, radius: float, height: float, material: Material, taper: float, wall: float = 0.0
) -> Primitive:
    """An upright frustum on (x, y, z), ``radius`` at its wider end; open at its top if it has a wall."""
    return Primitive(
        "cone", (x, y, z + height / 2), (radius, radius, height / 2), 0.0, material, taper=taper, wall=wall
    )


def leaning(
    kind: str, foot: tuple[float, float, float], half: tuple[float, float, float], yaw: float, tilt: float, of: Material
) -> Primitive:
    """A primitive that leans to (sin yaw, -cos yaw) with the middle of its base at ``foot``."""
    x, y, z = foot
    along = half[2] * math.sin(tilt)
    centre = (x + along * math.sin(yaw), y - along * math.cos(yaw), z + half[2] * math.cos(tilt))
    return Primitive(kind, centre, half, yaw, of, tilt=tilt)  # pyright: ignore[reportArgumentType]


def _inside(radius: float, taper: float, level: float, wall: float) -> float:
    """Radius within the wall of a cone at a part of its height."""
    base, top = (radius / taper, radius) if taper > 1 else (radius, radius * taper)
    return base + (top - base) * level - wall


def cup(rng: np.random.Generator, style: Style) -> Piece:
    """A cup or mug with its handle, empty or with something in it."""
    radius, height, wall = rng.uniform(0.034, 0.047), rng.uniform(0.065, 0.11), 0.004
    taper, y, glazed = rng.uniform(0.95, 1.5), radius + 0.002, glaze(rng)
    parts = [cone(0.0, y, 0.0, radius, height, glazed, taper, wall)]
    if rng.random() < 0.75:
        colour = (0.2, 0.1, 0.05) if rng.random() < 0.7 else (0.75, 0.6, 0.42)
        level = rng.uniform(0.55, 0.85)
        drink = Material("plain", colour, colour, gloss=0.6)
        parts += [cylinder(0.0, y, height * (level - 0.05), _inside(radius, taper, level - 0.05, wall), 0.004, drink)]
    reach = 0.0
    if rng.random() < 0.8:
        reach, thick, base = 0.026, 0.009, radius * 0.93
        parts += [box(base + 0.008, y, height * z, 0.03, 0.012, thick, glazed) for z in (0.2, 0.75)]
        parts += [box(base + 0.023, y, height * 0.2, thick, 0.012, height * 0.55 + thick, glazed)]
    return Piece(tuple(parts), 2 * (radius + reach), 2 * radius + 0.004, height)


def glass(rng: np.random.Generator, style: Style) -> Piece:
    """A tumbler of coloured glass."""
    radius, height = rng.uniform(0.03, 0.042), rng.uniform(0.09, 0.15)
    colour = hsv(rng.choice((0.5, 0.55, 0.35, 0.1)), rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.85))
    body = Material("plain", colour, colour, gloss=1.0)
    return Piece(
        (cone(0.0, radius, 0.0, radius, height, body, rng.uniform(1.0, 1.3), 0.003),), 2 * radius, 2 * radius, height
    )


def bowl(rng: np.random.Generator, style: Style) -> Piece:
    """A bowl, with fruit or soup in it or empty."""
    radius = rng.uniform(0.06, 0.14)
    height, y, foot, glazed = radius * rng.uniform(0.45, 0.75), radius, 0.008, glaze(rng)
    if rng.random() < 0.15:
        glazed = vary(rng, style.wood)
    shell = Primitive("bowl", (0.0, y, foot + height / 2), (radius, radius, height / 2), 0.0, glazed, wall=0.005)
    parts = [cylinder(0.0, y, 0.0, radius * 0.45, foot + 0.004, glazed), shell]
    top, what = height + foot, rng.random()
    if what < 0.4:
        fruit = hsv(rng.choice((0.0, 0.07, 0.13, 0.28)), 0.8, rng.uniform(0.55, 0.9))
        size = min(rng.uniform(0.03, 0.042), radius * 0.42)
        for number in range(5 if radius > 0.09 else 3):
            angle, out = number * 1.26 * (1 if radius > 0.09 else 1.67), radius - size * 1.45
            colour = Material("noise", fruit, hsv(0.1, 0.7, 0.7), 0.5, 0.35, seed=number)
            parts += [ball(out * math.cos(angle), y + out * math.sin(angle), height * 0.55, size, colour)]
        top = max(top, height * 0.55 + 2 * size)
    elif what < 0.65:
        food = hsv(rng.choice((0.05, 0.1, 0.15, 0.3)), rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.9))
        level = rng.uniform(0.5, 0.8)
        width = radius * math.sqrt(1 - (1 - level) ** 2) - 0.004
        soup = Material("speckle", food, hsv(0.1, 0.5, 0.5), 0.01, 0.3)
        parts += [cylinder(0.0, y, foot + height * level - 0.004, width, 0.004, soup)]
    return Piece(tuple(parts), 2 * radius, 2 * radius, top)


def plate(rng: np.random.Generator, style: Style) -> Piece:
    """A plate, alone or in a stack, with fork and knife or something to eat."""
    radius, glazed = rng.uniform(0.08, 0.135), glaze(rng, 0.7)
    y, count = radius, int(rng.choice((1, 1, 1, 2, 4)))
    parts = [cone(0.0, y, 0.006 * n, radius, 0.018, glazed, 1.45, 0.004) for n in range(count)]
    z, width = 0.006 * (count - 1) + 0.004, 2 * radius
    if rng.random() < 0.4:
        bread = Material("noise", hsv(0.08, 0.55, 0.65), hsv(0.09, 0.4, 0.85), 0.6)
        slices = [(rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25), rng.uniform(0, 3)) for _ in range(2)]
        parts += [
            box(dx * radius, y + dy * radius, z + 0.012 * n, radius * 0.75, radius * 0.6, 0.012, bread, turn)
            for n, (dx, dy, turn) in enumerate(slices)
        ]
    if rng.random() < 0.5:
        for side in (-1, 1):
            x = side * (radius + 0.02)
            parts += [box(x, y, 0.0, 0.008, 0.13, 0.003, style.metal)]
            parts += [Primitive("sphere", (x, y - 0.075, 0.004), (0.011, 0.028, 0.0035), 0.0, style.metal)]
        width += 0.07
    return Piece(tuple(parts), width, 2 * radius, z + 0.03)


def bottle(rng: np.random.Generator, style: Style) -> Piece:
    """A bottle with shoulder, neck, cap and label; now and then it lies on its side."""
    radius, tall = rng.uniform(0.028, 0.045), rng.uniform(0.11, 0.2)
    shoulder, neck = rng.uniform(0.02, 0.06), rng.uniform(0.03, 0.08)
    colour = hsv(rng.choice((0.33, 0.08, 0.55, 0.0, rng.random())), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.85))
    glassy, label = Material("plain", colour, colour, gloss=0.8), printed(rng, 0.25)
    thin, y = radius * 0.36, radius
    parts = [
        cylinder(0.0, y, 0.0, radius, tall, glassy),
        cone(0.0, y, tall, radius, shoulder, glassy, thin / radius),
        cylinder(0.0, y, tall + shoulder, thin, neck, glassy),
        cylinder(0.0, y, tall + shoulder + neck - 0.018, thin + 0.002, 0.02, glaze(rng, 0.3)),
        cylinder(0.0, y, tall * 0.25, radius + 0.0008, tall * 0.55, label),
    ]
    height = tall + shoulder + neck + 0.002
    if rng.random() < 0.12:
        laid = [
            part._replace(centre=(part.centre[0], height - part.centre[2], radius + 0.001), tilt=math.pi / 2)
            for part in parts
        ]
        return Piece(tuple(laid), 2 * radius, height, 2 * radius)
    return Piece(tuple(parts), 2 * radius, 2 * radius, height)


def can(rng: np.random.Generator, style: Style) -> Piece:
    """A drink can or a tin."""
    radius, height = (0.033, 0.115) if rng.random() < 0.5 else (rng.uniform(0.035, 0.05), rng.uniform(0.05, 0.12))
    label = printed(rng, 0.25)._replace(gloss=0.6)
    parts = [
        cylinder(0.0, radius, 0.0, radius * 0.93, height, style.metal),
        cylinder(0.0, radius, 0.004, radius, height - 0.01, label),
        cone(0.0, radius, height - 0.006, radius, 0.005, style.metal, 0.92),
    ]
    return Piece(tuple(parts), 2 * radius, 2 * radius, height)


def carton(rng: np.random.Generator, style: Style) -> Piece:
    """A printed packet: cereal, tea, medicine, a gadget's box."""
    width, depth, height = rng.uniform(0.05, 0.22), rng.uniform(0.03, 0.1), rng.uniform(0.05, 0.28)
    parts = [box(0.0, depth / 2, 0.0, width, depth, height, printed(rng, rng.uniform(0.2, 0.6)))]
    if min(width, height) > 0.07:
        page = text(rng, rng.uniform(0.005, 0.012), hsv(rng.random(), 0.15, 0.95))
        parts += [box(0.0, depth / 2, height * 0.15, width * 0.7, depth + 0.0012, height * 0.3, page)]
    return Piece(tuple(parts), width, depth + 0.001, height)


def cardboard(rng: np.random.Generator, style: Style) -> Piece:
    """A cardboard box, taped shut with an address on it, or open with things inside."""
    width, depth, height = rng.uniform(0.14, 0.36), rng.uniform(0.12, 0.28), rng.uniform(0.07, 0.24)
    card = vary(rng, Material("noise", (0.72, 0.56, 0.38), (0.66, 0.5, 0.33), 0.5))
    if rng.random() < 0.45:
        parts = [box(0.0, depth / 2, 0.0, width, depth, height, card)._replace(wall=0.005)]
        for x, y in ((-0.25, 0.3), (0.2, 0.35), (-0.1, 0.7), (0.28, 0.72)):
            radius = min(width, depth) * rng.uniform(0.12, 0.17)
            parts += [ball(x * width, y * depth, 0.006, radius, glaze(rng, 0.1))]
        return Piece(tuple(parts), width, depth, height)
    tape = Material("plain", (0.8, 0.7, 0.5), (0.8, 0.7, 0.5), gloss=0.5)
    parts = [box(0.0, depth / 2, 0.0, width, depth, height, card)]
    parts += [box(0.0, depth / 2, 0.01, width + 0.001, 0.05, height - 0.0095, tape)]
    parts += [box(width * 0.2, depth * 0.24, height, width * 0.4, depth * 0.34, 0.0008, text(rng, 0.009))]
    return Piece(tuple(parts), width, depth, height)


def balls(rng: np.random.Generator, style: Style) -> Piece:
    """A ball: tennis, toy or football."""
    radius = float(rng.choice((0.02, 0.033, 0.05, 0.075, 0.11)))
    patterns = (glaze(rng, 0.2), Material("stripes", hsv(rng.random(), 0.8, 0.8), (0.95, 0.95, 0.9), radius, 0.3))
    return Piece((ball(0.0, radius, 0.0, radius, pick(rng, *patterns)),), 2 * radius, 2 * radius, 2 * radius)


def pot(rng: np.random.Generator, style: Style) -> Piece:
    """A cooking pot with two handles, open or with its lid."""
    radius, height = rng.uniform(0.08, 0.13), rng.uniform(0.08, 0.15)
    metal = pick(rng, style.metal, style.metal, style.dark, glaze(rng, 0.1))._replace(gloss=0.7)
    y = radius
    parts = [cylinder(0.0, y, 0.0, radius, height, metal)._replace(wall=0.004)]
    parts += [box(side * (radius + 0.018), y, height * 0.75, 0.04, 0.06, 0.012, style.dark) for side in (-1, 1)]
    top = height
    if rng.random() < 0.5:
        parts += [
            cone(0.0, y, height, radius + 0.002, 0.02, metal, 0.4),
            ball(0.0, y, height + 0.018, 0.016, style.dark),
        ]
        top += 0.05
    else:
        stew = Material("speckle", hsv(0.06, 0.6, 0.5), hsv(0.12, 0.7, 0.8), 0.02, 0.4)
        parts += [cylinder(0.0, y, 0.004, radius - 0.004, height * 0.6, stew)]
    return Piece(tuple(parts), 2 * radius + 0.08, 2 * radius, top)


def blocks(rng: np.random.Generator, style: Style) -> Piece:
    """Toy bricks in a small tower and around it."""
    size = rng.uniform(0.03, 0.05)
    parts: list[Primitive] = []
    for number in range(int(rng.integers(3, 8))):
        column, level = (number % 3, number // 3)
        x = (column - 1) * size * 1.25 + rng.uniform(-0.1, 0.1) * size
        brick = glaze(rng, 0.05)
        if number > 4 and rng.random() < 0.5:
            parts += [cone(x, size, level * size, size * 0.5, size, brick, 0.08)]
        else:
            parts += [box(x, size, level * size, size, size, size, brick, rng.uniform(-0.15, 0.15))]
    return Piece(tuple(parts), 4 * size, 2 * size, 3 * size)


def teddy(rng: np.random.Generator, style: Style) -> Piece:
    """A soft toy that sits."""
    size = rng.uniform(0.07, 0.13)
    fur = Material("noise", hsv(0.08, rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.85)), hsv(0.08, 0.5, 0.4), 0.3)
    eye = style.dark._replace(gloss=0.8)
    y = size
    parts = [Primitive("sphere", (0.0, y, size * 0.95), (size * 0.8, size * 0.7, size * 0.95), 0.0, fur)]
    parts += [ball(0.0, y, size * 1.6, size * 0.62, fur)]
    for side in (-1, 1):
        parts += [ball(side * size * 0.45, y, size * 2.55, size * 0.22, vary(rng, fur))]
        parts += [ball(side * size * 0.2, y + size * 0.55, size * 2.3, size * 0.07, eye)]
        parts += [
            Primitive("sphere", (side * size * 0.85, y, size * 1.1), (0.26 * size, 0.26 * size, 0.5 * size), 0.0, fur)
        ]
        parts += [
            Primitive(
                "sphere",
                (side * size * 0.5, y + size * 0.6, size * 0.28),
                (0.28 * size, 0.6 * size, 0.28 * size),
                0.0,
                fur,
            )
        ]
    parts += [ball(0.0, y + size * 0.55, size * 2.0, size * 0.2, vary(rng, fur, 0.2))]
    return Piece(tuple(parts), 2.2 * size, 2.2 * size, 3 * size)
