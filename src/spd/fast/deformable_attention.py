"""Deformable attention by one kernel: softmax, positions, rows and weights of all samples, and their sum."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from spd.fast import operators
from spd.fast.adopting import Adopting
from spd.fast.linear import linear
from spd.model import deformable_attention as plain
from spd.model.value_table import ValueTable


class FastDeformableAttention(Adopting, plain.DeformableAttention):
    """:class:`spd.model.deformable_attention.DeformableAttention` by the kernel, plus a residual."""

    def forward(
        self,
        hidden: Float[Tensor, "B K D"],
        reference_points: Float[Tensor, "B K L 2"],
        values: ValueTable,
        residual: Float[Tensor, "B K D"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """What each query reads, projected, plus the residual."""
        num_heads, num_levels, num_points = self.shape
        offsets = self.offsets_in_cells(hidden, values)
        scores = self.attention_weights(hidden).unflatten(-1, (num_heads, num_levels * num_points))
        if operators.is_supported(values.rows, values.rows.shape[2] // num_heads):
            read = operators.deformable_read(*values, reference_points, offsets, scores)
        else:
            cells = reference_points[:, :, None, :, None, :] + offsets
            weights = scores.softmax(-1).unflatten(-1, (num_levels, num_points))
            read = plain.deformable_read(values, cells, weights, self.sum_rows)
        return linear(self.output, read, residual=residual)
