"""Kernels for answering on a CPU, compiled where there is a C++ compiler; elsewhere PyTorch's operators answer."""

from spd.native.attention import attention
from spd.native.calls import LANES, at_hand, disabled, multiplies, served_type, serves
from spd.native.inverted_residual import inverted_residual
from spd.native.operators import (
    canvas_step,
    deformable_read,
    depthwise_norm,
    gelu_with_squares_,
    weighted_rows,
    weighted_rows_gradient,
)
from spd.native.products import FEW_ROWS, few_rows, linear, narrow, pack, widen

__all__ = [
    "FEW_ROWS",
    "LANES",
    "at_hand",
    "attention",
    "canvas_step",
    "deformable_read",
    "depthwise_norm",
    "disabled",
    "few_rows",
    "gelu_with_squares_",
    "inverted_residual",
    "linear",
    "multiplies",
    "narrow",
    "pack",
    "served_type",
    "serves",
    "weighted_rows",
    "weighted_rows_gradient",
    "widen",
]
