"""The blocks of EfficientNet-Lite in fewer passes over their maps, in training too (Sandler et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models._efficientnet_blocks import DepthwiseSeparableConv
from timm.models._efficientnet_blocks import InvertedResidual as TimmBlock
from torch import Tensor, nn

from spd.fast.operators.calls import LANES, is_supported_type
from spd.fast.operators.relu6_depthwise import relu6_depthwise


class FastInvertedResidual(nn.Module):
    """x + project(relu6(depthwise(relu6(expand(x))))), each convolution with a batch norm.

    Where shapes differ there is no x. The first block of the network has no ``expand``, and begins with the ReLU6 of
    the stem before it.

    Batch norms whose statistics stay as they are (in evaluation, and frozen in training) are scales and shifts. They
    enter the weights and biases of their convolutions, so they cost no pass over a map.
    """

    conv_pw: nn.Conv2d
    conv_dw: nn.Conv2d
    conv_pwl: nn.Conv2d
    bn1: nn.BatchNorm2d
    bn2: nn.BatchNorm2d
    bn3: nn.BatchNorm2d

    @classmethod
    def from_module(cls, plain: TimmBlock | DepthwiseSeparableConv) -> FastInvertedResidual:
        """With the parts of a block of timm, under the same names."""
        quick = cls()
        quick.has_skip = plain.has_skip
        quick.has_expansion = isinstance(plain, TimmBlock)
        names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        for name in names if quick.has_expansion else ("conv_dw", "bn1", "conv_pw", "bn2"):
            setattr(quick, name, getattr(plain, name))
        return quick

    def __init__(self) -> None:
        super().__init__()
        self.has_skip = False
        self.has_expansion = True

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """H and W are multiples of the block's stride."""
        expand, depthwise, project = self.layers()
        wide = features if expand is None else convolve(*expand, features)
        convolution, norm = depthwise
        if _is_quick(norm, wide):
            kernel, bias = folded(convolution, norm)
            cells, taps = wide.permute(0, 2, 3, 1), kernel.flatten(1).t()
            mid = relu6_depthwise(cells, taps, bias, convolution.stride[0]).permute(0, 3, 1, 2)
        else:
            mid = F.relu6(convolve(*depthwise, F.relu6(wide)))
        projected = convolve(*project, mid)
        return features + projected if self.has_skip else projected

    def layers(self) -> tuple[Layer | None, Layer, Layer]:
        """The expanding convolution, the depthwise one and the projecting one, each with its norm."""
        if self.has_expansion:
            return (self.conv_pw, self.bn1), (self.conv_dw, self.bn2), (self.conv_pwl, self.bn3)
        return None, (self.conv_dw, self.bn1), (self.conv_pw, self.bn2)


def _is_quick(norm: nn.BatchNorm2d, wide: Tensor) -> bool:
    """Whether the kernel convolves: not in compiled programs, nor with moving statistics."""
    if torch.compiler.is_compiling() or norm.training:
        return False
    return wide.shape[1] % LANES == 0 and is_supported_type(wide)


Layer = tuple[nn.Conv2d, nn.BatchNorm2d]
"""A convolution without bias and the norm that follows it; the norm's own activation is left to the block."""


def convolve(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, features: Float[Tensor, "B C H W"]) -> Tensor:
    """The norm of the convolution, padded as TensorFlow's ``SAME``; no activation.

    Args:
        convolution: with a bias where there is no norm.
        norm: None where the convolution holds it (:func:`spd.fast.folded_residual.as_convolution`).
        features: with sides that are multiples of the stride.
    """
    if norm is None:
        stride, groups = convolution.stride[0], convolution.groups
        return same_convolution(features, convolution.weight, convolution.bias, stride, groups)
    if norm.training:
        groups = convolution.groups
        return _normalised(norm, same_convolution(features, convolution.weight, None, convolution.stride[0], groups))
    weight, bias = folded(convolution, norm)
    if convolution.kernel_size == (1, 1):
        return F.linear(features.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return same_convolution(features, weight, bias, convolution.stride[0], convolution.groups)


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does the work of both, with fixed statistics; differentiable.

    With scale a = γ / √(σ² + ε) the weight is a·W and the bias β - a·μ.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return convolution.weight * scale[:, None, None, None], norm.bias - scale * norm.running_mean


def same_convolution(features: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    """Padded as TensorFlow's ``SAME``, for sides that are multiples of the stride."""
    padding = weight.shape[-1] - stride
    if padding % 2:
        before = padding // 2
        features = F.pad(features, (before, padding - before) * 2)
        padding = 0
    return F.conv2d(features, weight, bias, stride, padding // 2, groups=groups)


def _normalised(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    """The norm with moving statistics, without timm's activation after it."""
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return F.batch_norm(
        features, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, norm.momentum or 0.0, norm.eps
    )
