"""The kernels for a few rows and for one query against float64; they need no products."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fast.support import PRECISIONS, THREADS, WIDTHS, assert_near, exact_attention, random_heads, threads_set
from torch.utils.flop_counter import FlopCounterMode

from spd.fast import operators
from spd.fast.operators import calls

pytestmark = pytest.mark.usefixtures("kernels")
SIDES = st.sampled_from([8, 24, 40, 64, 72, 96, 200, 520])
"""Of weights: with what is left of a step of 64, of 16, and of neither; of one thread and of several."""


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 2), length=st.integers(0, 5), inner=SIDES, columns=SIDES, dtype=PRECISIONS, threads=THREADS,
    with_bias=st.booleans(), with_residual=st.booleans(), gelu=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_few_rows(images, length, inner, columns, dtype, threads, with_bias, with_residual, gelu, seed):
    torch.manual_seed(seed)
    rows = torch.randn(images, length, inner).to(dtype)
    weight = (torch.randn(columns, inner) / inner**0.5).to(dtype)
    bias = torch.randn(columns).to(dtype) if with_bias else None
    residual = torch.randn(images, length, columns).to(dtype) if with_residual else None
    exact = F.linear(rows.double(), weight.double(), None if bias is None else bias.double())
    exact = F.gelu(exact) if gelu else exact
    exact = exact if residual is None else exact + residual.double()
    with threads_set(threads), torch.inference_mode():
        found = operators.few_rows(rows, weight, bias, residual, gelu=gelu)
    assert_near(found, exact, dtype)


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 3), heads=st.integers(1, 5), keys=st.integers(1, 420), width=WIDTHS, dtype=PRECISIONS,
    threads=THREADS, merged=st.tuples(*[st.booleans()] * 3), scale=st.sampled_from([0.1, 1.0, 30.0]),
)  # fmt: skip
def test_one_query(images, heads, keys, width, dtype, threads, merged, scale):
    torch.manual_seed(keys)

    query, key, value = (
        random_heads(images, heads, length, width, dtype, merged=one)
        for length, one in zip((1, keys, keys), merged, strict=True)
    )
    query = query * scale
    exact = exact_attention(query, key, value)
    with threads_set(threads), torch.inference_mode():
        found = operators.attention(query, key, value)
    assert found.dtype == dtype
    # Scores of some hundreds are themselves rounded to 1e-5.
    tolerance = {torch.float32: 2e-5 if scale <= 1 else 3e-4, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


def test_one_query_needs_no_products(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calls, "multiplied_types", frozenset)
    query, key = torch.randn(1, 2, 1, 16), torch.randn(1, 2, 33, 16)
    with torch.inference_mode():
        found = operators.attention(query, key, key)
    plain = F.scaled_dot_product_attention(query, key, key).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, plain)


def test_types_and_shapes_that_differ_are_refused():
    rows, weight = torch.zeros(1, 2, 16), torch.zeros(24, 16)
    for arguments in (
        (rows, weight.bfloat16(), None, None),
        (rows[..., :8], weight, None, None),
        (rows, weight[:20], None, None),
        (rows, weight, None, torch.zeros(1, 1, 24)),
    ):
        with pytest.raises(AssertionError), torch.inference_mode():
            torch.ops.spd.few_rows(*arguments, False)


def test_their_products_are_counted():
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        operators.few_rows(torch.zeros(1, 3, 16), torch.zeros(24, 16))
        operators.attention(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 7, 8), torch.zeros(1, 2, 7, 8))
    assert counter.get_total_flops() == 2 * (3 * 16 * 24 + 2 * 2 * 7 * 8)
