"""Linear layers whose weights lie as their product reads them: for a network that only answers, on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd import native
from spd.model.linear_gelu import is_fused, linear_gelu, tall_linear
from spd.model.precision import cast, product_dtype

_ROWS_THAT_PAY = 512
"""With fewer, weights that are packed at every call take longer than their product saves."""


def linear(
    layer: nn.Linear | nn.Conv2d,
    rows: Float[Tensor, "*N C"],
    *,
    gelu: bool = False,
    added: Float[Tensor, "*N W"] | None = None,
) -> Float[Tensor, "*N W"]:
    """W x + b by the quickest means at hand, its exact GELU if asked, plus what is added.

    Args:
        layer: a linear layer, or a 1×1 convolution, which is one of every cell.
        rows: x.
        gelu: whether GELU follows.
        added: None is nothing.
    """
    multiply, weight = native.few_rows, _weight_for_few(layer, rows)
    if weight is None:
        multiply, weight = native.linear, packed_weight(layer, rows)
    if weight is None:
        result = _by_pytorch(layer, rows, gelu)
        return result if added is None else added + result
    rows, bias = cast(rows, weight.dtype), None if layer.bias is None else cast(layer.bias, weight.dtype)
    if added is None or added.dtype == weight.dtype:
        return multiply(rows, weight, bias, added, gelu=gelu)
    return added + multiply(rows, weight, bias, gelu=gelu)


def packed_weight(layer: nn.Linear | nn.Conv2d, rows: Float[Tensor, "*N D"]) -> Float[Tensor, "W C"] | None:
    """The weights of ``layer`` as the kernels read them, in the precision of the product; None where PyTorch is to
    multiply.

    Args:
        layer: a linear layer, or a 1×1 convolution.
        rows: as many as it is given, of the same type; its input, or what that is made of.
    """
    out_features, in_features = layer.weight.shape[:2]
    if out_features % native.LANES or is_watched(layer):
        return None
    dtype = product_dtype(rows)
    is_packed = isinstance(layer, PackedLinear) and layer.by_kernels and layer.weight.dtype == dtype
    if not torch.compiler.is_compiling() and rows.shape[:-1].numel() < (1 if is_packed else _ROWS_THAT_PAY):
        return None
    if not native.multiplies(rows, in_features, dtype) or (isinstance(layer, PackedLinear) and not layer.by_kernels):
        return None
    # A compiler whose weights are constants packs them once.
    if isinstance(layer, PackedLinear) and is_packed:
        return layer.packed()
    return native.pack(layer.weight.flatten(1).to(dtype))


def is_watched(layer: nn.Module) -> bool:
    """Whether it has hooks, whose owners want to see it called."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _weight_for_few(layer: nn.Linear | nn.Conv2d, rows: Tensor) -> Tensor | None:
    """The weights as they are, where few enough rows pass them; None elsewhere."""
    if not isinstance(layer, PackedLinear) or not layer.by_kernels or layer.out_features % native.LANES:
        return None
    # A program for any number of points is not for one.
    most = 1 if torch.compiler.is_compiling() else native.FEW_ROWS
    if not 1 <= rows.shape[:-1].numel() <= most or is_watched(layer):
        return None
    is_ready = layer.weight.dtype == product_dtype(rows) and native.serves(rows, layer.in_features)
    return layer.weight if is_ready else None


def _by_pytorch(layer: nn.Linear | nn.Conv2d, rows: Tensor, gelu: bool) -> Tensor:
    if isinstance(layer, nn.Linear) and is_watched(layer):
        wide = F.linear(rows, layer.weight, layer.bias) if isinstance(layer, PackedLinear) else layer(rows)
        return F.gelu(wide) if gelu else wide
    weight = layer.weight.flatten(1)
    if isinstance(layer, PackedLinear):
        laid_out = layer.laid_out(rows)
        if laid_out is not None:
            rows, then = rows.to(laid_out.dtype), "gelu" if gelu else "none"
            return torch.ops.mkldnn._linear_pointwise(rows, laid_out, layer.bias, then, [], "none")
    if layer.bias is None:
        wide = F.linear(rows, weight)
        return F.gelu(wide) if gelu else wide
    return linear_gelu(rows, weight, layer.bias) if gelu else tall_linear(rows, weight, layer.bias)


class PackedLinear(nn.Linear):
    """A linear layer that lays out its weights once and not at every call.

    Of use where the weights stay as they are: what is written to them after the first call is not seen. With a gradient
    it is a plain linear layer. Where the package's kernels do not multiply, oneDNN does in bfloat16.
    """

    by_kernels: bool
    _packed: Tensor | None = None
    _laid_out: Tensor | None = None

    @classmethod
    def of(cls, layer: nn.Linear | nn.Conv2d, *, weight: Tensor | None = None, by_kernels: bool = True) -> PackedLinear:
        """With the parameters of a linear layer or of a 1×1 convolution.

        Args:
            layer: what it stands for.
            weight: (W, C); None is that of ``layer``.
            by_kernels: whether the kernels may multiply.
        """
        packed = cls.__new__(cls)
        nn.Module.__init__(packed)
        if weight is None:
            weight = layer.weight if layer.weight.ndim == 2 else layer.weight.flatten(1)
        packed.out_features, packed.in_features = weight.shape
        packed.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
        packed.bias = layer.bias
        packed.by_kernels = by_kernels
        return packed.train(layer.training)

    def forward(self, input: Float[Tensor, "*N C"]) -> Float[Tensor, "*N W"]:
        """W x + b."""
        return linear(self, input)

    def packed(self) -> Float[Tensor, "W C"]:
        """As the kernels read them."""
        if torch.compiler.is_compiling():
            return native.pack(self.weight)
        if self._packed is None:
            self._packed = native.pack(self.weight)
        return self._packed

    def laid_out(self, rows: Tensor) -> Tensor | None:
        """As oneDNN reads them, in bfloat16; None where the plain layer runs."""
        dtype = product_dtype(rows)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not rows.numel():
            return None
        if not (dtype == self.weight.dtype == torch.bfloat16 and is_fused(rows.device.type, dtype)):
            return None
        if self._laid_out is None:
            self._laid_out = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        return self._laid_out
