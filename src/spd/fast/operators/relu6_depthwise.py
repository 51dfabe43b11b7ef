"""The middle of EfficientNet-Lite's blocks by kernels: ReLU6, depthwise convolution, ReLU6, with a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from spd.fast.operators.calls import OPERATORS, call, is_supported_type, run

KERNELS, STRIDES = (3, 5), (1, 2)

OPERATORS.define("relu6_depthwise(Tensor maps, Tensor taps, Tensor bias, int stride) -> Tensor")


def relu6_depthwise(
    maps: Float[Tensor, "B H W C"], taps: Float[Tensor, "T C"], bias: Float[Tensor, "C"], stride: int
) -> Float[Tensor, "B h w C"]:
    """relu6(bias + depthwise convolution of relu6(maps)), padded as TensorFlow's ``SAME``; sums in float32.

    On a CPU, with or without a gradient; :func:`spd.fast.operators.calls.is_supported_type` says of which features.

    Args:
        maps: channels last, float32 or bfloat16, as the result will be.
        taps: float32, one row per place of the kernel, row by row: T is 9 or 25.
        bias: float32.
        stride: 1 or 2; H and W are multiples of it.
    """
    if torch.is_grad_enabled():
        return _Relu6Depthwise.apply(maps, taps, bias, stride)
    return run("relu6_depthwise", _relu6_depthwise, maps, taps, bias, stride)


@torch.library.impl(OPERATORS, "relu6_depthwise", "CPU")
def _relu6_depthwise(maps: Tensor, taps: Tensor, bias: Tensor, stride: int) -> Tensor:
    assert is_supported_type(maps), maps.dtype
    _, height, width, _ = maps.shape
    kernel = kernel_side(taps)
    assert kernel in KERNELS, taps.shape
    assert stride in STRIDES, stride
    assert height % stride == 0, (maps.shape, stride)
    assert width % stride == 0, (maps.shape, stride)
    out = _relu6_depthwise_shape(maps, taps, bias, stride)
    call(
        "relu6_depthwise",
        *(maps.contiguous(), taps.float().contiguous(), bias.float().contiguous(), out),
        *(*maps.shape, kernel, stride),
    )
    return out


@torch.library.register_fake("spd::relu6_depthwise")
def _relu6_depthwise_shape(maps: Tensor, taps: Tensor, bias: Tensor, stride: int) -> Tensor:
    batch, height, width, channels = maps.shape
    return maps.new_empty(batch, height // stride, width // stride, channels)


@register_flop_formula(torch.ops.spd.relu6_depthwise)
def _relu6_depthwise_flops(maps: Sequence[int], taps: Sequence[int], _: Any, stride: int, **__: Any) -> int:
    """Two for a multiplication and addition, as PyTorch counts its own; sizes are those of the arguments."""
    return 2 * math.prod(maps) // stride**2 * taps[0]


def kernel_side(taps: Tensor) -> int:
    """Side of the kernel."""
    return round(len(taps) ** 0.5)


class _Relu6Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, taps: Tensor, bias: Tensor, stride: int) -> Tensor:
        maps, taps = maps.contiguous(), taps.contiguous()
        out = _relu6_depthwise(maps, taps, bias, stride)
        ctx.save_for_backward(maps, out, taps)
        ctx.geometry = (kernel_side(taps), stride)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        maps, out, taps = ctx.saved_tensors
        grad_out = grad_out.contiguous()
        grad, grad_taps = torch.empty_like(maps), torch.empty_like(taps)
        grad_bias = taps.new_empty(taps.shape[1])
        call(
            "relu6_depthwise_gradient",
            *(maps, out, grad_out, taps, grad, grad_taps, grad_bias),
            *(*maps.shape, *ctx.geometry),
        )
        return grad, grad_taps, grad_bias, None
