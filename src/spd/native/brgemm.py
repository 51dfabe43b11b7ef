"""oneDNN's kernels for blocks of a matrix product (BRGEMM, batch-reduce GEMM), as PyTorch exports them.

PyTorch calls them where its compiler joins a product with what follows it; so do the kernels here.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch

from spd.native.library import library


@lru_cache
def multiplied_types() -> frozenset[torch.dtype]:
    """What they multiply here quicker than PyTorch's operators do: float32 by AVX-512, bfloat16 by AMX or by what some
    processors with AVX-512 have for pairs (AVX512_BF16).

    Each is tried once, and is left out where a release of PyTorch has no such kernel.
    """
    kernels = library()
    if kernels is None or not torch.backends.mkldnn.is_available():
        return frozenset()
    quick = {
        torch.float32: torch.backends.cpu.get_cpu_capability().startswith("AVX512"),
        torch.bfloat16: torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported(),
    }
    try:
        pytorch = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        release = _exported(pytorch, "brgemm_release", "b")
        products = {
            torch.float32: _exported(pytorch, "brgemm", "llllllbPKfS3_Pfb"),
            torch.bfloat16: _exported(pytorch, "brgemm", "llllllbPKN3c108BFloat16ES5_Pfb"),
        }
    except (OSError, AttributeError):
        return frozenset()
    return frozenset(
        dtype for dtype, product in products.items() if quick[dtype] and _taken(kernels, dtype, product, release)
    )


def _exported(pytorch: ctypes.CDLL, name: str, parameters: str) -> ctypes.c_void_p:
    """A function of ``at::native::cpublas``, its parameters as C++ compilers write them into its name.

    Raises:
        AttributeError: there is none.
    """
    return ctypes.cast(getattr(pytorch, f"_ZN2at6native7cpublas{len(name)}{name}E{parameters}"), ctypes.c_void_p)


def _taken(kernels: ctypes.CDLL, dtype: torch.dtype, product: ctypes.c_void_p, release: ctypes.c_void_p) -> bool:
    take = getattr(kernels, f"take_products_{str(dtype).removeprefix('torch.')}")
    take.restype = ctypes.c_bool
    return take(product, release)
