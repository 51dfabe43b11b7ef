"""GELU(W x + b), in one pass over its result where PyTorch's oneDNN can: the wide half of every feed-forward layer."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spd.model.precision import product_dtype


def linear_gelu(
    rows: Float[Tensor, "*N C"], weight: Float[Tensor, "W C"], bias: Float[Tensor, "W"]
) -> Float[Tensor, "*N W"]:
    """GELU of a linear layer, exact (by the error function), under autocast in its precision.

    When answering on a CPU, oneDNN adds the bias and applies GELU to the product while that is in the cache. PyTorch's
    own linear layer first fills the result with the bias, and GELU then reads and writes it once more.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return F.gelu(F.linear(rows, weight, bias))
    dtype = product_dtype(rows)
    if not ((dtype == torch.bfloat16 or _pays(rows, weight)) and is_fused(rows.device.type, dtype)):
        # In its place, without a second map of that size.
        return torch.ops.aten.gelu_(F.linear(rows, weight, bias))
    return torch.ops.mkldnn._linear_pointwise(rows.to(dtype), weight.to(dtype), bias.to(dtype), "gelu", [], "none")


def tall_linear(
    rows: Float[Tensor, "*N C"], weight: Float[Tensor, "W C"], bias: Float[Tensor, "W"]
) -> Float[Tensor, "*N W"]:
    """A linear layer; when answering by oneDNN in float32 too if there are many rows: it does not fill in the bias."""
    dtype = product_dtype(rows)
    plain = torch.compiler.is_compiling() or torch.is_grad_enabled()
    if plain or not (_pays(rows, weight) and is_fused(rows.device.type, dtype)):
        return F.linear(rows, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(rows.to(dtype), weight.to(dtype), bias.to(dtype), "none", [], "none")


def _pays(rows: Tensor, weight: Tensor) -> bool:
    """Otherwise oneDNN takes longer to lay out the weights than it saves in float32."""
    return rows.shape[:-1].numel() > weight.shape[0]


@lru_cache
def is_fused(device_type: str, dtype: torch.dtype) -> bool:
    """Whether this machine's oneDNN has it; the operator is the one that ``torch.compile`` writes on a CPU."""
    if device_type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
