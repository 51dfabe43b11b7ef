"""Which pixels to ask about a box or a mask, and what their depths say of the object in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

BOX_SIDE = 5
"""A box is asked at 5 x 5 points."""
MASK_POINTS = 25
"""Most points that are asked of a mask."""
_NEARER = 0.35


def box_grid(box: Float[np.ndarray, "4"], side: int = BOX_SIDE) -> Float[np.ndarray, "K 2"]:
    """The centres of side × side equal cells of a box, row by row, as xy pixel indices.

    Args:
        box: x0, y0, x1, y1 between pixels, as detectors and COCO have them: an image spans 0 to W.
        side: cells per side.
    """
    steps = (np.arange(side) + 0.5) / side
    u, v = np.meshgrid(box[0] + steps * (box[2] - box[0]) - 0.5, box[1] + steps * (box[3] - box[1]) - 0.5)
    return np.stack((u.ravel(), v.ravel()), axis=1)


def object_depth(depth_m: Float[np.ndarray, "K"]) -> float:
    """Of the depths at :func:`box_grid`, that of the object in the box: farther than 35 % of them.

    A box holds its object and what is behind it. ``benchmarks/box_depth.py`` compares rules on drawn objects.
    """
    return float(np.quantile(depth_m, _NEARER))


def mask_points(mask: Bool[np.ndarray, "H W"], most: int = MASK_POINTS) -> Float[np.ndarray, "K 2"]:
    """Pixels of a mask, evenly through it, away from its border where it is wide enough; xy.

    Args:
        mask: True inside.
        most: how many at most.
    """
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    rows, columns = np.nonzero(inside if inside.any() else mask)
    chosen = ((np.arange(min(most, len(rows))) + 0.5) / min(most, len(rows)) * len(rows)).astype(int)
    return np.stack((columns[chosen], rows[chosen]), axis=1).astype(np.float64)
