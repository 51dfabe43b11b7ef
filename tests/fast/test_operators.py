"""The kernels against PyTorch's operators in float64, on any shape, in both precisions and on any number of threads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fast.support import PRECISIONS, THREADS, WIDTHS, assert_near, threads_set
from torch.utils.flop_counter import FlopCounterMode

from spd.fast import operators
from spd.model.deformable_attention import deformable_read_reference
from spd.model.spatial_canvas import SpatialCanvas, canvas_places
from spd.model.value_table import ValueTable

pytestmark = pytest.mark.usefixtures("kernels")


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 3), length=st.integers(1, 70), width=WIDTHS, dtype=PRECISIONS, threads=THREADS,
    seed=st.integers(0, 99),
)  # fmt: skip
def test_gelu_and_its_squares(images: int, length: int, width: int, dtype: torch.dtype, threads: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    rows = (3 * torch.randn(images, length, width, generator=generator)).to(dtype)
    exact = F.gelu(rows.double())
    with threads_set(threads), torch.inference_mode():
        found = rows.clone()
        squares = operators.gelu_with_squares_(found)
    assert_near(found, exact, dtype)
    assert squares.dtype == torch.float32
    tolerance = {torch.float32: 3e-6, torch.bfloat16: 1e-3}[dtype]
    torch.testing.assert_close(squares.double(), exact.square().sum(1), rtol=tolerance, atol=1e-6)


def test_gelu_of_every_size_of_number():
    """From the least to the greatest float32, either sign: nearer the exact value than PyTorch's own GELU."""
    sizes = torch.logspace(-44, 38, 4001, dtype=torch.float64).float()
    numbers = torch.cat((-sizes.flip(0), torch.zeros(6), sizes, torch.linspace(-9, 9, 8008)))[None, :, None]
    numbers = numbers.expand(1, -1, 8).contiguous()
    exact, found = F.gelu(numbers.double()), numbers.clone()
    with torch.inference_mode():
        operators.gelu_with_squares_(found)
    error = (found.double() - exact).abs() / exact.abs().clamp_min(1.0)
    assert error.max() < 3.5e-7
    assert error.max() < ((F.gelu(numbers).double() - exact).abs() / exact.abs().clamp_min(1.0)).max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none_and_spreads_no_further(dtype: torch.dtype):
    rows = torch.ones(1, 5, 16, dtype=dtype)
    rows[0, 2, 3], rows[0, 4, 7], rows[0, 1, 9] = torch.nan, torch.inf, -torch.nan
    with torch.inference_mode():
        squares = operators.gelu_with_squares_(rows)
    bad = torch.zeros(5, 16, dtype=torch.bool)
    bad[2, 3] = bad[1, 9] = True
    assert torch.equal(rows[0].isnan(), bad)
    assert torch.isposinf(rows[0, 4, 7])
    assert torch.equal(squares[0].isfinite(), torch.tensor([i not in (3, 7, 9) for i in range(16)]))


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 3), height=st.integers(1, 12), columns=st.integers(1, 20), width=WIDTHS, dtype=PRECISIONS,
    threads=THREADS,
)  # fmt: skip
def test_convolution_and_norm(images: int, height: int, columns: int, width: int, dtype: torch.dtype, threads: int):
    torch.manual_seed(height * 100 + columns)
    maps = torch.randn(images, height, columns, width).to(dtype)
    weight, bias, scale, shift = torch.randn(width, 1, 7, 7), torch.randn(width), torch.rand(width), torch.randn(width)
    convolved = F.conv2d(
        maps.permute(0, 3, 1, 2).double(), weight.double(), bias.double(), padding=3, groups=width
    ).permute(0, 2, 3, 1)
    exact = F.layer_norm(convolved, (width,), scale.double(), shift.double(), 1e-3)
    with threads_set(threads), torch.inference_mode():
        found = operators.depthwise_norm(maps, weight, bias, scale, shift, 1e-3)
    assert_near(found, exact, dtype)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 2), height=st.integers(1, 9), columns=st.integers(1, 11), queries=st.integers(0, 20),
    reduction=st.sampled_from(["mean", "sum", "bilinear"]), threads=THREADS,
)  # fmt: skip
def test_a_step_of_the_canvas(images: int, height: int, columns: int, queries: int, reduction, threads: int):
    torch.manual_seed(height * 100 + columns)
    module = SpatialCanvas(16)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    canvas, hidden = torch.randn(images, 16, height, columns), torch.randn(images, queries, 16)
    points = torch.rand(images, queries, 2) * torch.tensor([columns, height]) - 0.5
    mask = torch.rand(images, queries) < 0.7
    hidden[~mask] = torch.inf
    before = canvas.clone()
    places = canvas_places(points, height, columns, reduction, "center", mask)
    with threads_set(threads), torch.inference_mode():
        found = module.write(canvas, places, hidden)
    assert torch.equal(canvas, before)
    # float64 has no kernel: the plain form.
    exact = module.double().write(
        canvas.double(), canvas_places(points.double(), height, columns, reduction, "center", mask), hidden.double()
    )
    assert_near(found, exact.detach(), torch.float32)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 2),
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 7)), min_size=1, max_size=4),
    queries=st.integers(0, 9),
    heads=st.integers(1, 3),
    points=st.integers(1, 4),
    width=st.sampled_from([8, 16]),
    dtype=PRECISIONS,
    threads=THREADS,
)
def test_deformable_reads(images: int, sizes, queries: int, heads: int, points: int, width: int, dtype, threads: int):
    torch.manual_seed(queries * 100 + heads)
    maps = [torch.randn(images, heads * width, *size).to(dtype) for size in sizes]
    references = 8 * torch.rand(images, queries, len(sizes), 2) - 1
    offsets = torch.randn(images, queries, heads, len(sizes), points, 2)
    scores = 5 * torch.randn(images, queries, heads, len(sizes) * points)
    cells = references[:, :, None, :, None, :] + offsets
    weights = scores.double().softmax(-1).unflatten(-1, (len(sizes), points))
    exact = deformable_read_reference([value.double() for value in maps], cells.double(), weights)
    with threads_set(threads), torch.inference_mode():
        found = operators.deformable_read(*ValueTable.of(maps), references, offsets, scores)
    assert_near(found, exact, dtype)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    reads=st.sampled_from([0, 1, 5, 127, 128, 200]),
    places=st.integers(1, 4),
    width=WIDTHS,
    dtype=PRECISIONS,
    index=st.sampled_from([torch.int64, torch.int32]),
    threads=THREADS,
)
def test_weighted_rows(size: int, reads: int, places: int, width: int, dtype, index: torch.dtype, threads: int):
    torch.manual_seed(reads * 10 + size)
    table, weights = torch.randn(size, width).to(dtype), torch.randn(reads, places)
    rows = torch.randint(size, (reads, places), dtype=index)
    exact = (table.double()[rows.long()] * weights.double().unsqueeze(2)).sum(1)
    with threads_set(threads), torch.inference_mode():
        found = operators.weighted_rows(table, rows, weights)
    assert_near(found, exact, dtype)


