"""Colours and materials of one room, drawn so that they go together."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np

from spd.data.rooms.textures import Colour, Material, Pattern


class Style(NamedTuple):
    """The materials that everything in one room shares."""

    wall: Material
    feature_wall: Material
    floor: Material
    ceiling: Material
    trim: Material
    wood: Material
    paint: Material
    metal: Material
    dark: Material
    fabric: Material
    accent: Material
    books: Material
    leaf: Material
    lamp: Material
    vivid: Material
    rug: Material


_WOODS: tuple[tuple[Colour, Colour], ...] = (
    ((0.76, 0.60, 0.42), (0.66, 0.48, 0.31)),
    ((0.58, 0.40, 0.25), (0.47, 0.30, 0.18)),
    ((0.40, 0.26, 0.17), (0.30, 0.18, 0.11)),
    ((0.84, 0.74, 0.58), (0.77, 0.64, 0.47)),
    ((0.62, 0.55, 0.48), (0.52, 0.45, 0.39)),
)


def draw_style(rng: np.random.Generator) -> Style:
    """One palette: quiet walls, one wood, and two or three accents around one hue."""
    hue = rng.random()
    other = hue + float(rng.choice((0.08, -0.08, 0.5, 0.33)))
    wood = Material("wood", *_WOODS[int(rng.integers(len(_WOODS)))], gloss=0.12)
    wall_hue = float(rng.choice((0.11, 0.09, hue, 0.58)))
    wall = _wall(rng, wall_hue, rng.uniform(0.02, 0.16), rng.uniform(0.74, 0.92))
    feature = _wall(rng, hue, rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.8)) if rng.random() < 0.35 else wall
    grey = rng.uniform(0.82, 0.95)
    metal = rng.uniform(0.3, 0.75)
    return Style(
        wall=wall,
        feature_wall=feature,
        floor=_floor(rng, hue),
        ceiling=_plain((0.93, 0.93, 0.92)) if rng.random() < 0.85 else _plain((0.9, 0.86, 0.8)),
        trim=_plain((0.9, 0.9, 0.88)) if rng.random() < 0.7 else wood,
        wood=wood,
        paint=_plain((grey, grey, grey * rng.uniform(0.93, 1.0)), gloss=0.08),
        metal=_plain((metal, metal, metal), gloss=0.6),
        dark=_plain((0.13, 0.13, 0.14), gloss=0.15),
        fabric=_cloth(rng, hue, rng.uniform(0.08, 0.5), rng.uniform(0.3, 0.8)),
        accent=_cloth(rng, other, rng.uniform(0.3, 0.65), rng.uniform(0.4, 0.8)),
        books=Material("books", hsv(hue, 0.6, 0.4), hsv(other, 0.25, 0.85), scale=0.035),
        leaf=Material("noise", hsv(0.3, 0.6, rng.uniform(0.25, 0.45)), hsv(0.25, 0.55, 0.55), scale=0.7),
        lamp=Material("plain", (1.0, 0.93, 0.78), (1.0, 0.9, 0.7), glow=1.0),
        vivid=_plain(hsv(other + rng.uniform(-0.1, 0.1), rng.uniform(0.6, 0.85), rng.uniform(0.6, 0.9))),
        rug=_rug(rng, hue, other),
    )


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """sRGB of a hue that wraps at 1."""
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def vary(rng: np.random.Generator, material: Material, spread: float = 0.08) -> Material:
    """The same material, a little lighter or darker and with its pattern shifted."""
    factor = 1 + rng.uniform(-spread, spread)
    return material._replace(
        base=_scaled(material.base, factor), second=_scaled(material.second, factor), seed=int(rng.integers(4096))
    )


def _scaled(colour: Colour, factor: float) -> Colour:
    return (min(colour[0] * factor, 1.0), min(colour[1] * factor, 1.0), min(colour[2] * factor, 1.0))


def pick(rng: np.random.Generator, *materials: Material) -> Material:
    """One of the materials, varied."""
    return vary(rng, materials[int(rng.integers(len(materials)))])


def _plain(colour: Colour, gloss: float = 0.0) -> Material:
    return Material("plain", colour, (colour[0] * 0.96, colour[1] * 0.96, colour[2] * 0.96), gloss=gloss)


def _cloth(rng: np.random.Generator, hue: float, saturation: float, value: float) -> Material:
    """Fabric, now and then striped or checked."""
    base = hsv(hue, saturation, value)
    pattern: Pattern = "noise"
    scale, second = 1.0, hsv(hue, saturation * 0.9, value * 0.85)
    if rng.random() < 0.25:
        pattern = "stripes" if rng.random() < 0.6 else "checker"
        scale, second = rng.uniform(0.06, 0.2), hsv(hue, saturation * 0.3, min(value + 0.25, 0.95))
    return Material(pattern, base, second, scale)


def _wall(rng: np.random.Generator, hue: float, saturation: float, value: float) -> Material:
    base = hsv(hue, saturation, value)
    what = rng.random()
    if what < 0.6:
        return Material("plain", base, hsv(hue, saturation, value * 0.97), seed=int(rng.integers(4096)))
    if what < 0.75:
        return Material("stripes", base, hsv(hue, saturation * 1.2, value * 0.92), rng.uniform(0.1, 0.5))
    if what < 0.88:
        return Material("noise", base, hsv(hue, saturation, value * 0.93), rng.uniform(1.0, 3.0))
    return Material("tiles", base, hsv(hue, saturation * 0.5, value * 0.75), rng.uniform(0.12, 0.4), gloss=0.15)


def _floor(rng: np.random.Generator, hue: float) -> Material:
    what, seed = rng.random(), int(rng.integers(4096))
    if what < 0.45:
        return Material("planks", *_WOODS[int(rng.integers(len(_WOODS)))], rng.uniform(0.09, 0.2), 0.2, seed=seed)
    if what < 0.65:
        value = rng.uniform(0.45, 0.85)
        return Material(
            "tiles", hsv(0.09, 0.1, value), hsv(0.09, 0.1, value * 0.7), rng.uniform(0.3, 0.6), 0.3, seed=seed
        )
    if what < 0.73:
        value = rng.uniform(0.7, 0.9)
        return Material(
            "checker", hsv(0.1, 0.06, value), hsv(hue, 0.2, value * 0.5), rng.uniform(0.5, 0.8), 0.3, seed=seed
        )
    carpet = rng.uniform(0.35, 0.7)
    tint = float(rng.choice((0.09, hue)))
    return Material("noise", hsv(tint, 0.2, carpet), hsv(tint, 0.25, carpet * 0.85), rng.uniform(0.5, 1.0), seed=seed)


def _rug(rng: np.random.Generator, hue: float, other: float) -> Material:
    base, second = hsv(other, rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.75)), hsv(hue, 0.15, rng.uniform(0.6, 0.9))
    patterns: tuple[Pattern, ...] = ("stripes", "checker", "noise", "painting")
    return Material(patterns[int(rng.integers(4))], base, second, rng.uniform(0.2, 0.6), seed=int(rng.integers(4096)))
