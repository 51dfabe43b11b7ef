"""Kernels for answering on a CPU, compiled where there is a C++ compiler; elsewhere PyTorch's operators answer."""

from spd.fast.operators.attention import attention
from spd.fast.operators.calls import (
    LANES,
    disabled,
    is_available,
    is_product_supported,
    is_supported,
    is_supported_type,
)
from spd.fast.operators.inverted_residual import inverted_residual
from spd.fast.operators.maps import (
    canvas_step,
    deformable_read,
    depthwise_norm,
    gelu_with_squares_,
    weighted_rows,
    weighted_rows_gradient,
)
from spd.fast.operators.products import FEW_ROWS, fc1, fc2, few_rows, linear, pack

__all__ = [
    "FEW_ROWS",
    "LANES",
    "attention",
    "canvas_step",
    "deformable_read",
    "depthwise_norm",
    "disabled",
    "fc1",
    "fc2",
    "few_rows",
    "gelu_with_squares_",
    "inverted_residual",
    "is_available",
    "is_product_supported",
    "is_supported",
    "is_supported_type",
    "linear",
    "pack",
    "weighted_rows",
    "weighted_rows_gradient",
]
