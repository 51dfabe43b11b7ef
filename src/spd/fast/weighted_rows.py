"""Weighted sums of rows by a kernel, and with a gradient that does not sort."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from spd import weighted_rows as plain
from spd.fast import operators
from spd.fast.adopting import Adopting


class FastWeightedRows(Adopting, plain.WeightedRows):
    """:class:`spd.weighted_rows.WeightedRows` by the kernel."""

    def forward(
        self, table: Float[Tensor, "R C"], rows: Int[Tensor, "N S"], weights: Float[Tensor, "N S"]
    ) -> Float[Tensor, "N C"]:
        """See :func:`spd.weighted_rows.weighted_rows`."""
        if operators.is_supported(table, table.shape[1]):
            return operators.weighted_rows(table, rows, weights)
        if table.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _WeightedRows.apply(table, rows, weights.to(table.dtype))
        return plain.weighted_rows(table, rows, weights)


class _WeightedRows(torch.autograd.Function):
    """``embedding_bag``, whose own gradient on a CPU sorts the rows first and takes more than twice as long."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows, weights)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        table, rows, weights = ctx.saved_tensors
        if table.shape[1] % operators.LANES == 0 and operators.is_supported_type(table) and grad.dtype == table.dtype:
            of_table, of_weights = operators.weighted_rows_gradient(table, rows, weights, grad)
            return of_table.to(table.dtype), None, of_weights.to(weights.dtype)
        of_table = of_weights = None
        if ctx.needs_input_grad[0]:
            # In float32 at least: a row of a coarse map is read thousands of times.
            dtype = torch.promote_types(grad.dtype, torch.float32)
            shares = weights.to(dtype).unsqueeze(2) * grad.to(dtype).unsqueeze(1)
            sums = shares.new_zeros(table.shape).index_add_(0, rows.flatten(), shares.flatten(0, 1))
            of_table = sums.to(table.dtype)
        if ctx.needs_input_grad[2]:
            of_weights = torch.bmm(F.embedding(rows, table), grad.unsqueeze(2)).squeeze(2)
        return of_table, None, of_weights
