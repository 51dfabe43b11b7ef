"""Weighted sums of the rows of a table: what every bilinear read and every deformable attention comes down to."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def weighted_rows(
    table: Float[Tensor, "R C"], rows: Int[Tensor, "N S"], weights: Float[Tensor, "N S"]
) -> Float[Tensor, "N C"]:
    """Σ over s of weight · row; the rows that are read are never stored.

    Args:
        table: what is read.
        rows: indices into it.
        weights: how much each counts.
    """
    return F.embedding_bag(rows, table, per_sample_weights=weights.to(table.dtype), mode="sum")


class WeightedRows(nn.Module):
    """:func:`weighted_rows` as a module without parameters, so that another implementation can take its place."""

    def forward(
        self, table: Float[Tensor, "R C"], rows: Int[Tensor, "N S"], weights: Float[Tensor, "N S"]
    ) -> Float[Tensor, "N C"]:
        """See :func:`weighted_rows`."""
        return weighted_rows(table, rows, weights)
