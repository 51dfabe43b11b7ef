"""Depthwise convolution with a gradient that is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spd.coordinates import location_dtype


class FastDepthwiseConv2d(nn.Module):
    """Each channel convolved with a square kernel of its own; a map of the same size.

    What PyTorch computes, but for the way back on a CPU: there, in bfloat16, its gradient takes longer than the rest of
    a ConvNeXt block.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    @classmethod
    def from_module(cls, plain: nn.Conv2d) -> FastDepthwiseConv2d:
        """With the parameters of a depthwise convolution for which :func:`is_depthwise` holds."""
        assert is_depthwise(plain), plain
        return cls(plain.weight, plain.bias)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """A map to a map of the same shape, beyond its border zeros."""
        if torch.is_grad_enabled() and features.device.type == "cpu" and not torch.compiler.is_compiling():
            if torch.is_autocast_enabled("cpu"):
                features = features.to(torch.get_autocast_dtype("cpu"))
            return _Depthwise.apply(features, self.weight, self.bias)
        return _convolve(features, self.weight, self.bias)


def _convolve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(features, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    """The gradient of the map as a convolution with the turned kernel, that of the kernel in float32."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.has_bias = bias is not None
        return _convolve(features, weight.to(features.dtype), None if bias is None else bias.to(features.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weight = ctx.saved_tensors
        # Quicker than PyTorch's own gradient of the map, which is the same product.
        of_features = _convolve(grad, weight.flip(2, 3).to(grad.dtype), None)
        # oneDNN has no quick kernel for this one in bfloat16.
        dtype = location_dtype(features)
        padding = weight.shape[-1] // 2
        geometry = ([1, 1], [padding, padding], [1, 1], False, [0, 0], len(weight))
        _, of_weight, _ = torch.ops.aten.convolution_backward(
            grad.to(dtype), features.to(dtype), weight.to(dtype), None, *geometry, [False, True, False]
        )
        return of_features, of_weight, grad.sum((0, 2, 3), dtype=dtype) if ctx.has_bias else None


def is_depthwise(layer: nn.Module) -> bool:
    """Whether ``layer`` is a convolution of each channel by itself, of stride 1."""
    if not isinstance(layer, nn.Conv2d) or not layer.groups == layer.in_channels == layer.out_channels > 1:
        return False
    return (layer.stride, layer.dilation) == ((1, 1), (1, 1))
