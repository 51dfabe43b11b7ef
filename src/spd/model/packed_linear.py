"""Linear layers whose weights lie as oneDNN multiplies them: for a network that only answers, on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd.model.linear_gelu import linear_gelu, tall_linear
from spd.model.precision import product_dtype


class PackedLinear(nn.Linear):
    """A linear layer that lays out its weights for oneDNN once and not at every call.

    Of use where the weights stay as they are: what is written to them after the first call is not seen. With a
    gradient and for a compiler it is a plain linear layer. In bfloat16 it saves a tenth of a product, which oneDNN
    computes in any case; in float32 there is little to lay out.
    """

    _packed: Tensor | None = None

    @classmethod
    def of(cls, layer: nn.Linear | nn.Conv2d) -> PackedLinear:
        """With the parameters of a linear layer or of a 1×1 convolution."""
        packed = cls.__new__(cls)
        nn.Module.__init__(packed)
        packed.out_features, packed.in_features = layer.weight.shape[:2]
        packed.weight = layer.weight if layer.weight.ndim == 2 else nn.Parameter(layer.weight.flatten(1))
        packed.bias = layer.bias
        return packed.train(layer.training)

    def forward(self, input: Float[Tensor, "*N C"]) -> Float[Tensor, "*N W"]:
        """W x + b."""
        rows = self._rows(input)
        if rows is None:
            return super().forward(input)
        return self._product(rows, "none")

    def gelu(self, rows: Float[Tensor, "*N C"]) -> Float[Tensor, "*N W"]:
        """GELU(W x + b), exact."""
        cast = self._rows(rows)
        if cast is None:
            assert self.bias is not None
            return linear_gelu(rows, self.weight, self.bias)
        return self._product(cast, "gelu")

    def _rows(self, rows: Tensor) -> Tensor | None:
        """In the precision of the product; None where the plain layer runs."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        dtype = product_dtype(rows)
        return rows.to(dtype) if dtype == self.weight.dtype and rows.numel() else None

    def _product(self, rows: Tensor, then: str) -> Tensor:
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, then, [], "none")


def wide_gelu(layer: nn.Linear | nn.Conv2d, rows: Float[Tensor, "*N C"]) -> Float[Tensor, "*N W"]:
    """GELU of a linear layer, or of a 1×1 convolution as one, by the quickest means at hand."""
    if isinstance(layer, PackedLinear):
        return layer.gelu(rows)
    if layer.bias is None:
        return F.gelu(F.linear(rows, layer.weight.flatten(1)))
    return linear_gelu(rows, layer.weight.flatten(1), layer.bias)


def wide_linear(layer: nn.Linear | nn.Conv2d, rows: Float[Tensor, "*N C"]) -> Float[Tensor, "*N W"]:
    """Likewise without GELU, for answering."""
    if isinstance(layer, PackedLinear):
        return layer(rows)
    if layer.bias is None:
        return F.linear(rows, layer.weight.flatten(1))
    return tall_linear(rows, layer.weight.flatten(1), layer.bias)
