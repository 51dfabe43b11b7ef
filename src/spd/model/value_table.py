"""What deformable attention reads: the cells of four maps, one after the other, as the rows of one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spd.coordinates import location_dtype


class ValueTable(NamedTuple):
    """The value maps of a batch of images.

    One table, so that all samples of a query are one weighted sum of its rows, whatever level they are on.
    """

    rows: Float[Tensor, "B N D"]
    """The cells of V1, of V2, and so on, each map in row-major order."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each map."""

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> ValueTable:
        """Of maps (B, D, H_l, W_l)."""
        cells = [value.permute(0, 2, 3, 1).flatten(1, 2) for value in maps]
        return cls(torch.cat(cells, dim=1), tuple((value.shape[-2], value.shape[-1]) for value in maps))

    def maps(self) -> tuple[Tensor, ...]:
        """The maps again, (B, D, H_l, W_l) each, without a copy."""
        pieces = self.rows.split([height * width for height, width in self.sizes], dim=1)
        return tuple(
            piece.unflatten(1, size).permute(0, 3, 1, 2) for piece, size in zip(pieces, self.sizes, strict=True)
        )


class Samples(NamedTuple):
    """Weighted rows of a :class:`ValueTable` whose columns are split into heads, (B·N·M, d)."""

    rows: Int[Tensor, "B K M S"]
    weights: Float[Tensor, "B K M S"]


def bilinear_samples(
    values: ValueTable, cells: Float[Tensor, "B K M L P 2"], attention_weights: Float[Tensor, "B K M L P"]
) -> Samples:
    """The rows that bilinear reads at ``cells`` take, clamped to the border, and what each counts.

    For all levels at once, in as few passes as it takes: with a hundred samples a query, this is what deformable
    attention spends its time on. What is the same for every query is laid out for every sample of one, since passes
    over long rows are the quick ones.

    Args:
        values: what is read.
        cells: xy of every sample in the cells of its level.
        attention_weights: the weight of every sample.
    """
    heads, points = cells.shape[2], cells.shape[4]
    geometry = _Geometry.of(values.sizes, heads, points, cells.device)
    inside = torch.minimum(cells.flatten(3).clamp_min(0), geometry.last.to(cells.dtype))
    # The first cell of a pair never is the last of its row, so that the second is a fixed step away. Held as integers:
    # a position that is not a number still names cells, and is no number in its share.
    before = torch.minimum(inside.int().clamp_min(0), geometry.last_before)
    (share_x, share_y), (column, row) = (pairs.unflatten(3, (-1, 2)).unbind(-1) for pairs in (inside - before, before))

    images = torch.arange(cells.shape[0], dtype=torch.int32, device=cells.device) * (values.rows.shape[1] * heads)
    top_left = column * heads + row * geometry.down + geometry.first + images.view(-1, 1, 1, 1)
    bottom_left = top_left + geometry.below
    rows = torch.stack((top_left, top_left + geometry.right, bottom_left, bottom_left + geometry.right), dim=3)

    bottom = attention_weights.flatten(3).to(location_dtype(attention_weights)) * share_y
    top = attention_weights.flatten(3) - bottom
    bottom_right, top_right = bottom * share_x, top * share_x
    weights = torch.stack((top - top_right, top_right, bottom - bottom_right, bottom_right), dim=3)
    return Samples(rows.flatten(3), weights.flatten(3))


class _Geometry(NamedTuple):
    """What the sizes of the maps fix, for each head and for each of its samples, level by level."""

    last: Int[Tensor, "S2"]
    """x and y of the last cell."""
    last_before: Int[Tensor, "S2"]
    """x and y of the last cell with a second one behind it."""
    first: Int[Tensor, "M S"]
    """Row of the first cell."""
    down: Int[Tensor, "S"]
    """Rows from a cell to the one below it."""
    right: Int[Tensor, "S"]
    """Rows to the second cell of a pair: none in a map of one column."""
    below: Int[Tensor, "S"]
    """Likewise in a map of one row."""

    @classmethod
    def of(cls, sizes: tuple[tuple[int, int], ...], heads: int, points: int, device: torch.device) -> _Geometry:
        columns = []
        start = 0
        for height, width in sizes:
            right, below = heads * (width > 1), heads * width * (height > 1)
            columns.append((width - 1, height - 1, start, heads * width, right, below))
            start += height * width * heads
        table = torch.tensor(columns, dtype=torch.int32, device=device).repeat_interleave(points, dim=0)
        last = table[:, :2]
        first = table[:, 2] + torch.arange(heads, dtype=torch.int32, device=device).unsqueeze(1)
        down, right, below = table[:, 3:].T.contiguous()
        return cls(last.flatten(), (last - 1).clamp_min(0).flatten(), first, down, right, below)
