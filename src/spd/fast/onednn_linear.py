"""Linear layers and their GELU by oneDNN: one pass over the result, where the kernels do not multiply."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spd.fast.precision import product_dtype
from spd.fast.torch_internals import has_pointwise_linear, pointwise_linear


def linear_gelu(
    tokens: Float[Tensor, "*N C"], weight: Float[Tensor, "W C"], bias: Float[Tensor, "W"]
) -> Float[Tensor, "*N W"]:
    """GELU of a linear layer, exact (by the error function), under autocast in its precision.

    When answering on a CPU, oneDNN adds the bias and applies GELU to the product while that is in the cache. PyTorch's
    own linear layer first fills the result with the bias, and GELU then reads and writes it once more.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return F.gelu(F.linear(tokens, weight, bias))
    dtype = product_dtype(tokens)
    if not ((dtype == torch.bfloat16 or _pays(tokens, weight)) and has_pointwise_linear(tokens.device.type, dtype)):
        # In its place, without a second map of that size.
        return torch.ops.aten.gelu_(F.linear(tokens, weight, bias))
    return pointwise_linear(tokens.to(dtype), weight.to(dtype), bias.to(dtype), gelu=True)


def tall_linear(
    tokens: Float[Tensor, "*N C"], weight: Float[Tensor, "W C"], bias: Float[Tensor, "W"]
) -> Float[Tensor, "*N W"]:
    """A linear layer.

    When answering oneDNN runs it, in float32 too if there are many tokens: it does not fill in the bias first.
    """
    dtype = product_dtype(tokens)
    plain = torch.compiler.is_compiling() or torch.is_grad_enabled()
    if plain or not (_pays(tokens, weight) and has_pointwise_linear(tokens.device.type, dtype)):
        return F.linear(tokens, weight, bias)
    return pointwise_linear(tokens.to(dtype), weight.to(dtype), bias.to(dtype), gelu=False)


def _pays(tokens: Tensor, weight: Tensor) -> bool:
    """Otherwise oneDNN takes longer to lay out the weights than it saves in float32."""
    return tokens.shape[:-1].numel() > weight.shape[0]
