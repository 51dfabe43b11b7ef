"""Pixels and feature cells: the only file that knows the convention.

A pixel is named by its index xy = (u, v): (0, 0) is the centre of the top-left pixel, as in OpenCV keypoints, and
an image W pixels wide spans -0.5 <= u < W - 0.5. A position on a feature map of stride s is given in *cells* of
that map, x = 0 being the centre of its first cell. Three alignments tie the two:

- ``center``: x = (u + 0.5) / s - 0.5. A cell's centre lies at the centre of the s pixels that it covers.
- ``corner``: x = u / s, the plan's ``align_corners=True``. A cell's index stands for the first of its pixels.
- ``last``: x = (u + 1) / s - 1. A cell's index stands for the last of its pixels, as in networks that pad to the right
  and below only (EfficientNet-Lite).

Reads are bilinear and clamp to the border. Locations are float32 at least, whatever the features are: bfloat16 has
eight bits of precision, which on L1 is off by more than half a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spd.variant import Alignment
from spd.weighted_rows import weighted_rows

STRIDES = (4, 8, 16, 32)
"""Pixels per cell of L1, L2, L3 and L4."""
CANVAS_LEVEL = 2
"""The canvas has the cells of L3."""

_PIXEL_SHIFTS: Mapping[Alignment, float] = {"corner": 0.0, "center": 0.5, "last": 1.0}
"""The part t of a cell at which its centre lies, from its first pixel on: x = (u + t) / s - t."""
_COVERING: Mapping[Alignment, Callable[[Tensor], Tensor]] = {
    "corner": torch.floor,
    "center": lambda cells: torch.floor(cells + 0.5),
    # The last pixel of a cell is its centre, those before it lie below.
    "last": torch.ceil,
}


def location_dtype(features: Tensor) -> torch.dtype:
    """float64 for float64 features, else float32: the precision in which locations and sums are kept."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def pixels_to_cells(
    query_points: Float[Tensor, "*batch 2"], stride: int, alignment: Alignment
) -> Float[Tensor, "*batch 2"]:
    """xy pixel indices to xy cells of a map of that stride.

    Example:
        >>> pixels_to_cells(torch.tensor([[7.5, 3.5]]), stride=8, alignment="center")
        tensor([[0.5000, 0.0000]])
    """
    shift = _PIXEL_SHIFTS[alignment]
    return (query_points + shift) / stride - shift


def pixels_to_levels(query_points: Float[Tensor, "*batch 2"], alignment: Alignment) -> Float[Tensor, "*batch L 2"]:
    """:func:`pixels_to_cells` of L1...L4 at once."""
    strides = torch.tensor(STRIDES, dtype=query_points.dtype, device=query_points.device).unsqueeze(-1)
    shift = _PIXEL_SHIFTS[alignment]
    return (query_points.unsqueeze(-2) + shift) / strides - shift


def nearest_cell(
    cells: Float[Tensor, "*batch 2"], height: int, width: int, alignment: Alignment
) -> Int[Tensor, "*batch"]:
    """Row-major index of the cell that holds each xy position, clamped to the map: the cell that covers the pixel."""
    covering = _COVERING[alignment](cells).long()
    column = covering[..., 0].clamp(0, width - 1)
    row = covering[..., 1].clamp(0, height - 1)
    return row * width + column


def surrounding_cells(
    cells: Float[Tensor, "*batch 2"], height: int | Int[Tensor, "L"], width: int | Int[Tensor, "L"]
) -> tuple[Int[Tensor, "*batch 4"], Float[Tensor, "*batch 4"]]:
    """Row-major indices of the four cells that a bilinear read at xy takes, and their weights.

    Positions beyond the border are moved to it; the weights of a position add up to 1.

    Args:
        cells: positions on a map, or in their last axis but one on maps of several sizes.
        height: rows of the map, or of each map.
        width: its columns, likewise.

    Example:
        >>> index, weight = surrounding_cells(torch.tensor([[1.25, 0.5]]), height=2, width=3)
        >>> index.tolist(), weight.tolist()
        ([[1, 2, 4, 5]], [[0.375, 0.125, 0.375, 0.125]])
    """
    left, right, right_share = _neighbours(cells[..., 0], width)
    top, bottom, bottom_share = _neighbours(cells[..., 1], height)
    upper, lower = top * width, bottom * width
    index = torch.stack((upper + left, upper + right, lower + left, lower + right), dim=-1)
    left_share, top_share = 1 - right_share, 1 - bottom_share
    of_cells = (top_share * left_share, top_share * right_share, bottom_share * left_share, bottom_share * right_share)
    return index, torch.stack(of_cells, dim=-1)


