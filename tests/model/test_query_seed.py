"""The seed and the Fourier code against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.config import ModelConfig
from spd.coordinates import STRIDES, bilinear_reads, pixels_to_cells, read_bilinear
from spd.model.query_seed import FourierCode, QuerySeed
from spd.model.spd import SPD


def _code_by_loops(u: float, v: float, height: int, width: int, bands: int, lowest: int) -> list[float]:
    code = []
    for position, side in ((u, width), (v, height)):
        phases = [2 * math.pi * 2.0**octave * position / side for octave in range(lowest, lowest + bands)]
        code += [math.sin(phase) for phase in phases] + [math.cos(phase) for phase in phases]
    return code


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(1, 8),
    st.integers(-2, 1),
    st.lists(st.tuples(st.floats(-0.5, 1), st.floats(-0.5, 1)), min_size=1, max_size=4),
)
def test_code_equals_the_formula(height: int, width: int, bands: int, lowest: int, fractions: list):
    points = [(x * width, y * height) for x, y in fractions]
    expected = [_code_by_loops(u, v, height, width, bands, lowest) for u, v in points]
    code = FourierCode(bands, lowest)
    exact = code(torch.tensor([points], dtype=torch.float64), (height, width))
    np.testing.assert_allclose(exact[0].numpy(), expected, atol=1e-11)
    single = code(torch.tensor([points], dtype=torch.float32), (height, width))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single[0].numpy(), expected, atol=1e-3)


def test_full_period_confuses_the_two_edges_and_half_a_period_does_not():
    edges = torch.tensor([[[0.0, 7.0], [96.0, 7.0]]], dtype=torch.float64)
    full = FourierCode(8, lowest_octave=0)(edges, (64, 96))
    half = FourierCode(8, lowest_octave=-1)(edges, (64, 96))
    torch.testing.assert_close(full[:, 0], full[:, 1], atol=1e-12, rtol=0)
    assert (half[:, 0] - half[:, 1]).abs().max() == pytest.approx(2.0)


def test_tiny_projects_800_numbers():
    config = ModelConfig.tiny()
    seed = QuerySeed(config.neck_channels, config.embed_dim, config.fourier_bands, config.variant.fourier_lowest_octave)
    assert seed.project.weight.shape == (192, 800)
    assert seed.position.weight.shape == (192, 32)
    assert sum(parameter.numel() for parameter in seed.parameters()) == 160_512


def test_seed_is_the_normalised_projection_of_four_reads_and_the_code():
    torch.manual_seed(0)
    seed = QuerySeed((2, 3, 4, 5), 6, fourier_bands=8, fourier_lowest_octave=0).double()
    levels = [
        torch.randn(2, channels, 64 // stride, 96 // stride, dtype=torch.float64)
        for channels, stride in zip((2, 3, 4, 5), STRIDES, strict=True)
    ]
    points = torch.rand(2, 7, 2, dtype=torch.float64) * torch.tensor([96.0, 64.0]) - 0.5
    reference = [pixels_to_cells(points, stride, "center") for stride in STRIDES]

    at_points = [bilinear_reads(cells, *level.shape[-2:]) for cells, level in zip(reference, levels, strict=True)]

    hidden, position = seed(levels, at_points, points, (64, 96))

    weight = seed.project.weight.detach().numpy()
    for image, k in np.ndindex(2, 7):
        reads = [read_bilinear(levels[i], reference[i])[image, k].numpy() for i in range(4)]
        code = np.array(_code_by_loops(*points[image, k].tolist(), 64, 96, 8, 0))
        raw = weight @ np.concatenate([*reads, code]) + seed.project.bias.detach().numpy()
        normal = (raw - raw.mean()) / np.sqrt(raw.var() + seed.norm.eps)
        np.testing.assert_allclose(hidden[image, k].detach().numpy(), normal, atol=1e-10)
        place = seed.position.weight.detach().numpy() @ code + seed.position.bias.detach().numpy()
        np.testing.assert_allclose(position[image, k].detach().numpy(), place, atol=1e-10)


def test_code_uses_the_size_before_padding(lively: SPD):
    """75×118 is padded to 96×128; the code must divide by 118 and 75."""
    seen = []
    handle = lively.decoder.seed.position.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        lively(torch.rand(1, 3, 75, 118, dtype=torch.float64), torch.tensor([[[59.0, 25.0]]]))
    handle.remove()
    bands, lowest = lively.config.fourier_bands, lively.config.variant.fourier_lowest_octave
    np.testing.assert_allclose(seen[0][0, 0].numpy(), _code_by_loops(59.0, 25.0, 75, 118, bands, lowest), atol=1e-10)
