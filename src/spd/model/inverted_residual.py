"""The blocks of EfficientNet-Lite: timm's, in fewer passes over their maps on a CPU (Sandler et al. 2018)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models._efficientnet_blocks import DepthwiseSeparableConv
from timm.models._efficientnet_blocks import InvertedResidual as TimmBlock
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from spd import native
from spd.exporting import is_exporting
from spd.model.packed_linear import linear, packed_weight
from spd.model.precision import cast, product_dtype
from spd.native.calls import LANES, served_type
from spd.native.relu6_depthwise import relu6_depthwise


class InvertedResidual(nn.Module):
    """x + narrow(relu6(depthwise(relu6(widen(x))))), each convolution with a batch norm; without x where shapes differ.

    The first block of the network has no ``widen``.

    Batch norms whose statistics stay as they are (in evaluation, and frozen in training) are scales and shifts. They
    enter the weights and biases of their convolutions, so they cost no pass over a map.

    Args:
        source: of timm; its parts become this module's, under the same names.
    """

    conv_pw: nn.Conv2d
    conv_dw: nn.Conv2d
    conv_pwl: nn.Conv2d
    bn1: nn.BatchNorm2d
    bn2: nn.BatchNorm2d
    bn3: nn.BatchNorm2d

    def __init__(self, source: TimmBlock | DepthwiseSeparableConv) -> None:
        super().__init__()
        self.has_skip = source.has_skip
        self.is_widening = isinstance(source, TimmBlock)
        names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        for name in names if self.is_widening else ("conv_dw", "bn1", "conv_pw", "bn2"):
            setattr(self, name, getattr(source, name))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """H and W are multiples of the block's stride."""
        widening, depthwise, narrowing = self.layers()
        wide = features if widening is None else convolve(*widening, features)
        convolution, norm = depthwise
        if _is_quick(norm, wide):
            kernel, bias = folded(convolution, norm)
            cells, taps = wide.permute(0, 2, 3, 1), kernel.flatten(1).t()
            mid = relu6_depthwise(cells, taps, bias, convolution.stride[0]).permute(0, 3, 1, 2)
        else:
            mid = F.relu6(convolve(*depthwise, F.relu6(wide)))
        narrow = convolve(*narrowing, mid)
        return features + narrow if self.has_skip else narrow

    def layers(self) -> tuple[Layer | None, Layer, Layer]:
        """The widening convolution, the depthwise one and the narrowing one, each with its norm."""
        if self.is_widening:
            return (self.conv_pw, self.bn1), (self.conv_dw, self.bn2), (self.conv_pwl, self.bn3)
        return None, (self.conv_dw, self.bn1), (self.conv_pw, self.bn2)


def _is_quick(norm: nn.BatchNorm2d, wide: Tensor) -> bool:
    """Whether the kernel convolves: not in compiled programs and exported graphs, nor with moving statistics."""
    if torch.compiler.is_compiling() or is_exporting() or norm.training:
        return False
    return wide.shape[1] % LANES == 0 and served_type(wide)


Layer = tuple[nn.Conv2d, nn.BatchNorm2d]
"""A convolution without bias and the norm that follows it; the norm's own activation is left to the block."""


