"""Linear layers by the quickest means: the kernels, oneDNN on weights that are packed once, or PyTorch."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd.fast import operators
from spd.fast.onednn_linear import linear_gelu, tall_linear
from spd.fast.precision import cast, product_dtype
from spd.fast.torch_internals import has_pointwise_linear, pointwise_linear, reordered_linear_weight

Linear: TypeAlias = "nn.Linear | nn.Conv2d"
"""A linear layer, or a 1×1 convolution, which is one of every cell."""
_TOKENS_THAT_PAY = 512
"""With fewer, weights that are packed at every call take longer than their product saves."""


def linear(
    layer: Linear,
    tokens: Float[Tensor, "*N C"],
    *,
    gelu: bool = False,
    residual: Float[Tensor, "*N W"] | None = None,
) -> Float[Tensor, "*N W"]:
    """W x + b, its exact GELU if asked, plus the residual.

    Args:
        layer: of the weights.
        tokens: x.
        gelu: whether GELU follows.
        residual: None is zero.
    """
    multiply, weight = operators.few_rows, _weight_for_few(layer, tokens)
    if weight is None:
        multiply, weight = operators.linear, packed_weight(layer, tokens)
    if weight is None:
        result = _by_pytorch(layer, tokens, gelu)
        return result if residual is None else residual + result
    tokens, bias = cast(tokens, weight.dtype), None if layer.bias is None else cast(layer.bias, weight.dtype)
    if residual is None or residual.dtype == weight.dtype:
        return multiply(tokens, weight, bias, residual, gelu=gelu)
    return residual + multiply(tokens, weight, bias, gelu=gelu)


def packed_weight(layer: Linear, tokens: Float[Tensor, "*N D"]) -> Float[Tensor, "W C"] | None:
    """The weights of ``layer`` as the kernels read them, in the precision of the product; None where PyTorch is to
    multiply.

    Args:
        layer: of the weights.
        tokens: as many as it is given, of the same type; its input, or what that is made of.
    """
    out_features, in_features = layer.weight.shape[:2]
    if out_features % operators.LANES or (isinstance(layer, PackedLinear) and not layer.by_kernels):
        return None
    dtype = product_dtype(tokens)
    is_packed = isinstance(layer, PackedLinear) and layer.weight.dtype == dtype
    if not torch.compiler.is_compiling() and tokens.shape[:-1].numel() < (1 if is_packed else _TOKENS_THAT_PAY):
        return None
    if not operators.is_product_supported(tokens, in_features, dtype):
        return None
    # A compiler whose weights are constants packs them once.
    if isinstance(layer, PackedLinear) and is_packed:
        return layer.packed_weight()
    return operators.pack(layer.weight.flatten(1).to(dtype))


def _weight_for_few(layer: Linear, tokens: Tensor) -> Tensor | None:
    """The weights as they are, where few enough tokens pass them; None elsewhere."""
    if not isinstance(layer, PackedLinear) or not layer.by_kernels or layer.out_features % operators.LANES:
        return None
    # A program for any number of points is not for one.
    most = 1 if torch.compiler.is_compiling() else operators.FEW_ROWS
    if not 1 <= tokens.shape[:-1].numel() <= most:
        return None
    is_ready = layer.weight.dtype == product_dtype(tokens) and operators.is_supported(tokens, layer.in_features)
    return layer.weight if is_ready else None


def _by_pytorch(layer: Linear, tokens: Tensor, gelu: bool) -> Tensor:
    weight = layer.weight.flatten(1)
    if isinstance(layer, PackedLinear):
        reordered = layer.reordered_weight(tokens)
        if reordered is not None:
            return pointwise_linear(tokens.to(reordered.dtype), reordered, layer.bias, gelu=gelu)
    if layer.bias is None:
        wide = F.linear(tokens, weight)
        return F.gelu(wide) if gelu else wide
    return linear_gelu(tokens, weight, layer.bias) if gelu else tall_linear(tokens, weight, layer.bias)


class PackedLinear(nn.Linear):
    """A linear layer that packs its weights once and not at every call.

    Of use where the weights stay as they are: what is written to them after the first call is not seen. With a gradient
    it is a plain linear layer. Where the package's kernels do not multiply, oneDNN does in bfloat16.
    """

    by_kernels: bool
    _packed: Tensor | None = None
    _reordered: Tensor | None = None

    @classmethod
    def from_module(cls, plain: Linear, *, weight: Tensor | None = None, by_kernels: bool = True) -> PackedLinear:
        """With the parameters of a linear layer or of a 1×1 convolution.

        Args:
            plain: what it stands in for.
            weight: (W, C); None is that of ``plain``.
            by_kernels: whether the kernels may multiply.
        """
        packed = cls.__new__(cls)
        nn.Module.__init__(packed)
        if weight is None:
            weight = plain.weight if plain.weight.ndim == 2 else plain.weight.flatten(1)
        packed.out_features, packed.in_features = weight.shape
        packed.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
        packed.bias = plain.bias
        packed.by_kernels = by_kernels
        return packed.train(plain.training)

    def forward(self, input: Float[Tensor, "*N C"]) -> Float[Tensor, "*N W"]:
        """W x + b."""
        return linear(self, input)

    def packed_weight(self) -> Float[Tensor, "W C"]:
        """As the kernels read them."""
        if torch.compiler.is_compiling():
            return operators.pack(self.weight)
        if self._packed is None:
            self._packed = operators.pack(self.weight)
        return self._packed

    def reordered_weight(self, tokens: Tensor) -> Tensor | None:
        """As oneDNN reads them, in bfloat16; None where the plain layer runs."""
        dtype = product_dtype(tokens)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not tokens.numel():
            return None
        if not (dtype == self.weight.dtype == torch.bfloat16 and has_pointwise_linear(tokens.device.type, dtype)):
            return None
        if self._reordered is None:
            self._reordered = reordered_linear_weight(self.weight)
        return self._reordered
