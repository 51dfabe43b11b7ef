"""A whole block of EfficientNet-Lite by one kernel, for answering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from spd.native.calls import LANES, OPERATORS, call_product, run
from spd.native.products import linear
from spd.native.relu6_depthwise import KERNELS, STRIDES, kernel_side, relu6_depthwise

_REPEATED_ROWS_THAT_PAY = 4
"""Threads share the rows of a map, and widen those between two shares twice: of so many rows at most one. Maps of fewer
rows are written between the layers."""

OPERATORS.define(
    "inverted_residual(Tensor maps, Tensor? widen, Tensor? widen_bias, Tensor taps, Tensor bias, Tensor narrow, "
    "Tensor narrow_bias, int stride, bool skips) -> Tensor"
)


def inverted_residual(
    maps: Float[Tensor, "B H W C"],
    widen: Float[Tensor, "E C"] | None,
    widen_bias: Float[Tensor, "E"] | None,
    taps: Float[Tensor, "T E"],
    bias: Float[Tensor, "E"],
    narrow: Float[Tensor, "D E"],
    narrow_bias: Float[Tensor, "D"],
    stride: int,
    *,
    skips: bool,
) -> Float[Tensor, "B h w D"]:
    """narrow(relu6(depthwise(relu6(widen(maps))))) plus, where it skips, the maps (Sandler et al. 2018).

    What lies between the products is never written as a map. The depthwise convolution reads float32, is padded as
    TensorFlow's ``SAME``, and its result is rounded to the type of the maps.

    Args:
        maps: channels last, float32 or bfloat16, as the result, the weights and their biases will be.
        widen: of :func:`spd.native.pack`; None where the block does not widen, and E is C.
        widen_bias: None likewise.
        taps: as those of :func:`spd.native.relu6_depthwise.relu6_depthwise`.
        bias: of the depthwise convolution, float32.
        narrow: of :func:`spd.native.pack`.
        narrow_bias: of that layer.
        stride: 1 or 2; H and W are multiples of it.
        skips: whether the maps are added; stride is then 1 and D is C.
    """
    layers = (widen, widen_bias, taps, bias, narrow, narrow_bias)
    return run("inverted_residual", _inverted_residual, maps, *layers, stride, skips)


@torch.library.impl(OPERATORS, "inverted_residual", "CPU")
def _inverted_residual(
    maps: Tensor,
    widen: Tensor | None,
    widen_bias: Tensor | None,
    taps: Tensor,
    bias: Tensor,
    narrow: Tensor,
    narrow_bias: Tensor,
    stride: int,
    skips: bool,
) -> Tensor:
    batch, height, width, inner = maps.shape
    channels, kernel = taps.shape[1], kernel_side(taps)
    assert kernel in KERNELS, taps.shape
    assert stride in STRIDES, stride
    assert height % stride == width % stride == 0, (maps.shape, stride)
    assert channels % LANES == inner % LANES == len(narrow) % LANES == 0, (inner, taps.shape, narrow.shape)
    assert channels == inner if widen is None else widen.shape == (channels, inner), (maps.shape, taps.shape)
    assert (widen is None) == (widen_bias is None)
    assert narrow.shape[1] == channels, (narrow.shape, taps.shape)
    for parameter in (widen, widen_bias, narrow, narrow_bias):
        assert parameter is None or parameter.dtype == maps.dtype, (parameter.dtype, maps.dtype)
    out = _inverted_residual_shape(maps, widen, widen_bias, taps, bias, narrow, narrow_bias, stride, skips)
    assert not skips or out.shape == maps.shape, (maps.shape, out.shape)
    if batch * height < _REPEATED_ROWS_THAT_PAY * (torch.get_num_threads() - 1) * (kernel - stride):
        wide = maps if widen is None else linear(maps, widen, widen_bias)
        return linear(relu6_depthwise(wide, taps, bias, stride), narrow, narrow_bias, maps if skips else None)
    if out.numel():
        call_product(
            "inverted_residual",
            *(maps.contiguous(), widen, widen_bias, taps.float().contiguous(), bias.float().contiguous()),
            *(narrow, narrow_bias, out, batch, height, width, inner, channels, len(narrow), kernel, stride, int(skips)),
        )
    return out


@torch.library.register_fake("spd::inverted_residual")
def _inverted_residual_shape(
    maps: Tensor,
    widen: Tensor | None,
    widen_bias: Tensor | None,
    taps: Tensor,
    bias: Tensor,
    narrow: Tensor,
    narrow_bias: Tensor,
    stride: int,
    skips: bool,
) -> Tensor:
    batch, height, width, _ = maps.shape
    return maps.new_empty(batch, height // stride, width // stride, len(narrow))


@register_flop_formula(torch.ops.spd.inverted_residual)
def _inverted_residual_flops(maps: Sequence[int], widen: Sequence[int] | None, *others: Any, **_: Any) -> int:
    """Two for a multiplication and addition, as PyTorch counts its own; sizes are those of the arguments."""
    _, taps, _, narrow, _, stride, _ = others
    pixels = math.prod(maps[:3])
    cells = pixels // stride**2
    return 2 * (pixels * math.prod(widen or [0]) + cells * math.prod(taps) + cells * math.prod(narrow))
