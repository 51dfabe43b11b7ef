"""Multi-scale deformable attention: each head reads a few points per level (Zhu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spd.coordinates import RowSum, location_dtype, read_bilinear
from spd.model.attention import RESIDUAL_GAIN, initialise_linear
from spd.model.value_table import ValueTable, bilinear_samples
from spd.variant import OffsetUnit
from spd.weighted_rows import WeightedRows, weighted_rows


def deformable_read(
    values: ValueTable,
    sampling_cells: Float[Tensor, "B K M L P 2"],
    attention_weights: Float[Tensor, "B K M L P"],
    sum_rows: RowSum = weighted_rows,
) -> Float[Tensor, "B K D"]:
    """Σ over levels l and points p of weight · V_l(cell), each head in its own channels.

    Args:
        values: the value maps, D = M·d with head-major channels.
        sampling_cells: xy of every sample in the cells of its level; reads clamp to the border.
        attention_weights: the weight of every sample.
        sum_rows: see :data:`spd.coordinates.RowSum`.

    Returns:
        The heads' sums side by side.
    """
    batch, num_queries, num_heads = sampling_cells.shape[:3]
    samples = bilinear_samples(values, sampling_cells, attention_weights)
    # A row is a cell of one head, (B, N, M) in this order.
    table = values.rows.unflatten(2, (num_heads, -1)).flatten(0, 2)
    read = sum_rows(table, samples.rows.flatten(0, 2), samples.weights.flatten(0, 2))
    return read.view(batch, num_queries, values.rows.shape[2])


def deformable_read_reference(
    value_maps: Sequence[Tensor],
    sampling_cells: Float[Tensor, "B K M L P 2"],
    attention_weights: Float[Tensor, "B K M L P"],
) -> Float[Tensor, "B K D"]:
    """:func:`deformable_read` as plan v14 writes it, one head, level and point at a time; slow, to be compared with.

    Reads the whole map at the point and takes the head's slice of it.
    """
    _, _, num_heads, num_levels, num_points, _ = sampling_cells.shape
    head_width = value_maps[0].shape[1] // num_heads
    heads = []
    for head in range(num_heads):
        channels = slice(head * head_width, (head + 1) * head_width)
        total = value_maps[0].new_zeros(())
        for level in range(num_levels):
            for point in range(num_points):
                read = read_bilinear(value_maps[level], sampling_cells[:, :, head, level, point])
                total = total + attention_weights[:, :, head, level, point, None] * read[..., channels]
        heads.append(total)
    return torch.cat(heads, dim=-1)


def ring_offsets(num_heads: int, num_levels: int, num_points: int) -> Float[Tensor, "M L P 2"]:
    """Head m looks in direction 2πm/M, its p-th point p cells away: where Deformable DETR starts (Zhu et al. 2021).

    As there, the longer component of a direction has length one.
    """
    angles = torch.arange(num_heads) * (2 * math.pi / num_heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(dim=-1, keepdim=True)
    distances = torch.arange(1.0, num_points + 1)
    ring = directions[:, None, None, :] * distances[:, None]
    return ring.expand(-1, num_levels, -1, -1).contiguous()


class DeformableAttention(nn.Module):
    """Where to read and how much, both predicted from the query; no keys.

    Args:
        embed_dim: D of queries and value maps.
        num_heads: M; each reads its own D/M channels.
        num_levels: L.
        num_points: P per head and level.
        offset_unit: ``cell`` takes the predicted offsets in cells of their level, so that a step means the same at
            every image size and on both axes; ``normalized`` takes them in the plan's [-1, 1] of the whole map.
        learned_offsets: False reads :func:`ring_offsets` around every query instead.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        offset_unit: OffsetUnit,
        *,
        learned_offsets: bool = True,
    ) -> None:
        super().__init__()
        self.shape = (num_heads, num_levels, num_points)
        self.offset_unit: OffsetUnit = offset_unit
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, 2 * samples) if learned_offsets else None
        if not learned_offsets:
            self.register_buffer("fixed_offsets", ring_offsets(num_heads, num_levels, num_points), persistent=False)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.output = nn.Linear(embed_dim, embed_dim)
        self.sum_rows = WeightedRows()
        self._initialise()

    def _initialise(self) -> None:
        # Queries are normalised, so offsets start with a deviation of 0.01·√D: about a seventh of a cell, enough to
        # tell the points of a head apart and near enough to the query for the first gradients to mean something.
        if self.sampling_offsets is not None:
            nn.init.normal_(self.sampling_offsets.weight, std=0.01)
            nn.init.zeros_(self.sampling_offsets.bias)
        # Every sample starts with the same weight.
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        initialise_linear(self.output, gain=RESIDUAL_GAIN)

    def forward(
        self,
        hidden: Float[Tensor, "B K D"],
        reference_points: Float[Tensor, "B K L 2"],
        values: ValueTable,
    ) -> Float[Tensor, "B K D"]:
        """What each query reads, projected.

        Args:
            hidden: normalised queries.
            reference_points: the queries in the cells of each level.
            values: the value maps.
        """
        offsets = self.offsets_in_cells(hidden, values)
        num_heads, num_levels, num_points = self.shape
        logits = self.attention_weights(hidden).unflatten(-1, (num_heads, num_levels * num_points))
        cells = reference_points[:, :, None, :, None, :] + offsets
        weights = logits.softmax(-1).unflatten(-1, (num_levels, num_points))
        return self.output(deformable_read(values, cells, weights, self.sum_rows))

    def offsets_in_cells(self, hidden: Float[Tensor, "B K D"], values: ValueTable) -> Float[Tensor, "B K M L P 2"]:
        """xy steps from the query to its samples, in cells of each level."""
        if self.sampling_offsets is None:
            fixed: Tensor = self.fixed_offsets  # type: ignore[assignment]
            return fixed.to(location_dtype(hidden)).expand(*hidden.shape[:2], *fixed.shape)
        offsets = self.sampling_offsets(hidden).unflatten(-1, (*self.shape, 2))
        offsets = offsets.to(location_dtype(offsets))
        if self.offset_unit == "cell":
            return offsets
        spans = [((width - 1) / 2, (height - 1) / 2) for height, width in values.sizes]
        return offsets * offsets.new_tensor(spans)[:, None, :]
