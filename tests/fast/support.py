"""What the tests of the kernels share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hypothesis import strategies as st
from torch import Tensor

PRECISIONS = st.sampled_from([torch.float32, torch.bfloat16])
THREADS = st.integers(1, 3)
WIDTHS = st.sampled_from([8, 16, 24, 40, 48])
"""Multiples of eight and of sixteen: vectors are of either width."""


@contextmanager
def threads_set(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_near(found: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    """To float32's rounding; to bfloat16's only where that is what the result is rounded to."""
    assert found.dtype == dtype
    relative, absolute = {torch.float32: (2e-6, 1e-5), torch.bfloat16: (2**-8, 1e-3)}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=relative, atol=absolute)


def random_heads(images: int, heads: int, length: int, width: int, dtype: torch.dtype, *, merged: bool) -> Tensor:
    """(images, heads, length, width): slices of the same rows, as after a projection, or one head after the other."""
    if merged:
        return torch.randn(images, length, heads, width).to(dtype).transpose(1, 2)
    return torch.randn(images, heads, length, width).to(dtype)


def exact_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d) V in float64, heads merged."""
    weights = (query.double() @ key.double().transpose(2, 3) / query.shape[3] ** 0.5).softmax(-1)
    return (weights @ value.double()).transpose(1, 2).flatten(2)
