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
