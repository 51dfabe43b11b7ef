"""Procedural textures of the rooms: a colour for every position on a surface.

A pattern answers, for positions (u, v) in metres on a surface, a mix in [0, 1] of the material's two colours and a
brightness around 1. Every pattern fades to its mean where a pixel covers more of the surface than the pattern's
period, so that far floors do not shimmer.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

Pattern = Literal[
    "plain", "stripes", "checker", "planks", "tiles", "wood", "noise", "books", "painting", "sky",
    "print", "keys", "speckle", "weave", "spine", "screen",
]  # fmt: skip
Colour = tuple[float, float, float]
Flat = Float32[np.ndarray, "N"]

_TABLE_SIZE = 256
"""Texels a side of the noise table; a power of two, so that wrapping is a bit mask."""


class Material(NamedTuple):
    """What a surface looks like."""

    pattern: Pattern
    base: Colour
    """sRGB in [0, 1]."""
    second: Colour
    """The colour that the pattern mixes in."""
    scale: float = 1.0
    """Metres per period of the pattern."""
    gloss: float = 0.0
    """Strength of the highlight."""
    glow: float = 0.0
    """Part of the colour that it sends out by itself; what glows casts no shadow."""
    seed: int = 0
    """Shifts the pattern, so that two things of one material differ."""


def albedo(material: Material, u: Flat, v: Flat, footprint: Flat) -> Float32[np.ndarray, "3 N"]:
    """Linear RGB of a material at positions on its surface.

    Args:
        material: what is asked.
        u: metres along the first direction of the surface.
        v: metres along the second one; up on walls and furniture.
        footprint: metres of surface that the pixel covers.
    """
    shift = np.float32(material.seed % 97)
    mix, shade = _PATTERNS[material.pattern](
        u / np.float32(material.scale), v / np.float32(material.scale), footprint / material.scale, shift
    )
    base = np.array(material.base, np.float32)[:, None] ** 2.2
    second = np.array(material.second, np.float32)[:, None] ** 2.2
    return (base + (second - base) * mix) * shade


@functools.cache
def _noise_table() -> Float32[np.ndarray, "N"]:
    """Tileable fractal noise in [0, 1], row-major: octaves of 64 to 2 texels, each half as strong as the one before."""
    rng = np.random.default_rng(20)
    total = np.zeros((_TABLE_SIZE, _TABLE_SIZE))
    for octave, cell in enumerate((64, 32, 16, 8, 4, 2)):
        lattice = rng.random((_TABLE_SIZE // cell, _TABLE_SIZE // cell))
        step = np.arange(_TABLE_SIZE) / cell
        low = step.astype(int)
        ramp = step - low
        ramp = ramp * ramp * (3 - 2 * ramp)
        high = (low + 1) % len(lattice)
        rows = lattice[low] * (1 - ramp[:, None]) + lattice[high] * ramp[:, None]
        total += (rows[:, low] * (1 - ramp) + rows[:, high] * ramp) / 2**octave
    spread = total.std()
    return np.clip(0.5 + (total - total.mean()) / (5 * spread), 0, 1).astype(np.float32).ravel()


def _noise(x: Flat, y: Flat) -> Flat:
    """Bilinear read of the noise table at texel positions, wrapped."""
    table, mask = _noise_table(), _TABLE_SIZE - 1
    floor_x, floor_y = np.floor(x), np.floor(y)
    ramp_x, ramp_y = x - floor_x, y - floor_y
    left, top = floor_x.astype(np.int32), floor_y.astype(np.int32)
    right, bottom = (left + 1) & mask, ((top + 1) & mask) * _TABLE_SIZE
    left, top = left & mask, (top & mask) * _TABLE_SIZE
    upper = table[top + left] * (1 - ramp_x) + table[top + right] * ramp_x
    lower = table[bottom + left] * (1 - ramp_x) + table[bottom + right] * ramp_x
    return upper * (1 - ramp_y) + lower * ramp_y


@functools.cache
def _hash_table() -> Float32[np.ndarray, "N"]:
    return np.random.default_rng(21).random(4096, dtype=np.float32)


def _hash(i: Flat, j: Flat | np.float32) -> Flat:
    """One uniform number in [0, 1) for every pair of whole numbers."""
    return _hash_table()[(i.astype(np.int32) * 73 + np.asarray(j).astype(np.int32) * 151) & 4095]


def _fade(footprint: Flat, period: float) -> Flat:
    """1 where a pixel is much smaller than the period, to 0 where it is larger."""
    return 1 / (1 + (footprint * np.float32(1.5 / period)) ** 2)


def _wave(x: Flat, footprint: Flat) -> Flat:
    """A square wave of period 1 and mean a half, its edges as soft as the pixel is wide."""
    edge = 0.25 - np.abs(x - np.floor(x) - 0.5)
    return np.clip(edge / np.maximum(footprint, 1e-4) * np.clip(1 - footprint, 0, 1) + 0.5, 0, 1)


def _line(x: Flat, width: float, footprint: Flat) -> Flat:
    """Thin lines around every whole number: how much of the pixel they cover."""
    wide = np.maximum(footprint, 1e-4)
    inside = np.clip((width / 2 - np.abs(x - np.round(x))) / wide + 0.5, 0, 1)
    return inside * np.minimum(1, width / wide + 0.1) * _fade(footprint, 1.0)


def _plain(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    return np.zeros_like(u), np.ones_like(u)


def _stripes(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    return _wave(u, footprint), np.ones_like(u)


def _checker(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    across, along = 2 * _wave(u, footprint) - 1, 2 * _wave(v, footprint) - 1
    return 0.5 + 0.5 * across * along, 0.97 + 0.06 * _noise(u * 16 + shift, v * 16)


def _planks(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Staggered boards, one period wide and eight long, with grain."""
    row = np.floor(v)
    along = u / 8 + _hash(row, shift)
    grain = _noise(u * 3 + 31 * row, v * 40 + shift) * _fade(footprint, 0.3)
    tone = _hash(row, np.floor(along) + shift)
    gap = np.maximum(_line(v, 0.03, footprint), _line(along, 0.004, footprint / 8))
    return np.clip(0.65 * tone + 0.7 * (grain - 0.3), 0, 1), 1 - 0.55 * gap


