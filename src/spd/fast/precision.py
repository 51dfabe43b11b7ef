"""The precision in which a product runs."""

from __future__ import annotations

import torch
from torch import Tensor


def product_dtype(features: Tensor) -> torch.dtype:
    """Autocast's where it is on, else that of the features."""
    device = features.device.type
    # The meta device, where costs are counted, knows no autocast. Asking which do stops older compilers.
    under_autocast = device != "meta" and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if under_autocast else features.dtype


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor.to(dtype)`` without the call where it is one already, which for a query of one point is most of it."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