def test_a_position_that_is_no_number_reads_none_and_scores_may_be_of_any_size():
    values = ValueTable.of([torch.randn(1, 16, 3, 4)])
    # Three points side by side.
    references, offsets = torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 2, 1, 3, 2)
    offsets[..., 0] = torch.tensor([-1.0, 0.0, 1.0])
    offsets[0, 1, 0, 0, 2, 1] = torch.nan
    scores = torch.zeros(1, 3, 2, 3)
    scores[0, 2, 1] = torch.tensor([-1e30, 1e30, -90.0])
    with torch.inference_mode():
        read = operators.deformable_read(*values, references, offsets, scores)
    row = values.maps()[0][0, :, 1]
    exact = row[:, :3].mean(1).expand(3, 16).clone()
    exact[1, :8] = torch.nan
    exact[2, 8:] = row[8:, 1]
    torch.testing.assert_close(read[0], exact, equal_nan=True, rtol=1e-6, atol=1e-6)


def test_none_serves_a_gradient_an_export_or_odd_channels():
    features = torch.zeros(1, 3)
    assert not operators.is_supported(features, 16)
    with torch.no_grad():
        assert operators.is_supported(features, 16)
        assert not operators.is_supported(features, 12)
        assert not operators.is_supported(features.double(), 16)
        assert not operators.is_supported(features.to("meta"), 16)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*jit.trace:FutureWarning")
def test_who_watches_operators_sees_them():
    table, rows, weights = torch.rand(5, 16), torch.tensor([[1, 3]]), torch.rand(1, 2)
    with torch.inference_mode():
        expected = operators.weighted_rows(table, rows, weights)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            operators.weighted_rows(table, rows, weights)
        assert "spd::weighted_rows" in {event.key for event in profile.key_averages()}
        traced = torch.jit.trace(operators.weighted_rows, (table, rows, weights), check_trace=False)
        torch.testing.assert_close(traced(2 * table, rows, weights), 2 * expected)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        operators.depthwise_norm(
            torch.zeros(1, 2, 3, 8), torch.zeros(8, 1, 7, 7), torch.zeros(8), torch.zeros(8), torch.zeros(8), 1e-6
        )
    assert counter.get_total_flops() == 2 * 2 * 3 * 8 * 49
