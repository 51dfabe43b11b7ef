"""A whole block of EfficientNet-Lite by one kernel, for answering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from spd.fast.operators.calls import LANES, OPERATORS, call_product, run
from spd.fast.operators.products import linear
from spd.fast.operators.relu6_depthwise import KERNELS, STRIDES, kernel_side, relu6_depthwise

_REPEATED_ROWS_THAT_PAY = 4
"""Threads share the rows of a map, and expand those between two shares twice: of so many rows at most one. Maps of
fewer rows are written between the layers."""

OPERATORS.define(
    "inverted_residual(Tensor maps, Tensor? expand, Tensor? expand_bias, Tensor taps, Tensor bias, Tensor project, "
    "Tensor project_bias, int stride, bool skips) -> Tensor"
)


def inverted_residual(
    maps: Float[Tensor, "B H W C"],
    expand: Float[Tensor, "E C"] | None,
    expand_bias: Float[Tensor, "E"] | None,
    taps: Float[Tensor, "T E"],
    bias: Float[Tensor, "E"],
    project: Float[Tensor, "D E"],
    project_bias: Float[Tensor, "D"],
    stride: int,
    *,
    skips: bool,
) -> Float[Tensor, "B h w D"]:
    """project(relu6(depthwise(relu6(expand(maps))))) plus, where it skips, the maps (Sandler et al. 2018).

    What lies between the products is never written as a map. The depthwise convolution reads float32, is padded as
    TensorFlow's ``SAME``, and its result is rounded to the type of the maps.

    Args:
        maps: channels last, float32 or bfloat16, as the result, the weights and their biases will be.
        expand: of :func:`spd.fast.operators.pack`; None where the block does not expand, and E is C.
        expand_bias: None likewise.
        taps: as those of :func:`spd.fast.operators.relu6_depthwise.relu6_depthwise`.
        bias: of the depthwise convolution, float32.
        project: of :func:`spd.fast.operators.pack`.
        project_bias: of that layer.
        stride: 1 or 2; H and W are multiples of it.
        skips: whether the maps are added; stride is then 1 and D is C.
    """
    layers = (expand, expand_bias, taps, bias, project, project_bias)
    return run("inverted_residual", _inverted_residual, maps, *layers, stride, skips)


@torch.library.impl(OPERATORS, "inverted_residual", "CPU")
def _inverted_residual(
    maps: Tensor,
    expand: Tensor | None,
    expand_bias: Tensor | None,
    taps: Tensor,
    bias: Tensor,
    project: Tensor,
    project_bias: Tensor,
    stride: int,
    skips: bool,
) -> Tensor:
    batch, height, width, inner = maps.shape
    channels, kernel = taps.shape[1], kernel_side(taps)
    assert kernel in KERNELS, taps.shape
    assert stride in STRIDES, stride
    assert height % stride == width % stride == 0, (maps.shape, stride)
    assert channels % LANES == inner % LANES == len(project) % LANES == 0, (inner, taps.shape, project.shape)
    assert channels == inner if expand is None else expand.shape == (channels, inner), (maps.shape, taps.shape)
    assert (expand is None) == (expand_bias is None)
    assert project.shape[1] == channels, (project.shape, taps.shape)
    for parameter in (expand, expand_bias, project, project_bias):
        assert parameter is None or parameter.dtype == maps.dtype, (parameter.dtype, maps.dtype)
    out = _inverted_residual_shape(maps, expand, expand_bias, taps, bias, project, project_bias, stride, skips)
    assert not skips or out.shape == maps.shape, (maps.shape, out.shape)
    if batch * height < _REPEATED_ROWS_THAT_PAY * (torch.get_num_threads() - 1) * (kernel - stride):
        wide = maps if expand is None else linear(maps, expand, expand_bias)
        return linear(relu6_depthwise(wide, taps, bias, stride), project, project_bias, maps if skips else None)
    if out.numel():
        call_product(
            "inverted_residual",
            *(maps.contiguous(), expand, expand_bias, taps.float().contiguous(), bias.float().contiguous()),
            *(
                project,
                project_bias,
                out,
                batch,
                height,
                width,
                inner,
                channels,
                len(project),
                kernel,
                stride,
                int(skips),
            ),
        )
    return out


@torch.library.register_fake("spd::inverted_residual")
def _inverted_residual_shape(
    maps: Tensor,
    expand: Tensor | None,
    expand_bias: Tensor | None,
    taps: Tensor,
    bias: Tensor,
    project: Tensor,
    project_bias: Tensor,
    stride: int,
    skips: bool,
) -> Tensor:
    batch, height, width, _ = maps.shape
    return maps.new_empty(batch, height // stride, width // stride, len(project))


@register_flop_formula(torch.ops.spd.inverted_residual)
def _inverted_residual_flops(maps: Sequence[int], expand: Sequence[int] | None, *others: Any, **_: Any) -> int:
    """Two for a multiplication and addition, as PyTorch counts its own; sizes are those of the arguments."""
    _, taps, _, project, _, stride, _ = others
    pixels = math.prod(maps[:3])
    cells = pixels // stride**2
    return 2 * (pixels * math.prod(expand or [0]) + cells * math.prod(taps) + cells * math.prod(project))
