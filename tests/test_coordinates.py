from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spd.coordinates import (
    STRIDES,
    location_dtype,
    nearest_cell,
    pixels_to_cells,
    read_bilinear,
    resize_points,
    weighted_rows,
)
from spd.variant import Alignment

HEIGHT, WIDTH = 64, 96


def bilinear_by_hand(features: np.ndarray, x: float, y: float) -> np.ndarray:
    """(C, H, W) at one xy cell, clamped to the map: the four cells around it, weighted by area."""
    height, width = features.shape[1:]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = math.floor(x), math.floor(y)
    value = np.zeros(features.shape[0])
    for row, row_weight in ((top, 1 - (y - top)), (min(top + 1, height - 1), y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (min(left + 1, width - 1), x - left)):
            value += row_weight * column_weight * features[:, row, column]
    return value


def own_coordinates(stride: int) -> Tensor:
    """(1, 2, H/s, W/s) float64: every cell holds the mean u and v of the pixels that it covers."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    cells = np.stack((u, v)).reshape(2, HEIGHT // stride, stride, WIDTH // stride, stride)
    return torch.from_numpy(cells.mean(axis=(2, 4)))[None]


@pytest.mark.parametrize("stride", STRIDES)
def test_center_reads_the_pixel_that_was_asked(stride: int) -> None:
    """A map of its own coordinates comes back, wherever the border does not clamp."""
    margin = (stride - 1) / 2
    u = torch.linspace(margin, WIDTH - 1 - margin, 23, dtype=torch.float64)
    v = torch.linspace(HEIGHT - 1 - margin, margin, 23, dtype=torch.float64)
    points = torch.stack((u, v), dim=-1)[None]
    read = read_bilinear(own_coordinates(stride), pixels_to_cells(points, stride, "center"))
    torch.testing.assert_close(read, points, rtol=0, atol=1e-9)


@pytest.mark.parametrize("stride", STRIDES)
def test_corner_reads_half_a_stride_off(stride: int) -> None:
    points = torch.tensor([[[40.0, 24.0]]], dtype=torch.float64)
    read = read_bilinear(own_coordinates(stride), pixels_to_cells(points, stride, "corner"))
    limit = torch.tensor([[[WIDTH - 1.0, HEIGHT - 1.0]]], dtype=torch.float64) - (stride - 1) / 2
    torch.testing.assert_close(read, torch.minimum(points + (stride - 1) / 2, limit), rtol=0, atol=1e-9)


def test_pixels_to_cells_by_hand() -> None:
    points = torch.tensor([[-0.5, 3.5], [15.0, 16.0]])
    assert pixels_to_cells(points, 16, "center").tolist() == [[-0.5, -0.25], [0.46875, 0.53125]]
    assert pixels_to_cells(points, 16, "corner").tolist() == [[-0.03125, 0.21875], [0.9375, 1.0]]


@given(
    u=st.integers(0, WIDTH - 1),
    v=st.integers(0, HEIGHT - 1),
    stride=st.sampled_from(STRIDES),
    alignment=st.sampled_from(("center", "corner")),
)
def test_nearest_cell_covers_the_pixel(u: int, v: int, stride: int, alignment: Alignment) -> None:
    cells = pixels_to_cells(torch.tensor([float(u), float(v)]), stride, alignment)
    index = nearest_cell(cells, HEIGHT // stride, WIDTH // stride, alignment)
    assert index.item() == (v // stride) * (WIDTH // stride) + u // stride


def test_nearest_cell_stays_on_the_map() -> None:
    cells = torch.tensor([[-3.0, -3.0], [99.0, 1.0], [0.0, 99.0]])
    assert nearest_cell(cells, 2, 3, "center").tolist() == [0, 5, 3]


@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    positions=st.lists(st.tuples(st.floats(-3, 8), st.floats(-3, 8)), min_size=1, max_size=5),
)
def test_read_bilinear_against_a_loop(height: int, width: int, positions: list[tuple[float, float]]) -> None:
    features = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([positions, positions[::-1]], dtype=torch.float64)
    expected = [[bilinear_by_hand(features[b].numpy(), *xy) for xy in cells[b].tolist()] for b in range(2)]
    np.testing.assert_allclose(read_bilinear(features, cells).numpy(), np.array(expected), atol=1e-10)


def test_a_gather_equals_the_fused_sum() -> None:
    """What exported graphs run, against what runs everywhere else, gradients included."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(7, 3, generator=generator), torch.rand(5, 4, generator=generator)]
    table, weights = (tensor.double().requires_grad_() for tensor in inputs)
    rows = torch.randint(0, 7, (5, 4), generator=generator)
    fused = weighted_rows(table, rows, weights)
    with mock.patch("torch.compiler.is_exporting", return_value=True):
        gathered = weighted_rows(table, rows, weights)
    torch.testing.assert_close(gathered, fused, atol=1e-14, rtol=0)
    towards = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad(fused, (table, weights), towards)
    for ours, theirs in zip(torch.autograd.grad(gathered, (table, weights), towards), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-14, rtol=0)


def test_a_position_that_is_no_number_reads_no_number() -> None:
    """It ends a training with a clear error, where an index out of range would end the process."""
    read = read_bilinear(torch.ones(1, 2, 3, 4), torch.tensor([[[float("nan"), 1.0], [1.0, 1.0]]]))
    assert read[0, 0].isnan().all()
    assert read[0, 1].tolist() == [1.0, 1.0]


def test_beyond_the_border_is_the_border() -> None:
    features = torch.arange(6.0).view(1, 1, 2, 3)
    cells = torch.tensor([[[-0.5, 0.0], [-9.0, -9.0], [2.5, 1.5], [9.0, 0.0]]])
    assert read_bilinear(features, cells).flatten().tolist() == [0.0, 0.0, 5.0, 2.0]


def test_locations_keep_their_precision_under_bfloat16() -> None:
    """At cell 130.25 bfloat16 has steps of one whole cell; the read has to fall a quarter behind cell 130."""
    features = torch.zeros(1, 1, 1, 160, dtype=torch.bfloat16)
    features[..., 131] = 1.0
    read = read_bilinear(features, torch.tensor([[[130.25, 0.0]]]))
    assert read.dtype == torch.bfloat16
    assert read.item() == pytest.approx(0.25, abs=1e-3)
    assert location_dtype(features) == torch.float32
    assert location_dtype(torch.zeros(1, dtype=torch.float16)) == torch.float32
    assert location_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64


side = st.integers(1, 3000)


@given(source=st.tuples(side, side), target=st.tuples(side, side), x=st.floats(0, 1), y=st.floats(0, 1))
def test_resize_points_keeps_the_fraction_of_the_image(
    source: tuple[int, int], target: tuple[int, int], x: float, y: float
) -> None:
    """x and y are fractions of the way from the left and the top edge, which are half a pixel outside pixel 0."""
    before = torch.tensor([[x * source[1] - 0.5, y * source[0] - 0.5]], dtype=torch.float64)
    moved = resize_points(before, source, target)
    np.testing.assert_allclose(moved[0].numpy(), (x * target[1] - 0.5, y * target[0] - 0.5), atol=1e-8)


def test_resize_points_by_hand() -> None:
    points = torch.tensor([[0.5, 0.5], [-0.5, 479.5]])
    assert resize_points(points, (480, 640), (240, 160)).tolist() == [[-0.25, 0.0], [-0.5, 239.5]]
