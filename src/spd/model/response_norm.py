"""Global response normalisation, as timm's but cheaper (Woo et al. 2023, ConvNeXt V2, equations 1 to 4)."""

from __future__ import annotations

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn

from spd.coordinates import location_dtype


class ResponseNorm(nn.Module):
    """y = x · (1 + γ · n) + β with n = ‖x‖ / mean over channels of ‖x‖, the norm of a channel being over its map.

    PyTorch's ``vector_norm`` over the axes of a map is slow on a CPU, and timm then makes three more passes over x.
    Here it is a sum of squares, and one ``addcmul`` with the combined scale.

    Args:
        source: of timm; its parameters become this module's, so that weights keep their names. Both of its layouts
            occur: ConvNeXt's small sizes run their feed-forward as 1×1 convolutions on (B, C, H, W), the others as
            linear layers on (B, H, W, C).
    """

    def __init__(self, source: GlobalResponseNorm) -> None:
        super().__init__()
        self.eps: float = source.eps
        self.spatial_dim: tuple[int, int] = source.spatial_dim
        self.channel_dim: int = source.channel_dim
        self.parameter_shape: tuple[int, ...] = source.wb_shape
        self.weight = source.weight
        self.bias = source.bias

    def forward(self, features: Tensor) -> Tensor:
        """Maps in the layout of ``source``."""
        dtype = location_dtype(features)
        squares = (features * features).sum(self.spatial_dim, keepdim=True, dtype=dtype)
        # A map of zeros has no direction: clamped, its gradient is zero and not infinite.
        norm = squares.clamp_min(torch.finfo(dtype).tiny).sqrt()
        relative = norm / (norm.mean(self.channel_dim, keepdim=True) + self.eps)
        weight, bias = (parameter.view(self.parameter_shape) for parameter in (self.weight, self.bias))
        scale = 1 + weight * relative
        return torch.addcmul(bias.to(features.dtype), features, scale.to(features.dtype))


def replace_response_norms(module: nn.Module) -> None:
    """Put a :class:`ResponseNorm` in the place of every one of timm's inside ``module``."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, GlobalResponseNorm):
                setattr(parent, name, ResponseNorm(child))
