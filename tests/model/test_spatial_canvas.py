"""The canvas against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.coordinates import bilinear_reads, nearest_cell, pixels_to_cells, read_bilinear
from spd.model.spatial_canvas import (
    CanvasAccess,
    CanvasPlaces,
    CanvasSmoother,
    SpatialCanvas,
    canvas_places,
    shared_places,
    write_to_cells,
)
from spd.variant import Alignment, CanvasSource, CanvasWrite


def _one_cell(
    index: torch.Tensor, num_cells: int, reduction: CanvasWrite = "mean", mask: torch.Tensor | None = None
) -> CanvasPlaces:
    """Each query writes all to one cell."""
    return shared_places(index.unsqueeze(-1), torch.ones(*index.shape, 1).double(), num_cells, reduction, mask)


def _written_by_loops(canvas, points, written, keep, reduction, stride):
    """(D, H, W), (K, 2) pixels, (K, D), (K,): each cell adds the mean or sum of those whose pixel it covers."""
    result = canvas.copy()
    _, height, width = canvas.shape
    for row, column in np.ndindex(height, width):
        here = [
            written[k]
            for k, (u, v) in enumerate(points)
            if keep[k]
            and min(max(int(np.floor(u / stride)), 0), width - 1) == column
            and min(max(int(np.floor(v / stride)), 0), height - 1) == row
        ]
        if here:
            result[:, row, column] += np.mean(here, axis=0) if reduction == "mean" else np.sum(here, axis=0)
    return result


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 6),
    queries=st.integers(1, 30),
    reduction=st.sampled_from(["mean", "sum"]),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_write_equals_a_loop_over_cells(height, width, queries, reduction: CanvasWrite, masked: bool, seed: int):
    generator = np.random.default_rng(seed)
    canvas = generator.normal(size=(2, 3, height, width))
    # Some points lie outside and belong to the nearest border cell.
    points = generator.uniform(-20, 16 * max(height, width) + 20, size=(2, queries, 2))
    written = generator.normal(size=(2, queries, 3))
    keep = generator.random((2, queries)) < 0.6 if masked else np.ones((2, queries), dtype=bool)

    cells = nearest_cell(pixels_to_cells(torch.from_numpy(points), 16, "corner"), height, width, "corner")
    mask = torch.from_numpy(keep) if masked else None
    result = write_to_cells(
        torch.from_numpy(canvas), _one_cell(cells, height * width, reduction, mask), torch.from_numpy(written)
    )

    for image in range(2):
        expected = _written_by_loops(canvas[image], points[image], written[image], keep[image], reduction, 16)
        np.testing.assert_allclose(result[image].numpy(), expected, atol=1e-12)


def test_masked_queries_write_nothing_whatever_they_hold():
    canvas = torch.zeros(1, 2, 3, 4)
    written = torch.tensor([[[1.0, 2.0], [float("nan"), float("inf")]]])
    cell = torch.tensor([[5, 5]])
    result = write_to_cells(canvas, _one_cell(cell, 12, mask=torch.tensor([[True, False]])), written)
    assert result[0, :, 1, 1].tolist() == [1.0, 2.0]
    assert result.sum() == 3.0


def test_the_given_canvas_is_left_as_it_was():
    canvas = torch.zeros(1, 2, 3, 4)
    write_to_cells(canvas, _one_cell(torch.tensor([[5]]), 12), torch.ones(1, 1, 2))
    assert canvas.sum() == 0


def test_a_mean_does_not_grow_with_the_queries_and_a_sum_does():
    canvas, written = torch.zeros(1, 1, 2, 3), torch.ones(1, 1000, 1)
    cells = torch.zeros(1, 1000, dtype=torch.long)
    assert write_to_cells(canvas, _one_cell(cells, 6, "mean"), written).max() == pytest.approx(1, abs=1e-5)
    assert write_to_cells(canvas, _one_cell(cells, 6, "sum"), written).max() == 1000


def test_many_bfloat16_writes_are_summed_in_float32():
    """A bfloat16 sum of ones stops at 256."""
    written = torch.ones(1, 4096, 1, dtype=torch.bfloat16)
    cells = _one_cell(torch.zeros(1, 4096, dtype=torch.long), 6, "sum")
    result = write_to_cells(torch.zeros(1, 1, 2, 3), cells, written)
    assert result.dtype == torch.float32
    assert result.max() == 4096


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    queries=st.integers(1, 12),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_bilinear_write_is_the_transpose_of_the_read_per_cell(
    height: int, width: int, queries: int, masked: bool, seed: int
):
    """Each cell adds Σ w·v / Σ w with w the weight that a query's read gives to the cell, read off unit maps."""
    generator = torch.Generator().manual_seed(seed)
    canvas = torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)
    written = torch.randn(1, queries, 3, generator=generator, dtype=torch.float64)
    sides = torch.tensor([width, height], dtype=torch.float64)
    points = torch.rand(1, queries, 2, generator=generator, dtype=torch.float64) * (sides + 1) - 1
    keep = torch.rand(1, queries, generator=generator) < 0.6 if masked else torch.ones(1, queries, dtype=torch.bool)
    places = canvas_places(points, height, width, "bilinear", "center", keep if masked else None)
    result = write_to_cells(canvas, places, written)
    for row, column in np.ndindex(height, width):
        unit = torch.zeros(1, 1, height, width, dtype=torch.float64)
        unit[0, 0, row, column] = 1
        weight = read_bilinear(unit, points)[0, :, 0] * keep[0]
        expected = canvas[0, :, row, column].clone()
        if weight.sum() > 0:
            expected += (weight[:, None] * written[0]).sum(0) / weight.sum()
        torch.testing.assert_close(result[0, :, row, column], expected)