def _tiles(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    joint = np.maximum(_line(u, 0.025, footprint), _line(v, 0.025, footprint))
    tone = _hash(np.floor(u), np.floor(v) + shift)
    return joint, 0.9 + 0.12 * tone + 0.1 * (_noise(u * 20 + shift, v * 20) - 0.5)


def _wood(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    grain = _noise(u * 9 + shift, v * 90 + 3 * shift)
    return np.clip(0.5 + 1.6 * (grain - 0.5) * _fade(footprint, 0.1), 0, 1), 0.95 + 0.1 * grain


def _mottled(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    coarse, fine = _noise(u * 40 + shift, v * 40), _noise(u * 170, v * 170 + shift) - 0.5
    return np.clip(0.5 + 1.8 * (coarse - 0.5), 0, 1), 1 + 0.35 * fine * _fade(footprint, 0.02)


def _books(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Spines, one period wide on the average, each of its own tone, with a band for the title."""
    warped = u + 0.35 * np.sin(u * 1.7 + shift)
    spine = np.floor(warped)
    band = _line(v * 0.25 + _hash(spine, shift + 5), 0.12, footprint)
    return np.round(_hash(spine, shift) * 4) / 4, (0.75 + 0.4 * _hash(spine, shift + 9)) * (
        1 - 0.5 * _line(warped, 0.12, footprint)
    ) + 0.25 * band


def _painting(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    field = _noise(u * 50 + 7 * shift, v * 50 + 3 * shift)
    return np.clip(np.round((field - 0.2) * 7) / 4, 0, 1), 0.6 + 0.8 * _noise(u * 30 + shift, v * 90)


def _sky(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Second colour (ground, trees) below the horizon, base above it, both hazy."""
    horizon = 0.25 * _noise(u * 35 + shift, u * 0 + shift) - 0.25
    return np.clip((horizon - v) * 12, 0, 1), 0.9 + 0.2 * _noise(u * 20 + shift, v * 20)


def _letters(along: Flat, line: Flat, footprint: Flat, shift: np.float32) -> Flat:
    """Ink of a line of text: letters in words; half grey where a pixel covers letters."""
    letter = np.floor(along * 2)
    word = _hash(np.floor(along * 0.45 + 3 * _hash(line, shift)), line + shift)
    ink = (_hash(letter, 7 * line + shift) > 0.25) & (along * 2 - letter < 0.75) & (word > 0.18)
    fade = _fade(footprint, 0.6)
    return ink * fade + 0.5 * (1 - fade)


def _print(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Lines of text along u, one period apart; some are left out, some end early."""
    line = np.floor(v)
    within = _wave(v - 0.25, footprint) * (_hash(line, shift + 3) > 0.12)
    return 0.85 * within * _letters(u, line, footprint, shift), np.ones_like(u)


def _keys(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Keys, one period apart, in rows along v that are set off against each other."""
    row = np.floor(u)
    along = v + 0.5 * _hash(row, shift)
    gap = np.maximum(_line(u, 0.16, footprint), _line(along, 0.16, footprint))
    sign = (np.abs(u - row - 0.35) < 0.1) & (np.abs(along - np.floor(along) - 0.4) < 0.09)
    return 1 - gap, 1 + sign * np.float32(1.2) * _fade(footprint, 0.3)


def _speckle(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Grains of stone or terrazzo, a period wide at most, in two tones."""
    grain, fade = _noise(u * 3 + shift, v * 3), _fade(footprint, 0.6)
    dots = np.clip((grain - 0.55) * 8, 0, 1)
    return dots * fade + 0.3 * (1 - fade), 1 + 0.5 * (_hash(np.floor(2 * u), np.floor(2 * v) + shift) - 0.5) * fade


def _weave(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Threads over and under each other, one period wide, of a cloth that is not quite even."""
    over = np.floor(u) + np.floor(v)
    thread = np.where(over % 2 == 0, u - np.floor(u), v - np.floor(v))
    bump = (1 - 4 * np.square(thread - 0.5)) * _fade(footprint, 1.0)
    large = _noise(u * 0.7 + shift, v * 0.7)
    return np.clip(0.7 * (large - 0.2) + 0.3 * (over % 2), 0, 1), 0.8 + 0.3 * bump + 0.1 * large


def _spine(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """The back of a book, one period tall and 0 at its middle: two bands and a title along it."""
    place = 0.3 + 0.14 * _hash(shift + 0 * u, np.float32(5))
    bands = _line(v - place, 0.02, footprint) + _line(v + place, 0.035, footprint)
    title = (np.abs(v + 0.05) < 0.2) & (np.abs(u) < 0.022)
    letters = title * _letters(v * 14, np.round(u * 0), footprint * 14, shift)
    return np.clip(bands + letters * np.float32(0.9), 0, 1), np.ones_like(u)


def _screen(u: Flat, v: Flat, footprint: Flat, shift: np.float32) -> tuple[Flat, Flat]:
    """Windows of text on a screen, lines of it one period apart."""
    line, column = np.floor(v), np.floor(u / 28 + _hash(shift + 0 * u, np.float32(2)))
    block = _hash(column, np.floor(v / 9 + _hash(column, shift)) + shift)
    text = _wave(v - 0.25, footprint) * _letters(u, line, footprint, shift) * (_hash(line, column) > 0.25)
    return np.where(block > 0.35, 0.75 * text, 0.35 + block), 0.8 + 0.4 * block


_PATTERNS = {
    "plain": _plain,
    "stripes": _stripes,
    "checker": _checker,
    "planks": _planks,
    "tiles": _tiles,
    "wood": _wood,
    "noise": _mottled,
    "books": _books,
    "painting": _painting,
    "sky": _sky,
    "print": _print,
    "keys": _keys,
    "speckle": _speckle,
    "weave": _weave,
    "spine": _spine,
    "screen": _screen,
}
