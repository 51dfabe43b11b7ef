"""Pixels and feature cells: the only file that knows the convention.

A pixel is named by its index xy = (u, v): (0, 0) is the centre of the top-left pixel, as in OpenCV keypoints, and
an image W pixels wide spans -0.5 <= u < W - 0.5. A position on a feature map of stride s is given in *cells* of
that map, x = 0 being the centre of its first cell. Two alignments tie the two:

- ``center``: x = (u + 0.5) / s - 0.5. A cell's centre lies at the centre of the s pixels that it covers.
- ``corner``: x = u / s, the plan's ``align_corners=True``. A cell's index stands for the first of its pixels.

Reads are bilinear and clamp to the border. Locations are float32 at least, whatever the features are: bfloat16 has
eight bits of precision, which on L1 is off by more than half a cell.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from spd.config import Alignment

STRIDES = (4, 8, 16, 32)
"""Pixels per cell of L1, L2, L3 and L4."""
CANVAS_LEVEL = 2
"""The canvas has the cells of L3."""


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
    if alignment == "center":
        return (query_points + 0.5) / stride - 0.5
    return query_points / stride


def nearest_cell(
    cells: Float[Tensor, "*batch 2"], height: int, width: int, alignment: Alignment
) -> Int[Tensor, "*batch"]:
    """Row-major index of the cell that holds each xy position, clamped to the map: the cell that covers the pixel."""
    covering = torch.floor(cells + 0.5 if alignment == "center" else cells).long()
    column = covering[..., 0].clamp(0, width - 1)
    row = covering[..., 1].clamp(0, height - 1)
    return row * width + column


def surrounding_cells(
    cells: Float[Tensor, "*batch 2"], height: int, width: int
) -> tuple[Int[Tensor, "*batch 4"], Float[Tensor, "*batch 4"]]:
    """Row-major indices of the four cells that :func:`read_bilinear` reads at xy, and their weights.

    Clamped to the map as there, so that on its border a cell may come twice; the weights of a position add up to 1.

    Example:
        >>> index, weight = surrounding_cells(torch.tensor([[1.25, 0.5]]), height=2, width=3)
        >>> index.tolist(), weight.tolist()
        ([[1, 2, 4, 5]], [[0.375, 0.125, 0.375, 0.125]])
    """
    x = cells[..., 0].clamp(0, width - 1)
    y = cells[..., 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    columns = torch.stack((left, (left + 1).clamp(max=width - 1)), dim=-1).long()
    rows = torch.stack((top, (top + 1).clamp(max=height - 1)), dim=-1).long()
    index = rows[..., :, None] * width + columns[..., None, :]
    of_columns = torch.stack((1 - right_share, right_share), dim=-1)
    of_rows = torch.stack((1 - bottom_share, bottom_share), dim=-1)
    return index.flatten(-2), (of_rows[..., :, None] * of_columns[..., None, :]).flatten(-2)


def anchor_points(image_size: tuple[int, int], stride: int) -> Float[Tensor, "A 2"]:
    """xy pixels of a regular grid of ceil(H / stride) × ceil(W / stride) points, row by row, float32.

    Row i lies at (i + 0.5)·H / rows - 0.5 and columns alike: the grid is the same seen from either end.

    Example:
        >>> anchor_points((64, 100), stride=32)[[0, 4]].tolist()
        [[12.0, 15.5], [12.0, 47.5]]
    """
    sides = []
    for side in image_size:
        count = -(-side // stride)
        sides.append((torch.arange(count) + 0.5) * (side / count) - 0.5)
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    return torch.stack((columns, rows), dim=-1).flatten(0, 1)


def cells_to_grid(cells: Float[Tensor, "*batch 2"], height: int, width: int) -> Float[Tensor, "*batch 2"]:
    """xy cells to the [-1, 1] of ``grid_sample`` with ``align_corners=False``: (2x + 1) / W - 1."""
    size = cells.new_tensor((width, height))
    return (2 * cells + 1) / size - 1


def read_bilinear(features: Float[Tensor, "B C H W"], cells: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K C"]:
    """Features at xy positions in their own cells; beyond the border the border's value.

    Reads in the precision of the locations and answers in that of the features.
    """
    height, width = features.shape[-2:]
    grid = cells_to_grid(cells, height, width).unsqueeze(1)
    read = F.grid_sample(features.to(cells.dtype), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return read.squeeze(2).transpose(1, 2).to(features.dtype)


def resize_points(
    query_points: Float[Tensor, "*batch 2"], source_size: tuple[int, int], target_size: tuple[int, int]
) -> Float[Tensor, "*batch 2"]:
    """xy pixels of an image of ``source_size`` (height, width) to those of the same image resized to ``target_size``.

    Maps by (u + 0.5) * r - 0.5 on each axis, so that the edges of the image stay its edges.
    """
    ratio = query_points.new_tensor((target_size[1] / source_size[1], target_size[0] / source_size[0]))
    return (query_points + 0.5) * ratio - 0.5
