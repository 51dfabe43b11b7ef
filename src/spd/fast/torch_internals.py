"""Every private thing of PyTorch that SPD touches, one function each, with what happens where it is gone.

Checked with PyTorch 2.8, 2.13 and 2.14.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import profiler

_COMPILER_SETTINGS = Lock()


def is_watched_by_pytorch() -> bool:
    """Whether a tracer, a profiler or a mode that counts operators is at work.

    Where PyTorch no longer says so, the answer is yes: operators are then called through its dispatcher, which takes
    3 µs each and is right for everybody.
    """
    try:
        seen = torch._C._get_tracing_state() is not None or profiler._is_profiler_enabled
        return seen or bool(torch._C._len_torch_dispatch_stack())
    except AttributeError:
        return True


def has_bfloat16_products() -> bool:
    """Whether the processor multiplies in bfloat16: by AMX, or by AVX512_BF16.

    Where PyTorch no longer says so, the kernels leave bfloat16 products to PyTorch.
    """
    try:
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    except AttributeError:
        return False


class BlockProducts(NamedTuple):
    """Addresses of oneDNN's kernels for blocks of a product (BRGEMM, batch-reduce GEMM), as PyTorch exports them."""

    by_type: dict[torch.dtype, ctypes.c_void_p]
    release: ctypes.c_void_p
    """To be called when a thread has multiplied."""


def block_products() -> BlockProducts | None:
    """From ``at::native::cpublas``, the functions that the code of ``torch.compile`` calls.

    None where this release of PyTorch exports none of these names: the kernels then leave products to PyTorch.
    """
    try:
        pytorch = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return BlockProducts(
            {
                torch.float32: _exported(pytorch, "brgemm", "llllllbPKfS3_Pfb"),
                torch.bfloat16: _exported(pytorch, "brgemm", "llllllbPKN3c108BFloat16ES5_Pfb"),
            },
            _exported(pytorch, "brgemm_release", "b"),
        )
    except (OSError, AttributeError):
        return None


def _exported(pytorch: ctypes.CDLL, name: str, parameters: str) -> ctypes.c_void_p:
    """A function of ``at::native::cpublas``, its parameters as C++ compilers write them into its name.

    Raises:
        AttributeError: there is none.
    """
    return ctypes.cast(getattr(pytorch, f"_ZN2at6native7cpublas{len(name)}{name}E{parameters}"), ctypes.c_void_p)


@lru_cache
def has_pointwise_linear(device_type: str, dtype: torch.dtype) -> bool:
    """Whether :func:`pointwise_linear` runs: oneDNN's operator, which ``torch.compile`` writes on a CPU.

    Where it is gone, PyTorch's own linear layer and GELU run one after the other.
    """
    if device_type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_linear_pointwise") or not hasattr(operators, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


def pointwise_linear(
    tokens: Float[Tensor, "*N C"], weight: Tensor, bias: Tensor | None, *, gelu: bool
) -> Float[Tensor, "*N W"]:
    """W x + b and its exact GELU, in one pass over the result; all of one type, for which
    :func:`has_pointwise_linear` holds.

    Args:
        tokens: x.
        weight: (W, C), or what :func:`reordered_linear_weight` made of it.
        bias: None is zero.
        gelu: whether GELU follows.
    """
    return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "gelu" if gelu else "none", [], "none")


def reordered_linear_weight(weight: Float[Tensor, "W C"]) -> Tensor:
    """The weights in oneDNN's own layout, opaque to everything but :func:`pointwise_linear`."""
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def require_cpp_compiler() -> None:
    """Refuse where ``torch.compile`` would find no C++ compiler, before anything waits for it.

    Where PyTorch no longer says so, ``torch.compile`` itself fails at the first answer.

    Raises:
        ValueError: there is none.
    """
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler
    except ImportError:
        return
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError("compiling for a CPU needs a C++ compiler such as g++, and none was found") from error


def vary_in_points(query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
    """A view of the points whose number ``torch.compile`` takes to vary."""
    import torch._dynamo

    query_points = query_points.view(query_points.shape)
    torch._dynamo.mark_dynamic(query_points, 1)
    return query_points


@contextmanager
def frozen_weights() -> Iterator[None]:
    """Settings of the process, that are read while it compiles: one thread at a time may have them.

    As an option of ``torch.compile`` freezing has no effect. Sizes of maps are never taken to vary, whatever was asked
    before: a program for any size is slower than that for one.

    Raises:
        ValueError: a program could not be made.
    """
    import torch._dynamo.config
    import torch._inductor.config
    from torch._dynamo.exc import BackendCompilerFailed

    with (
        _COMPILER_SETTINGS,
        torch._inductor.config.patch(freezing=True),
        torch._dynamo.config.patch(automatic_dynamic_shapes=False),
    ):
        try:
            yield
        except BackendCompilerFailed as error:
            raise ValueError(
                f"torch.compile failed; it needs a C++ compiler and Python's headers ({str(error).splitlines()[0]})"
            ) from error
