"""The kernels with matrix products against float64, on any shape, in both precisions and on any number of threads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fast.support import PRECISIONS, THREADS, WIDTHS, assert_near, exact_attention, random_heads, threads_set
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spd.fast import operators, torch_internals
from spd.fast.operators import brgemm, calls
from spd.fast.operators.brgemm import multiplied_types

pytestmark = pytest.mark.usefixtures("kernels")
COLUMNS = st.sampled_from([8, 24, 40, 64, 72, 96, 200, 208, 400])
"""Of one block of packed weights, of several, and with a last block that is narrower."""
INNER = st.sampled_from([8, 16, 40, 96, 520, 776])
"""Of one step along a product, and of several."""


@pytest.fixture(autouse=True)
def products(kernels: None) -> None:
    if multiplied_types() != {torch.float32, torch.bfloat16}:
        pytest.skip("the kernels multiply float32 with AVX-512, and bfloat16 with what it adds for it or AMX")


def _random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape).to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 300), inner=INNER, columns=COLUMNS, dtype=PRECISIONS, threads=THREADS,
    with_bias=st.booleans(), with_residual=st.booleans(), gelu=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_linear(length, inner, columns, dtype, threads, with_bias, with_residual, gelu, seed):
    torch.manual_seed(seed)
    rows, weight = _random(2, length, inner, dtype=dtype), (torch.randn(columns, inner) / inner**0.5).to(dtype)
    bias = _random(columns, dtype=dtype) if with_bias else None
    residual = _random(2, length, columns, dtype=dtype) if with_residual else None
    exact = F.linear(rows.double(), weight.double(), None if bias is None else bias.double())
    exact = F.gelu(exact) if gelu else exact
    exact = exact if residual is None else exact + residual.double()
    with threads_set(threads), torch.inference_mode():
        found = operators.linear(rows, operators.pack(weight), bias, residual, gelu=gelu)
    assert_near(found, exact, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_with_weights_beyond_the_cache(dtype: torch.dtype):
    """Their blocks are taken one after the other, each for all rows."""
    torch.manual_seed(0)
    rows, weight = _random(1, 150, 1464, dtype=dtype), (torch.randn(1480, 1464) / 1464**0.5).to(dtype)
    bias = _random(1480, dtype=dtype)
    exact = F.linear(rows.double(), weight.double(), bias.double())
    for number in (1, 3):
        with threads_set(number), torch.inference_mode():
            found = operators.linear(rows, operators.pack(weight), bias)
        assert_near(found, exact, dtype)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 3), length=st.integers(1, 140), inner=st.sampled_from([8, 40, 96]), columns=COLUMNS,
    dtype=PRECISIONS, threads=THREADS,
)  # fmt: skip
def test_widen(images, length, inner, columns, dtype, threads):
    torch.manual_seed(length)
    rows, weight = _random(images, length, inner, dtype=dtype), (torch.randn(columns, inner) / inner**0.5).to(dtype)
    bias = _random(columns, dtype=dtype)
    exact = F.gelu(F.linear(rows.double(), weight.double(), bias.double()))
    with threads_set(threads), torch.inference_mode():
        found, squares = operators.fc1(rows, operators.pack(weight), bias)
    assert_near(found, exact, dtype)
    assert squares.dtype == torch.float32
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-3}[dtype]
    torch.testing.assert_close(squares.double(), exact.square().sum(1), rtol=tolerance, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 3), length=st.integers(1, 140), inner=st.sampled_from([8, 48, 96, 520]),
    columns=st.sampled_from([8, 24, 64, 96, 208]), dtype=PRECISIONS, threads=THREADS, with_residual=st.booleans(),
)  # fmt: skip
def test_narrow(images, length, inner, columns, dtype, threads, with_residual):
    """Fewer rows than columns scale the rows, more of them the weights."""
    torch.manual_seed(length)
    rows, weight = _random(images, length, inner, dtype=dtype), (torch.randn(columns, inner) / inner**0.5).to(dtype)
    bias, gamma, beta = _random(columns, dtype=dtype), torch.randn(inner), torch.randn(inner)
    residual = _random(images, length, columns, dtype=dtype) if with_residual else None
    squares = rows.double().square().sum(1)
    norm = squares.sqrt()
    response = norm / (norm.mean(1, keepdim=True) + 1e-3)
    normed = rows.double() * (1 + gamma * response)[:, None] + beta
    exact = F.linear(normed, weight.double(), bias.double())
    exact = exact if residual is None else exact + residual.double()
    with threads_set(threads), torch.inference_mode():
        found = operators.fc2(rows, squares.float(), gamma, beta, 1e-3, operators.pack(weight), bias, residual)
    assert found.dtype == dtype
    # Weights or rows are rounded once more than the answer.
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2**-6}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance * exact.abs().max().item())


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 2), heads=st.integers(1, 3), queries=st.integers(2, 150), keys=st.integers(1, 420),
    width=WIDTHS, dtype=PRECISIONS, threads=THREADS, merged=st.tuples(*[st.booleans()] * 3),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
)  # fmt: skip
def test_attention(images, heads, queries, keys, width, dtype, threads, merged, scale):
    torch.manual_seed(queries)

    query, key, value = (
        random_heads(images, heads, length, width, dtype, merged=one)
        for length, one in zip((queries, keys, keys), merged, strict=True)
    )
    query = query * scale
    exact = exact_attention(query, key, value)
    with threads_set(threads), torch.inference_mode():
        found = operators.attention(query, key, value)
    assert found.dtype == dtype
    # Scores of some hundreds are themselves rounded to 1e-5.
    tolerance = {torch.float32: 2e-5 if scale <= 1 else 3e-4, torch.bfloat16: 2**-6}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_keeps_what_is_no_number_to_its_row(dtype: torch.dtype):
    query, key = torch.randn(1, 1, 20, 16).to(dtype), torch.randn(1, 1, 33, 16).to(dtype)
    query[0, 0, 4, 3] = torch.nan
    with torch.inference_mode():
        found = operators.attention(query, key, key)
    assert torch.equal(found.isnan().any(-1)[0], torch.arange(20) == 4)


def test_a_weight_that_is_packed_holds_the_same_numbers():
    weight = torch.arange(72 * 40.0).view(72, 40)
    with torch.inference_mode():
        packed = operators.pack(weight)
    assert not torch.equal(packed, weight)
    assert torch.equal(packed.flatten().sort().values, weight.flatten())
    # In blocks of so many columns; inside, the weights of one input after the other.
    assert packed.flatten()[:3].tolist() == [0, 40, 80]


@pytest.mark.parametrize("shape", [(1, 0, 16), (0, 5, 16)])
def test_no_rows_give_none(shape: tuple[int, ...]):
    with torch.inference_mode():
        assert operators.linear(torch.zeros(shape), operators.pack(torch.zeros(24, 16))).shape == (*shape[:2], 24)
        no_queries = torch.zeros(1, 2, 0, 8)
        assert operators.attention(no_queries, torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8)).shape == (1, 0, 16)


def test_types_that_differ_are_refused():
    rows, packed = torch.zeros(1, 4, 16), torch.zeros(24, 16)
    wrong = ((rows, packed.bfloat16(), None), (rows, packed, torch.zeros(24).bfloat16()), (rows[..., :8], packed, None))
    for arguments in wrong:
        with pytest.raises(AssertionError), torch.inference_mode():
            torch.ops.spd.linear(*arguments, None, False)
    with pytest.raises(AssertionError, match="do not multiply"), torch.inference_mode():
        torch.ops.spd.linear(rows.double(), packed.double(), None, None, False)


def test_a_product_that_pytorch_refuses_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch):
    """Exceptions of its threads must not leave them."""
    monkeypatch.setattr(calls, "call", lambda *_: False)
    with (
        pytest.raises(RuntimeError, match=r"refused a product of torch\.float32.*SPD_NATIVE=0"),
        torch.inference_mode(),
    ):
        operators.linear(torch.zeros(1, 4, 16), torch.zeros(24, 16))


def test_without_pytorchs_kernels_nothing_is_multiplied(monkeypatch: pytest.MonkeyPatch):
    def missing(*_):
        raise AttributeError("undefined symbol")

    monkeypatch.setattr(torch_internals, "_exported", missing)
    assert brgemm.multiplied_types.__wrapped__() == frozenset()


def test_their_products_are_counted():
    rows, packed, bias = torch.zeros(1, 5, 16), torch.zeros(24, 16), torch.zeros(24)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        operators.linear(rows, packed, bias)
        wide, squares = operators.fc1(rows, packed, bias)
        operators.fc2(wide, squares, bias, bias, 1e-6, torch.zeros(16, 24), torch.zeros(16))
        operators.attention(torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 7, 8), torch.zeros(1, 2, 7, 8))
    assert counter.get_total_flops() == 2 * (3 * 5 * 16 * 24 + 2 * 2 * 5 * 7 * 8)
