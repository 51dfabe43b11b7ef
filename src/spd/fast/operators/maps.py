"""The kernels as PyTorch operators, so that compiled programs may call them too.

None has a gradient: they are for answering.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from spd.fast.operators.calls import LANES, OPERATORS, call, run

OPERATORS.define("gelu_with_squares_(Tensor(a!) rows) -> Tensor")
OPERATORS.define(
    "depthwise_norm(Tensor maps, Tensor weight, Tensor bias, Tensor scale, Tensor shift, float eps) -> Tensor"
)
OPERATORS.define(
    "canvas_step(Tensor canvas, Tensor written, Tensor cells, Tensor shares, "
    "Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2) -> Tensor"
)
OPERATORS.define(
    "deformable_read(Tensor values, int[] sizes, Tensor references, Tensor offsets, Tensor scores) -> Tensor"
)
OPERATORS.define("weighted_rows(Tensor table, Tensor rows, Tensor weights) -> Tensor")


def gelu_with_squares_(rows: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
    """GELU of ``rows`` in their place; returns the sums of its squares over the rows of each image, in float32.

    GELU is exact to 1.1e-7: PyTorch's own, by its error function, to 1e-6.

    Args:
        rows: contiguous, float32 or bfloat16.
    """
    return run("gelu_with_squares_", _gelu_with_squares, rows)


def depthwise_norm(
    maps: Float[Tensor, "B H W C"],
    weight: Float[Tensor, "C 1 7 7"],
    bias: Float[Tensor, "C"],
    scale: Float[Tensor, "C"],
    shift: Float[Tensor, "C"],
    eps: float,
) -> Float[Tensor, "B H W C"]:
    """A depthwise convolution of 7×7 between zeros, then layer normalisation over the channels, both in float32.

    Args:
        maps: channels last, float32 or bfloat16, as the result will be.
        weight: of the convolution, like all parameters in float32 or bfloat16.
        bias: of the convolution.
        scale: of the normalisation.
        shift: of the normalisation.
        eps: of the normalisation, added to the variance.
    """
    return run("depthwise_norm", _depthwise_norm, maps, weight, bias, scale, shift, eps)


def canvas_step(
    canvas: Float[Tensor, "B H W D"],
    written: Float[Tensor, "B K D"],
    cells: Int[Tensor, "B K C"],
    shares: Float[Tensor, "B K C"],
    weight1: Float[Tensor, "D 1 3 3"],
    bias1: Float[Tensor, "D"],
    weight2: Float[Tensor, "D 1 3 3"],
    bias2: Float[Tensor, "D"],
) -> Float[Tensor, "B H W D"]:
    """F + DW3×3(GELU(DW3×3(F))) with F the canvas and, in each cell, its shares of what is written; in float32.

    Args:
        canvas: channels last, float32; left as it is.
        written: what each query writes.
        cells: the cells it writes to, as rows of the table that holds the cells of all canvases.
        shares: how much of it is added to each.
        weight1: of the first convolution.
        bias1: likewise.
        weight2: of the second.
        bias2: likewise.
    """
    return run("canvas_step", _canvas_step, canvas, written, cells, shares, weight1, bias1, weight2, bias2)


def deformable_read(
    values: Float[Tensor, "B N D"],
    sizes: Sequence[tuple[int, int]],
    references: Float[Tensor, "B K L 2"],
    offsets: Float[Tensor, "B K M L P 2"],
    scores: Float[Tensor, "B K M LP"],
) -> Float[Tensor, "B K D"]:
    """Multi-scale deformable attention without its projections (Zhu et al. 2021), in float32.

    Args:
        values: the cells of all levels, one level after the other, D = M·d with head-major channels; float32 or
            bfloat16, as the result will be.
        sizes: (height, width) of each level.
        references: xy of the queries in the cells of each level.
        offsets: xy from there to the samples of each head; reads clamp to the border.
        scores: of all samples of a head, before the softmax.
    """
    flat = [side for size in sizes for side in size]
    return run("deformable_read", _deformable_read, values, flat, references, offsets, scores)


def weighted_rows(
    table: Float[Tensor, "R C"], rows: Int[Tensor, "N S"], weights: Float[Tensor, "N S"]
) -> Float[Tensor, "N C"]:
    """Σ over s of weight · row, in float32; as the table's numbers are, float32 or bfloat16, so will the result be."""
    return run("weighted_rows", _weighted_rows, table, rows, weights)


def weighted_rows_gradient(
    table: Float[Tensor, "R C"], rows: Int[Tensor, "N S"], weights: Float[Tensor, "N S"], grad: Float[Tensor, "N C"]
) -> tuple[Float[Tensor, "R C"], Float[Tensor, "N S"]]:
    """The gradient of :func:`weighted_rows`, of its table and of its weights, in float32.

    Args:
        table: float32 or bfloat16.
        rows: which were read.
        weights: how much each counted.
        grad: of the sums, of the table's type.
    """
    grad_table = table.new_zeros(table.shape, dtype=torch.float32)
    grad_weights = weights.new_empty(weights.shape, dtype=torch.float32)
    call(
        "weighted_rows_gradient",
        *(table.contiguous(), rows.long().contiguous(), weights.float().contiguous(), grad.contiguous()),
        *(grad_table, grad_weights, table.shape[0], *rows.shape, table.shape[1]),
    )
    return grad_table, grad_weights


