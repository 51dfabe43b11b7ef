"""The types that the kernels multiply, by oneDNN's kernels for blocks of a matrix product.

PyTorch calls them where its compiler joins a product with what follows it; so do the kernels here.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch

from spd.fast.library import library
from spd.fast.torch_internals import block_products, has_bfloat16_products


@lru_cache
def multiplied_types() -> frozenset[torch.dtype]:
    """What the kernels multiply here quicker than PyTorch's operators do: float32 by AVX-512, bfloat16 by AMX or by
    what some processors with AVX-512 have for pairs (AVX512_BF16).

    Each is tried once, and is left out where a release of PyTorch has no such kernel.
    """
    kernels = library()
    if kernels is None or not torch.backends.mkldnn.is_available():
        return frozenset()
    products = block_products()
    if products is None:
        return frozenset()
    is_quick = {
        torch.float32: torch.backends.cpu.get_cpu_capability().startswith("AVX512"),
        torch.bfloat16: has_bfloat16_products(),
    }
    return frozenset(
        dtype
        for dtype, product in products.by_type.items()
        if is_quick[dtype] and _is_accepted(kernels, dtype, product, products.release)
    )


def _is_accepted(kernels: ctypes.CDLL, dtype: torch.dtype, product: ctypes.c_void_p, release: ctypes.c_void_p) -> bool:
    take = getattr(kernels, f"take_products_{str(dtype).removeprefix('torch.')}")
    take.restype = ctypes.c_bool
    return take(product, release)
