"""A block of EfficientNet-Lite that only answers, by one kernel, its batch norms in its weights."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models._efficientnet_blocks import DepthwiseSeparableConv
from timm.models._efficientnet_blocks import InvertedResidual as TimmBlock
from torch import Tensor, nn

from spd.fast import operators
from spd.fast.inverted_residual import FastInvertedResidual, folded, same_convolution
from spd.fast.linear import linear, packed_weight
from spd.fast.operators.relu6_depthwise import relu6_depthwise
from spd.fast.precision import cast, product_dtype


class FoldedResidual(nn.Module):
    """A block of EfficientNet-Lite that only answers: three layers, whose weights hold the norms.

    Args:
        block: in evaluation mode; its parameters are copied into those of the layers.
    """

    def __init__(self, block: FastInvertedResidual) -> None:
        super().__init__()
        expand, depthwise, project = block.layers()
        self.has_skip = block.has_skip
        self.stride = block.conv_dw.stride[0]
        self.expand = None if expand is None else _as_linear(*expand)
        with torch.no_grad():
            kernel, bias = folded(*depthwise)
        self.kernel = nn.Parameter(kernel, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.taps = nn.Parameter(kernel.flatten(1).t().contiguous(), requires_grad=False)
        self.project = _as_linear(*project)

    @classmethod
    def from_module(cls, plain: TimmBlock | DepthwiseSeparableConv) -> FoldedResidual:
        """Of a block of timm."""
        return cls(FastInvertedResidual.from_module(plain))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """H and W are multiples of the block's stride."""
        cells = features.permute(0, 2, 3, 1)
        project = packed_weight(self.project, cells)
        if project is not None:
            return self._by_kernel(cells, project).permute(0, 3, 1, 2)
        wide = cells if self.expand is None else linear(self.expand, cells)
        residual = cells if self.has_skip else None
        return linear(self.project, self._convolved(wide), residual=residual).permute(0, 3, 1, 2)

    def _by_kernel(self, cells: Float[Tensor, "B H W C"], project: Tensor) -> Float[Tensor, "B h w D"]:
        """All layers at once, with the packed weights of the last."""
        dtype = project.dtype
        expand = expand_bias = None
        if self.expand is not None:
            expand, expand_bias = packed_weight(self.expand, cells), cast(self.expand.bias, dtype)
        return operators.inverted_residual(
            *(cast(cells, dtype), expand, expand_bias, self.taps, self.bias, project, cast(self.project.bias, dtype)),
            self.stride,
            skips=self.has_skip,
        )

    def _convolved(self, wide: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w C"]:
        if operators.is_supported(wide, wide.shape[3]):
            return relu6_depthwise(wide, self.taps, self.bias, self.stride)
        dtype = product_dtype(wide)
        maps = F.relu6(cast(wide, dtype)).permute(0, 3, 1, 2)
        kernel, bias = cast(self.kernel, dtype), cast(self.bias, dtype)
        return F.relu6(same_convolution(maps, kernel, bias, self.stride, len(kernel))).permute(0, 2, 3, 1)


def _as_linear(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Linear:
    """A 1×1 convolution with its norm."""
    layer = nn.Linear(convolution.in_channels, convolution.out_channels, device=convolution.weight.device)
    with torch.no_grad():
        weight, bias = folded(convolution, norm)
        layer.weight.copy_(weight.flatten(1))
        layer.bias.copy_(bias)
    return layer.to(convolution.weight.dtype).requires_grad_(False)


def as_convolution(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution with its norm."""
    layer = copy.deepcopy(convolution)
    with torch.no_grad():
        weight, bias = folded(convolution, norm)
    layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return layer
