"""The losses against slow float64 loops written from their formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spd.training.losses import (
    ImageLoss,
    dense_silog_loss,
    depth_between_pixels,
    pool_valid_depth,
    relative_loss,
    silog_loss,
)


def slow_silog(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray, lam: float) -> tuple[float, int]:
    losses = []
    for p_row, t_row, v_row in zip(predicted, truth, valid, strict=True):
        delta = [float(p) - float(t) for p, t, v in zip(p_row, t_row, v_row, strict=True) if v]
        if delta:
            radicand = sum(d * d for d in delta) / len(delta) - lam * (sum(delta) / len(delta)) ** 2
            losses.append(math.sqrt(max(radicand, 1e-6)))
    return (sum(losses) / len(losses) if losses else 0.0), len(predicted) - len(losses)


@settings(max_examples=40, deadline=None)
@example(seed=430, batch=1, number=3, lam=1.0, share=0.5)  # The bias is many times the deviation.
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 4),
    number=st.integers(1, 30),
    lam=st.sampled_from([0.0, 0.15, 0.5, 1.0]),
    share=st.floats(0, 1),
)
def test_silog_equals_a_slow_loop(seed: int, batch: int, number: int, lam: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = rng.normal(1, 0.5, (2, batch, number)).astype(np.float32)
    valid = rng.random((batch, number)) < share
    expected, skipped = slow_silog(predicted, truth, valid, lam)
    loss = silog_loss(torch.tensor(predicted), torch.tensor(truth), torch.tensor(valid), lam)
    assert loss.mean.item() == pytest.approx(expected, abs=2e-6)
    assert loss.skipped.item() == skipped


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 4), number=st.integers(1, 30), share=st.floats(0, 1))
def test_relative_error_equals_a_slow_loop_in_metres(seed: int, batch: int, number: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    predicted_m, true_m = rng.uniform(0.3, 9, (2, batch, number))
    valid = rng.random((batch, number)) < share
    images = [
        [abs(p - t) / t for p, t, v in zip(*rows, strict=True) if v]
        for rows in zip(predicted_m, true_m, valid, strict=True)
    ]
    means = [sum(errors) / len(errors) for errors in images if errors]
    loss = relative_loss(*(torch.tensor(np.log(x)) for x in (predicted_m, true_m)), torch.tensor(valid))
    # An error of a thousandth is a ratio near one less one, which float32 knows to seven decimals.
    assert loss.mean.item() == pytest.approx(sum(means) / len(means) if means else 0.0, rel=1e-5, abs=1e-6)
    assert loss.skipped.item() == batch - len(means)


def test_silog_by_hand() -> None:
    log_depth = torch.tensor([[1.0, 3.0]])
    loss = silog_loss(log_depth, torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), 0.15)
    # Mean square (1 + 9) / 2 = 5; mean 2; 5 - 0.15 · 4 = 4.4.
    assert loss.mean.item() == pytest.approx(math.sqrt(4.4))


@pytest.mark.parametrize("loss_of", [partial(silog_loss, lam=0.15), relative_loss])
def test_empty_batch_gives_a_zero_with_gradients(loss_of: Callable[..., ImageLoss]) -> None:
    log_depth = torch.randn(2, 5, requires_grad=True)
    loss = loss_of(log_depth, torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.bool))
    loss.mean.backward()
    assert loss.mean.item() == 0.0
    assert loss.skipped.item() == 2
    assert log_depth.grad is not None
    assert log_depth.grad.abs().max() == 0


def test_perfect_prediction_has_finite_gradients() -> None:
    log_depth = torch.zeros(1, 4, requires_grad=True)
    silog_loss(log_depth, torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool), 0.15).mean.backward()
    assert log_depth.grad is not None
    assert log_depth.grad.isfinite().all()


def test_pooling_leaves_holes_out() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 5, (2, 8, 12)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.6] = 0
    depth[0, :4, :4] = 0
    pooled, valid = pool_valid_depth(torch.tensor(depth), 4)
    for b in range(2):
        for row in range(2):
            for column in range(3):
                cell = depth[b, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                known = cell[cell > 0].astype(np.float64)
                assert bool(valid[b, row, column]) == (known.size > 0)
                if known.size:
                    assert pooled[b, row, column].item() == pytest.approx(known.mean(), rel=1e-5)


def test_dense_loss_finds_its_stride() -> None:
    depth = torch.rand(2, 16, 24) + 1
    pooled = depth.unfold(1, 8, 8).unfold(2, 8, 8).mean((-1, -2))
    assert dense_silog_loss(pooled.log(), depth, 0.15).mean.item() == pytest.approx(1e-3, rel=1e-3)
    assert dense_silog_loss(pooled.log() + 1, depth, 0.15).mean.item() == pytest.approx(math.sqrt(0.85), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1), spread=st.sampled_from([0.01, 0.05, 0.5]))
def test_depth_between_pixels_equals_a_slow_loop(seed: int, share: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    depth = (3 * np.exp(rng.normal(0, spread, (2, 6, 9)))) * (rng.random((2, 6, 9)) < share)
    points = rng.uniform((-0.5, -0.5), (8.49, 5.49), (12, 2))
    result, valid = depth_between_pixels(torch.tensor(depth), torch.tensor(points))
    for image, (k, (u, v)) in itertools.product(range(2), enumerate(points)):
        # A point beyond the outermost pixels is taken to them; there a pixel is its own neighbour and counts twice.
        first_row, first_column = math.floor(min(max(v, 0), 5)), math.floor(min(max(u, 0), 8))
        sides = itertools.product((first_row, min(first_row + 1, 5)), (first_column, min(first_column + 1, 8)))
        known = [depth[image, row, column] for row, column in sides if depth[image, row, column] > 0]
        expected = bool(known) and max(known) <= 1.1 * min(known)
        assert valid[image, k] == expected
        assert result[image, k].item() == pytest.approx(np.median(known) if expected else 1.0)


def test_depth_between_four_pixels_by_hand() -> None:
    depth = torch.tensor([[[2.0, 2.1, 9.0], [0.0, 2.04, 9.0]]])
    # Between the first four: three are known. On the right there is an edge.
    result, valid = depth_between_pixels(depth, torch.tensor([[0.5, 0.5], [1.5, 0.5]]))
    assert valid.tolist() == [[True, False]]
    assert result[0].tolist() == pytest.approx([2.04, 1.0])
