"""Kernels for answering on a CPU, compiled where there is a C++ compiler; elsewhere PyTorch's operators answer."""

from spd.native.operators import (
    canvas_step,
    deformable_read,
    depthwise_norm,
    disabled,
    gelu_with_squares_,
    serves,
    weighted_rows,
)

__all__ = [
    "canvas_step",
    "deformable_read",
    "depthwise_norm",
    "disabled",
    "gelu_with_squares_",
    "serves",
    "weighted_rows",
]