def _neighbours(
    position: Float[Tensor, "*batch"], length: int | Int[Tensor, "L"]
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """On one axis: the cells before and after a position, the same one on the border, and the share of the second.

    Clamped as integers, so that a position that is not a number still names cells, and is no number in its share.
    """
    last = length - 1
    inside = _at_most(position.clamp_min(0), last)
    before = _at_most(inside.long().clamp_min(0), last)
    return before, _at_most(before + 1, last), inside - before


def _at_most(values: Tensor, largest: int | Tensor) -> Tensor:
    """A number needs no tensor on the device."""
    if isinstance(largest, int):
        return values.clamp(max=largest)
    return torch.minimum(values, largest.to(values.dtype))


def anchor_points(image_size: tuple[int, int], stride: int, device: torch.device | None = None) -> Float[Tensor, "A 2"]:
    """xy pixels of a regular grid of ceil(H / stride) × ceil(W / stride) points, row by row, float32.

    Row i lies at (i + 0.5)·H / rows - 0.5 and columns alike: the grid is the same seen from either end.

    Example:
        >>> anchor_points((64, 100), stride=32)[[0, 4]].tolist()
        [[12.0, 15.5], [12.0, 47.5]]
    """
    sides = []
    for side in image_size:
        count = -(-side // stride)
        sides.append((torch.arange(count, device=device) + 0.5) * (side / count) - 0.5)
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    return torch.stack((columns, rows), dim=-1).flatten(0, 1)


class BilinearReads(NamedTuple):
    """Where reads of a batch of maps take their values: the same for every map of one size."""

    rows: Int[Tensor, "B K 4"]
    """Of the table that holds the cells of all images, one after the other."""
    weights: Float[Tensor, "B K 4"]


def bilinear_reads(cells: Float[Tensor, "B K 2"], height: int, width: int) -> BilinearReads:
    """The cells around xy positions, clamped to the map, and their weights."""
    index, weights = surrounding_cells(cells, height, width)
    return BilinearReads(index + first_rows(cells, height * width)[:, None, None], weights)


def level_reads(cells: Float[Tensor, "B K L 2"], sizes: Sequence[tuple[int, int]]) -> tuple[BilinearReads, ...]:
    """:func:`bilinear_reads` of maps of several sizes, (height, width) each, worked out at once."""
    heights, widths = torch.tensor(sizes, device=cells.device).unbind(1)
    index, weights = surrounding_cells(cells, heights, widths)
    images = torch.arange(cells.shape[0], device=cells.device)[:, None, None, None]
    rows = index + images * (heights * widths)[:, None]
    return tuple(BilinearReads(*read) for read in zip(rows.unbind(2), weights.unbind(2), strict=True))


def first_rows(batch: Float[Tensor, "B ..."], num_cells: int) -> Int[Tensor, "B"]:
    """Where each image's cells begin in the table of all images' cells; made on the device, without a transfer."""
    return torch.arange(batch.shape[0], device=batch.device) * num_cells


def as_table(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "N C"]:
    """The cells of all images as rows, in row-major order; no copy where the channels lie innermost in memory."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


RowSum: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function with the arguments of :func:`spd.weighted_rows.weighted_rows`, which it stands in for."""


def read_bilinear(
    features: Float[Tensor, "B C H W"], cells: Float[Tensor, "B K 2"], sum_rows: RowSum = weighted_rows
) -> Float[Tensor, "B K C"]:
    """Features at xy positions in their own cells; beyond the border the border's value."""
    return read_cells(features, bilinear_reads(cells, features.shape[-2], features.shape[-1]), sum_rows)


def read_cells(
    features: Float[Tensor, "B C H W"], reads: BilinearReads, sum_rows: RowSum = weighted_rows
) -> Float[Tensor, "B K C"]:
    """Features at positions that :func:`bilinear_reads` has turned into rows.

    Weights come from locations of full precision and are rounded to that of the features; sums are float32 at least.
    """
    batch, num_queries = reads.rows.shape[:2]
    read = sum_rows(as_table(features), reads.rows.flatten(0, 1), reads.weights.flatten(0, 1))
    return read.view(batch, num_queries, features.shape[1])


def resize_points(
    query_points: Float[Tensor, "*batch 2"], source_size: tuple[int, int], target_size: tuple[int, int]
) -> Float[Tensor, "*batch 2"]:
    """xy pixels of an image of ``source_size`` (height, width) to those of the same image resized to ``target_size``.

    Maps by (u + 0.5) * r - 0.5 on each axis, so that the edges of the image stay its edges.
    """
    ratio = query_points.new_tensor((target_size[1] / source_size[1], target_size[0] / source_size[0]))
    return (query_points + 0.5) * ratio - 0.5
