"""Weighted sums of rows against a plain gather, forwards and backwards."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.fast.weighted_rows import FastWeightedRows
from spd.runtime.exportable import GatheredRows
from spd.weighted_rows import WeightedRows

KINDS = {kind.__name__: kind() for kind in (WeightedRows, FastWeightedRows, GatheredRows)}
"""Plain, quick and exportable."""


def _gathered(table: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (weights.unsqueeze(-1) * table[rows]).sum(1)


@settings(deadline=None, max_examples=30)
@given(
    num_rows=st.integers(1, 9),
    width=st.integers(1, 5),
    number=st.integers(0, 7),
    per_sum=st.integers(1, 6),
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 1000),
)
def test_it_is_a_gather_and_so_are_its_gradients(
    num_rows: int, width: int, number: int, per_sum: int, kind: str, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(num_rows, width, generator=generator, dtype=torch.float64).requires_grad_()
    rows = torch.randint(num_rows, (number, per_sum), generator=generator)
    weights = torch.randn(number, per_sum, generator=generator, dtype=torch.float64).requires_grad_()
    towards = torch.randn(number, width, generator=generator, dtype=torch.float64)
    found = KINDS[kind](table, rows, weights)
    expected = _gathered(table, rows, weights)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(found, (table, weights), towards),
        torch.autograd.grad(expected, (table, weights), towards),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


def test_without_gradients_it_is_the_same():
    table, rows, weights = torch.randn(5, 3), torch.tensor([[0, 4], [2, 2]]), torch.rand(2, 2)
    with torch.inference_mode():
        for sum_rows in KINDS.values():
            torch.testing.assert_close(sum_rows(table, rows, weights), _gathered(table, rows, weights))


def test_a_row_that_is_read_thousands_of_times_in_bfloat16_gets_its_whole_gradient():
    table = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    rows, weights = torch.zeros(4096, 1, dtype=torch.long), torch.ones(4096, 1, dtype=torch.bfloat16)
    FastWeightedRows()(table, rows, weights).sum().backward()
    # Summed in bfloat16, 256 + 1 would stay 256.
    assert table.grad is not None
    assert table.grad.flatten().tolist() == [4096.0, 0.0]


@settings(deadline=None, max_examples=40)
@given(
    num_rows=st.integers(1, 40),
    chunks=st.integers(1, 4),
    number=st.integers(0, 200),
    per_sum=st.integers(1, 6),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    threads=st.sampled_from((1, 2, 3)),
    seed=st.integers(0, 1000),
)
def test_gradients_of_widths_that_kernels_take_are_those_of_a_gather(
    num_rows: int, chunks: int, number: int, per_sum: int, dtype: torch.dtype, threads: int, seed: int
):
    """Against float64; the kernel sums in float32, PyTorch's operators where there is no compiler too."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(num_rows, 8 * chunks, generator=generator).to(dtype).requires_grad_()
    rows = torch.randint(num_rows, (number, per_sum), generator=generator)
    weights = torch.randn(number, per_sum, generator=generator).to(dtype).requires_grad_()
    towards = torch.randn(number, 8 * chunks, generator=generator).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torch.autograd.grad(FastWeightedRows()(table, rows, weights), (table, weights), towards)
    finally:
        torch.set_num_threads(before)
    double = table.detach().double().requires_grad_(), weights.detach().double().requires_grad_()
    expected = torch.autograd.grad(_gathered(double[0], rows, double[1]), double, towards.double())
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    for mine, theirs in zip(found, expected, strict=True):
        scale = max(1.0, theirs.abs().max().item()) if theirs.numel() else 1.0
        torch.testing.assert_close(mine.double() / scale, theirs / scale, atol=tolerance, rtol=0)