@torch.library.impl(OPERATORS, "gelu_with_squares_", "CPU")
def _gelu_with_squares(rows: Tensor) -> Tensor:
    assert rows.is_contiguous(), rows.stride()
    assert rows.shape[2] % LANES == 0, rows.shape
    squares = rows.new_empty(rows.shape[0], rows.shape[2], dtype=torch.float32)
    call("gelu_with_squares", rows, squares, *rows.shape)
    return squares


@torch.library.register_fake("spd::gelu_with_squares_")
def _gelu_with_squares_shape(rows: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], rows.shape[2], dtype=torch.float32)


@torch.library.impl(OPERATORS, "depthwise_norm", "CPU")
def _depthwise_norm(maps: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    assert maps.shape[3] % LANES == 0, maps.shape
    assert weight.shape[2:] == (7, 7), weight.shape
    maps = maps.contiguous()
    normed = torch.empty_like(maps)
    parameters = [parameter.float().contiguous() for parameter in (weight, bias, scale, shift)]
    call("depthwise_norm", maps, *parameters, float(eps), normed, *maps.shape)
    return normed


@register_flop_formula(torch.ops.spd.depthwise_norm)
def _depthwise_norm_flops(maps: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """Of the convolution, two for a multiplication and addition as PyTorch counts its own; arguments are shapes."""
    return 2 * math.prod(maps) * math.prod(weight[2:])


@torch.library.register_fake("spd::depthwise_norm")
def _depthwise_norm_shape(
    maps: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> Tensor:
    return torch.empty_like(maps, memory_format=torch.contiguous_format)


@torch.library.impl(OPERATORS, "canvas_step", "CPU")
def _canvas_step(canvas: Tensor, written: Tensor, cells: Tensor, shares: Tensor, *parameters: Tensor) -> Tensor:
    assert canvas.dtype == torch.float32, canvas.dtype
    assert cells.dtype == torch.int64, cells.dtype
    canvas, cells = canvas.contiguous(), cells.contiguous()
    stepped = torch.empty_like(canvas)
    floats = [tensor.float().contiguous() for tensor in (shares, *parameters)]
    sizes = (*canvas.shape, written.shape[0] * written.shape[1], cells.shape[2])
    call("canvas_step", canvas, written.float().contiguous(), cells, *floats, stepped, *sizes)
    return stepped


@register_flop_formula(torch.ops.spd.canvas_step)
def _canvas_step_flops(canvas: Sequence[int], *arguments: Sequence[int], **_: Any) -> int:
    """Likewise, of both convolutions."""
    weight1, weight2 = arguments[3], arguments[5]
    return 2 * math.prod(canvas) * (math.prod(weight1[2:]) + math.prod(weight2[2:]))


@torch.library.register_fake("spd::canvas_step")
def _canvas_step_shape(canvas: Tensor, *_: Tensor) -> Tensor:
    return torch.empty_like(canvas, memory_format=torch.contiguous_format)


@torch.library.impl(OPERATORS, "deformable_read", "CPU")
def _deformable_read(values: Tensor, sizes: list[int], references: Tensor, offsets: Tensor, scores: Tensor) -> Tensor:
    batch, num_queries, num_heads, num_levels, num_points, _ = offsets.shape
    cells, channels = values.shape[1:]
    assert sum(height * width for height, width in zip(sizes[::2], sizes[1::2], strict=True)) == cells, (sizes, cells)
    width = channels // num_heads
    assert width % LANES == 0, (channels, num_heads)
    read = values.new_empty(batch, num_queries, channels)
    geometry = (ctypes.c_int64 * len(sizes))(*sizes)
    floats = [tensor.float().contiguous() for tensor in (references, offsets, scores)]
    shape = (batch, cells, num_queries, num_heads, width, num_levels, num_points)
    call("deformable_read", values.contiguous(), geometry, *floats, read, *shape)
    return read


@torch.library.register_fake("spd::deformable_read")
def _deformable_read_shape(
    values: Tensor, sizes: list[int], references: Tensor, offsets: Tensor, scores: Tensor
) -> Tensor:
    return values.new_empty(*offsets.shape[:2], values.shape[2])


@torch.library.impl(OPERATORS, "weighted_rows", "CPU")
def _weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    assert table.shape[1] % LANES == 0, table.shape
    read = table.new_empty(rows.shape[0], table.shape[1])
    rows, weights = rows.long().contiguous(), weights.float().contiguous()
    call("weighted_rows", table.contiguous(), rows, weights, read, *rows.shape, table.shape[1])
    return read


@torch.library.register_fake("spd::weighted_rows")
def _weighted_rows_shape(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    return table.new_empty(rows.shape[0], table.shape[1])
