"""Whether the kernels answer, and calling them with tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import torch
from torch import Tensor

from spd.fast.library import library
from spd.fast.operators.brgemm import multiplied_types
from spd.fast.torch_internals import is_watched_by_pytorch

LANES = 8
"""Channels are read so many at a time at least."""
OPERATORS = torch.library.Library("spd", "DEF")
_DISABLED = ContextVar("disabled", default=False)

Argument: TypeAlias = "Tensor | ctypes.Array | float | int | None"


def is_supported(features: Tensor, channels: int) -> bool:
    """Whether the kernels answer for features of so many channels: without a gradient, on a CPU that has them."""
    return not torch.is_grad_enabled() and channels % LANES == 0 and is_supported_type(features)


def is_supported_type(features: Tensor) -> bool:
    """Whether there are kernels for features of that type where they are."""
    return features.device.type == "cpu" and features.dtype in _SUFFIXES and is_available()


def is_product_supported(features: Tensor, channels: int, dtype: torch.dtype) -> bool:
    """Whether the kernels with products answer likewise, for features that are multiplied as ``dtype``."""
    return is_supported(features, channels) and _multiplied(dtype)


@contextmanager
def disabled() -> Iterator[None]:
    """PyTorch's own operators alone: to compare with. Programs that are compiled inside stay without kernels."""
    token = _DISABLED.set(True)
    try:
        yield
    finally:
        _DISABLED.reset(token)


@torch.compiler.assume_constant_result
def is_available() -> bool:
    """Whether there are kernels, and they are not left out."""
    return not _DISABLED.get() and library() is not None


@torch.compiler.assume_constant_result
def _multiplied(dtype: torch.dtype) -> bool:
    return dtype in multiplied_types()


def run(name: str, kernel: Callable[..., Any], *arguments: Any) -> Any:
    """The operator of that name where someone wants to see it: compilers, tracers, profilers, and modes that count or
    watch operators. Else what it would run, which PyTorch takes 3 µs to find.
    """
    if torch.compiler.is_compiling() or is_watched_by_pytorch():
        return getattr(torch.ops.spd, name)(*arguments)
    return kernel(*arguments)


_SUFFIXES = {torch.float32: "_float32", torch.bfloat16: "_bfloat16"}


def call(name: str, first: Tensor, *arguments: Argument) -> bool:
    """A kernel by the type of its first tensor, on as many threads as PyTorch has; what it returns, if anything.

    It takes microseconds, which count: a query of one point makes a hundred such calls.
    """
    kernels = library()
    assert kernels is not None, f"{name} was called without kernels"
    kernel = getattr(kernels, name + _SUFFIXES[first.dtype])
    if kernel.argtypes is None:
        kernel.argtypes = [*map(_c_type, (first, *arguments)), ctypes.c_int]
        kernel.restype = ctypes.c_bool
    # Tensor is the usual kind, and None and numbers are passed as they are.
    pointers = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    return kernel(first.data_ptr(), *pointers, torch.get_num_threads())


def _c_type(argument: Argument) -> type[ctypes._SimpleCData]:
    if isinstance(argument, float):
        return ctypes.c_float
    return ctypes.c_int64 if isinstance(argument, int) else ctypes.c_void_p


def call_product(name: str, first: Tensor, *arguments: Argument) -> None:
    """:func:`call` for a kernel with products.

    Raises:
        RuntimeError: PyTorch refused one, as it does where oneDNN was switched off meanwhile.
    """
    assert first.dtype in multiplied_types(), f"{name} was called for {first.dtype}, which the kernels do not multiply"
    if not call(name, first, *arguments):
        raise RuntimeError(
            f"PyTorch refused a product of {first.dtype} that it computed before; SPD_NATIVE=0 does without such calls"
        )