@pytest.mark.parametrize("alignment", ["center", "corner"])
def test_a_pixel_writes_to_the_cell_that_covers_it(alignment: Alignment):
    """Both alignments: floor(v / s)·W + floor(u / s), the plan's index, for every pixel; W need not divide by s."""
    v, u = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    points = torch.stack((u, v), dim=-1).flatten(0, 1).float()
    index = nearest_cell(pixels_to_cells(points, 16, alignment), 4, 6, alignment)
    assert torch.equal(index, (v // 16 * 6 + u // 16).flatten())


@pytest.mark.parametrize("alignment", ["center", "corner"])
def test_points_beyond_the_border_write_to_the_border(alignment: Alignment):
    points = torch.tensor([[-0.5, -0.5], [95.49, 63.49], [-40.0, 30.0], [500.0, -3.0]])
    index = nearest_cell(pixels_to_cells(points, 16, alignment), 4, 6, alignment)
    assert index.tolist() == [0, 23, 6, 5]


def test_smoothing_starts_as_the_identity():
    canvas = torch.randn(2, 6, 3, 5)
    assert torch.equal(CanvasSmoother(6)(canvas), canvas)


def test_smoothing_is_depthwise_and_reaches_two_cells():
    torch.manual_seed(0)
    smoother = CanvasSmoother(3).double()
    with torch.no_grad():
        smoother.second.weight.normal_()
        smoother.second.bias.normal_()
        smoother.first.bias.normal_()
    canvas = torch.zeros(1, 3, 9, 11, dtype=torch.float64)
    touched = canvas.clone()
    touched[0, 1, 4, 5] = 1.0
    change = (smoother(touched) - smoother(canvas)).abs()[0]
    assert change[0].max() == change[2].max() == 0
    rows, columns = change[1].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 3, 7)


def test_smoothing_equals_its_formula():
    torch.manual_seed(0)
    smoother = CanvasSmoother(2).double()
    with torch.no_grad():
        smoother.second.weight.normal_()
        smoother.second.bias.normal_()
        smoother.first.bias.normal_()
    canvas = torch.randn(1, 2, 4, 5, dtype=torch.float64)

    def depthwise(features: np.ndarray, layer: torch.nn.Conv2d) -> np.ndarray:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
        result = np.empty_like(features)
        for channel, row, column in np.ndindex(features.shape):
            window = padded[channel, row : row + 3, column : column + 3]
            result[channel, row, column] = (window * weight[channel, 0]).sum() + bias[channel]
        return result

    first = depthwise(canvas[0].numpy(), smoother.first)
    active = torch.nn.functional.gelu(torch.from_numpy(first)).numpy()
    expected = canvas[0].numpy() + depthwise(active, smoother.second)
    np.testing.assert_allclose(smoother(canvas)[0].detach().numpy(), expected, atol=1e-12)


def test_write_projects_then_smooths():
    torch.manual_seed(0)
    shared = SpatialCanvas(6).double()
    with torch.no_grad():
        shared.smooth.second.weight.normal_()
    canvas, hidden = torch.randn(1, 6, 3, 5).double(), torch.randn(1, 4, 6).double()
    cells = _one_cell(torch.tensor([[0, 14, 7, 7]]), 15)
    projected = hidden @ shared.write_projection.weight.T
    expected = shared.smooth(write_to_cells(canvas, cells, projected))
    torch.testing.assert_close(shared.write(canvas, cells, hidden), expected)


def test_final_read_adds_the_projected_canvas():
    torch.manual_seed(0)
    shared = SpatialCanvas(6).double()
    canvas, hidden = torch.randn(1, 6, 3, 5).double(), torch.randn(1, 1, 6).double()
    between = 0.75 * canvas[0, :, 1, 2] + 0.25 * canvas[0, :, 1, 3]
    expected = hidden[0, 0] + shared.final_projection.weight @ between
    reads = bilinear_reads(torch.tensor([[[2.25, 1.0]]], dtype=torch.float64), 3, 5)
    result = shared.read_final(canvas, reads, hidden)
    torch.testing.assert_close(result[0, 0], expected)


class TestAccess:
    def _access(self, source: CanvasSource = "hidden") -> CanvasAccess:
        torch.manual_seed(0)
        access = CanvasAccess(6, source).double()
        with torch.no_grad():
            for parameter in access.parameters():
                parameter += torch.randn_like(parameter)
        return access

    def test_read_is_gated_by_the_normalised_state(self):
        access = self._access()
        canvas, hidden = torch.randn(1, 6, 3, 5).double(), 3 * torch.randn(1, 2, 6).double()
        points = torch.tensor([[[4.0, 2.0], [0.0, 0.5]]], dtype=torch.float64)
        result = access.read(hidden, canvas, bilinear_reads(points, 3, 5))
        reads = (canvas[0, :, 2, 4], (canvas[0, :, 0, 0] + canvas[0, :, 1, 0]) / 2)
        for k, read in enumerate(reads):
            state = hidden[0, k]
            normal = (state - state.mean()) / torch.sqrt(state.var(correction=0) + access.norm.eps)
            normal = normal * access.norm.weight + access.norm.bias
            gate = 1 / (1 + torch.exp(-(access.gate.weight[0] @ normal + access.gate.bias)))
            assert 0 < gate < 1
            torch.testing.assert_close(result[0, k], state + gate * (access.read_projection.weight @ read))

    def test_gate_starts_half_open(self):
        access = CanvasAccess(6, "hidden")
        assert torch.equal(access.gate(torch.randn(3, 6)).sigmoid(), torch.full((3, 1), 0.5))

    def test_what_is_written_is_the_state_or_its_norm(self):
        hidden = 5 * torch.randn(1, 3, 6).double()
        assert torch.equal(self._access("hidden").to_write(hidden), hidden)
        normed = self._access("normed")
        assert torch.equal(normed.to_write(hidden), normed.norm(hidden))
        assert not torch.allclose(normed.to_write(hidden), hidden)