def convolve(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, features: Float[Tensor, "B C H W"]) -> Tensor:
    """The norm of the convolution, padded as TensorFlow's ``SAME``; no activation.

    Args:
        convolution: with a bias where there is no norm.
        norm: None where the convolution holds it (:func:`with_folded_residuals`).
        features: with sides that are multiples of the stride.
    """
    if norm is None:
        stride, groups = convolution.stride[0], convolution.groups
        return _same_convolution(features, convolution.weight, convolution.bias, stride, groups)
    if norm.training:
        groups = convolution.groups
        return _normalised(norm, _same_convolution(features, convolution.weight, None, convolution.stride[0], groups))
    weight, bias = folded(convolution, norm)
    if convolution.kernel_size == (1, 1):
        return F.linear(features.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return _same_convolution(features, weight, bias, convolution.stride[0], convolution.groups)


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does the work of both, with fixed statistics; differentiable.

    With scale a = γ / √(σ² + ε) the weight is a·W and the bias β - a·μ.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return convolution.weight * scale[:, None, None, None], norm.bias - scale * norm.running_mean


def _same_convolution(features: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
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


class FoldedResidual(nn.Module):
    """An :class:`InvertedResidual` that only answers: three layers, whose weights hold the norms.

    Args:
        block: in evaluation mode; its parameters are copied into those of the layers.
    """

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        widening, depthwise, narrowing = block.layers()
        self.has_skip = block.has_skip
        self.stride = block.conv_dw.stride[0]
        self.widen = None if widening is None else _as_linear(*widening)
        with torch.no_grad():
            kernel, bias = folded(*depthwise)
        self.kernel = nn.Parameter(kernel, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.taps = nn.Parameter(kernel.flatten(1).t().contiguous(), requires_grad=False)
        self.narrow = _as_linear(*narrowing)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """H and W are multiples of the block's stride."""
        cells = features.permute(0, 2, 3, 1)
        narrow = packed_weight(self.narrow, cells)
        if narrow is not None:
            return self._by_kernel(cells, narrow).permute(0, 3, 1, 2)
        wide = cells if self.widen is None else linear(self.widen, cells)
        residual = cells if self.has_skip else None
        return linear(self.narrow, self._convolved(wide), added=residual).permute(0, 3, 1, 2)

    def _by_kernel(self, cells: Float[Tensor, "B H W C"], narrow: Tensor) -> Float[Tensor, "B h w D"]:
        """All layers at once, with the packed weights of the last."""
        dtype = narrow.dtype
        widen = widen_bias = None
        if self.widen is not None:
            widen, widen_bias = packed_weight(self.widen, cells), cast(self.widen.bias, dtype)
        return native.inverted_residual(
            *(cast(cells, dtype), widen, widen_bias, self.taps, self.bias, narrow, cast(self.narrow.bias, dtype)),
            self.stride,
            skips=self.has_skip,
        )

    def _convolved(self, wide: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w C"]:
        if native.serves(wide, wide.shape[3]):
            return relu6_depthwise(wide, self.taps, self.bias, self.stride)
        dtype = product_dtype(wide)
        maps = F.relu6(cast(wide, dtype)).permute(0, 3, 1, 2)
        kernel, bias = cast(self.kernel, dtype), cast(self.bias, dtype)
        return F.relu6(_same_convolution(maps, kernel, bias, self.stride, len(kernel))).permute(0, 2, 3, 1)


def _as_linear(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Linear:
    """A 1×1 convolution with its norm."""
    layer = nn.Linear(convolution.in_channels, convolution.out_channels, device=convolution.weight.device)
    with torch.no_grad():
        weight, bias = folded(convolution, norm)
        layer.weight.copy_(weight.flatten(1))
        layer.bias.copy_(bias)
    return layer.to(convolution.weight.dtype).requires_grad_(False)


def _as_convolution(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution with its norm."""
    layer = copy.deepcopy(convolution)
    with torch.no_grad():
        weight, bias = folded(convolution, norm)
    layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return layer


def with_folded_residuals(network: nn.Module) -> nn.Module:
    """A copy with a :class:`FoldedResidual` in the place of every block, and with the norm of the stem before them in
    its convolution; the network itself if it has none."""
    if not any(isinstance(module, InvertedResidual) for module in network.modules()):
        return network
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, InvertedResidual):
                setattr(module, name, FoldedResidual(child))
        if isinstance(module, EfficientNet):
            assert isinstance(module.conv_stem, nn.Conv2d)
            assert isinstance(module.bn1, nn.BatchNorm2d)
            module.conv_stem, module.bn1 = _as_convolution(module.conv_stem, module.bn1), nn.Identity()
    return copied


def replace_inverted_residuals(blocks: nn.Sequential) -> None:
    """Put an :class:`InvertedResidual` in the place of every block in timm's groups of blocks."""
    for group in blocks:
        for name, block in group.named_children():
            assert isinstance(block, (TimmBlock, DepthwiseSeparableConv)), block
            setattr(group, name, InvertedResidual(block))
