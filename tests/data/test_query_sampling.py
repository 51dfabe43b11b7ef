"""Where depth is asked, how often, and the seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.data.query_sampling import draw_num_queries, edge_pixels, epoch_order, sample_generator, sample_queries
from spd.train_config import DataConfig

HEIGHT, WIDTH = 12, 17


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_depth(seed: int, valid_fraction: float) -> torch.Tensor:
    depth_m = torch.rand((HEIGHT, WIDTH), generator=generator(seed)) * 8 + 0.5
    depth_m[torch.rand((HEIGHT, WIDTH), generator=generator(seed + 1)) >= valid_fraction] = 0
    return depth_m


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1), st.integers(0, 90), st.sampled_from([0.0, 0.3, 1.0]))
def test_points_are_pixels_with_a_depth(
    seed: int, valid_fraction: float, num_queries: int, edge_fraction: float
) -> None:
    depth_m = random_depth(seed, valid_fraction)
    sample = sample_queries(depth_m, num_queries, generator(seed), edge_fraction)
    assert sample.query_points.shape == (num_queries, 2)
    assert sample.query_points.dtype == sample.depth_m.dtype == torch.float32
    if not (depth_m > 0).any():
        assert not sample.valid_mask.any()
        assert (sample.depth_m == 1).all()
        return
    assert sample.valid_mask.all()
    for (u, v), depth in zip(sample.query_points.tolist(), sample.depth_m.tolist(), strict=True):
        assert (u, v) == (int(u), int(v))
        assert depth == depth_m[int(v), int(u)].item() > 0


def test_uniform_points_differ_while_there_are_enough() -> None:
    depth_m = random_depth(3, 0.5)
    count = int((depth_m > 0).sum())
    points = sample_queries(depth_m, count, generator()).query_points
    assert len(points.unique(dim=0)) == count
    more = sample_queries(depth_m, 20 * count, generator())
    assert len(more.query_points.unique(dim=0)) == count
    assert more.valid_mask.all()


def test_every_valid_pixel_is_as_likely() -> None:
    depth_m = torch.zeros(4, 6)
    depth_m[[0, 0, 1, 2, 3, 3, 3], [0, 5, 2, 3, 0, 4, 5]] = 2.0
    counts = torch.zeros(4, 6)
    draws = 3500
    for seed in range(draws):
        for u, v in sample_queries(depth_m, 2, generator(seed)).query_points.long().tolist():
            counts[v, u] += 1
    frequency = counts[depth_m > 0] / draws
    assert counts[depth_m == 0].sum() == 0
    assert (frequency - 2 / 7).abs().max() < 5 * math.sqrt(2 / 7 * 5 / 7 / draws)


def stepped_depth() -> torch.Tensor:
    """Near left of column 80, far from it on; the step is hidden by a hole in the rows from 30 on."""
    depth_m = torch.full((40, 160), 2.0)
    depth_m[:, 80:] = 5.0
    depth_m[30:, 75:90] = 0
    return depth_m


def test_edge_points_lie_on_both_sides_of_the_step_and_not_around_holes() -> None:
    edges = edge_pixels(stepped_depth())
    assert sorted(edges.tolist()) == sorted(row * 160 + column for row in range(30) for column in (79, 80))
    sample = sample_queries(stepped_depth(), 200, generator(), edge_fraction=0.25)
    columns, rows = sample.query_points.unbind(1)
    on_edge = ((columns == 79) | (columns == 80)) & (rows < 30)
    assert on_edge[:50].all()
    assert on_edge[50:].float().mean() < 0.1
    without = sample_queries(torch.full((5, 8), 2.0), 20, generator(), edge_fraction=0.5)
    assert without.valid_mask.all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(0.05, 1))
def test_edges_are_the_largest_steps(seed: int, valid_fraction: float) -> None:
    depth_m = random_depth(seed, valid_fraction)
    known = {(int(v), int(u)): math.log(depth_m[v, u]) for v, u in (depth_m > 0).nonzero()}
    steps = {}
    for (v, u), log in known.items():
        around = [(v - 1, u), (v + 1, u), (v, u - 1), (v, u + 1)]
        steps[v * WIDTH + u] = max((abs(known[at] - log) for at in around if at in known), default=0.0)
    edges = set(edge_pixels(depth_m).tolist())
    others = [step for pixel, step in steps.items() if pixel not in edges]
    assert edges <= steps.keys()
    # A step has two sides, so that the last one may bring one pixel more than a tenth.
    assert len(edges) <= max(1, len(known) // 10) + 1
    if edges:
        assert min(steps[pixel] for pixel in edges) >= max(others, default=0.0) - 1e-6
        assert min(steps[pixel] for pixel in edges) > 0
    else:
        assert max(steps.values(), default=0.0) == 0


def test_the_number_of_queries_is_fixed_or_log_uniform() -> None:
    assert draw_num_queries(DataConfig(num_queries=77), seed=3, step=5) == 77
    config = DataConfig(query_schedule="log_uniform", query_range=(16, 1024))
    drawn = np.array([draw_num_queries(config, 3, step) for step in range(6000)])
    assert drawn.min() == 16
    assert 950 < drawn.max() <= 1024
    for bound in (17, 32, 128, 512):
        expected = math.log(bound / 16) / math.log(1025 / 16)
        assert np.mean(drawn < bound) == pytest.approx(expected, abs=0.025)
    assert draw_num_queries(config, 3, 7) == drawn[7]
    assert [draw_num_queries(config, 4, step) for step in range(20)] != drawn[:20].tolist()
    few = DataConfig(query_schedule="log_uniform", query_range=(2, 5))
    drawn = np.array([draw_num_queries(few, 0, step) for step in range(6000)])
    for count in (2, 3, 4, 5):
        expected = math.log((count + 1) / count) / math.log(6 / 2)
        assert np.mean(drawn == count) == pytest.approx(expected, abs=0.025)


def test_seeds_are_a_function_of_their_key_and_differ_with_it() -> None:
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 2**20), (5, 6, 7), (7, 6, 5)]
    draws = [torch.rand(4, generator=sample_generator(*key)) for key in keys]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)
    assert torch.equal(draws[3], torch.rand(4, generator=sample_generator(1, 0, 0)))


def test_neighbouring_seeds_are_not_correlated() -> None:
    draws = torch.stack([torch.rand(200, generator=sample_generator(0, 0, index)) for index in range(60)])
    correlations = torch.corrcoef(draws) - torch.eye(60)
    assert correlations.abs().max() < 0.4
    assert abs(draws[:, 0].mean() - 0.5) < 0.15


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(50, 0, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert epoch_order(50, 0, 1) == orders[1] != epoch_order(50, 1, 1)
