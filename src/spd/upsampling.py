"""A sparse depth map brought to the size of its image, along the image's edges."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

_COLOUR = 20.0
"""Difference of colour at which a neighbour counts exp(-1/2) as much, in 8-bit steps per channel."""
_FLOOR = 1e-4
"""Least weight of a colour: where none fits, the nearer in place decide."""


def upsample(
    depth_m: Float[np.ndarray, "R C"],
    rows: Float[np.ndarray, "R"],
    columns: Float[np.ndarray, "C"],
    image: UInt8[np.ndarray, "H W 3"],
) -> Float[np.ndarray, "H W"]:
    """Depth at every pixel from that at a grid of pixels: of the four around it, those of its colour count most.

    Args:
        depth_m: at the grid.
        rows: v of the grid's rows, pixel indices, rising.
        columns: u of its columns, likewise.
        image: RGB.

    Source: Kopf, Cohen, Lischinski and Uyttendaele, "Joint Bilateral Upsampling", 2007, with bilinear weights in place
    and log depth.
    """
    height, width = image.shape[:2]
    top, bottom, down = _between(np.arange(height), rows)
    left, right, across = _between(np.arange(width), columns)
    guide = image.astype(np.float32)
    of_grid = guide[rows.astype(int)[:, None], columns.astype(int)]
    log_depth = np.log(depth_m)
    total = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for row, row_share in ((top, 1 - down), (bottom, down)):
        for column, column_share in ((left, 1 - across), (right, across)):
            colour = of_grid[row[:, None], column]
            off = np.square(guide - colour).mean(axis=2) / _COLOUR**2
            near = (row_share[:, None] * column_share).astype(np.float32)
            weight = near * (np.exp(-0.5 * off) + np.float32(_FLOOR))
            total += weight * log_depth[row[:, None], column]
            weights += weight
    return np.exp(total / weights).astype(np.float32)


def _between(positions: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid's lines before and after each position, and the share of the second; clamped to the grid."""
    after = np.searchsorted(grid, positions, side="right").clip(0, len(grid) - 1)
    before = (after - 1).clip(0)
    gap = np.maximum(grid[after] - grid[before], 1e-9)
    share = ((positions - grid[before]) / gap).clip(0, 1)
    return before, after, share
