from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.evaluation.metrics import Metrics, clamp_depth, compute_metrics, mean_metrics, standard_errors

DEPTH = st.floats(1e-3, 10.0)


def slow_metrics(predicted_m: list[float], true_m: list[float]) -> Metrics:
    """One point at a time, as the formulas are written."""
    pairs = list(zip(predicted_m, true_m, strict=True))
    errors = [math.log(p) - math.log(g) for p, g in pairs]

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    def within(bound: float) -> float:
        return mean([float(max(g / p, p / g) < bound) for p, g in pairs])

    return Metrics(
        abs_rel=mean([abs(g - p) / g for p, g in pairs]),
        sq_rel=mean([(g - p) ** 2 / g for p, g in pairs]),
        rmse=math.sqrt(mean([(g - p) ** 2 for p, g in pairs])),
        rmse_log=math.sqrt(mean([e**2 for e in errors])),
        silog=100 * math.sqrt(mean([(e - mean(errors)) ** 2 for e in errors])),
        log10=mean([abs(math.log10(p) - math.log10(g)) for p, g in pairs]),
        delta1=within(1.25),
        delta2=within(1.25**2),
        delta3=within(1.25**3),
    )


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(DEPTH, DEPTH), min_size=1, max_size=30))
def test_metrics_equal_those_of_the_formulas(pairs: list[tuple[float, float]]) -> None:
    predicted, true = (list(values) for values in zip(*pairs, strict=True))
    ours = compute_metrics(np.array(predicted), np.array(true))
    assert ours._asdict() == pytest.approx(slow_metrics(predicted, true)._asdict(), rel=1e-9, abs=1e-9)


def test_metrics_of_three_points_by_hand() -> None:
    # Errors 1, -1 and 0 m; ratios 2, 4/3 and 1; logarithms ln 2, ln 3/4 and 0.
    metrics = compute_metrics(np.array([2.0, 3.0, 5.0]), np.array([1.0, 4.0, 5.0]))
    a, b = math.log(2), math.log(3 / 4)
    expected = Metrics(
        abs_rel=(1 + 1 / 4) / 3,
        sq_rel=(1 + 1 / 4) / 3,
        rmse=math.sqrt(2 / 3),
        rmse_log=math.sqrt((a**2 + b**2) / 3),
        silog=100 * math.sqrt((a**2 + b**2) / 3 - ((a + b) / 3) ** 2),
        log10=(math.log10(2) + math.log10(4 / 3)) / 3,
        delta1=1 / 3,
        delta2=2 / 3,
        delta3=2 / 3,
    )
    assert metrics._asdict() == pytest.approx(expected._asdict(), rel=1e-12)


def test_a_perfect_prediction() -> None:
    true = np.array([0.5, 2.0, 9.0])
    assert compute_metrics(true, true) == (0, 0, 0, 0, 0, 0, 1, 1, 1)


def test_silog_forgives_one_factor_and_rmse_log_does_not() -> None:
    true = np.linspace(1, 4, 50)
    metrics = compute_metrics(1.5 * true, true)
    assert metrics.silog == pytest.approx(0, abs=1e-9)
    assert metrics.rmse_log == pytest.approx(math.log(1.5))


def test_the_bounds_of_delta_are_excluded() -> None:
    metrics = compute_metrics(np.array([1.25, 1.0, 1.5625]), np.array([1.0, 1.25, 1.0]))
    assert (metrics.delta1, metrics.delta2) == (0, pytest.approx(2 / 3))


def test_float32_is_computed_in_float64() -> None:
    true = np.full(200_000, 3.0, np.float32)
    predicted = np.full(200_000, 3.3, np.float32)
    assert compute_metrics(predicted, true).abs_rel == pytest.approx((float(np.float32(3.3)) - 3) / 3, rel=1e-12)


def test_predictions_are_clamped() -> None:
    raw = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, 5e-4, 2.0, 11.0], np.float32)
    assert clamp_depth(raw, DepthRange(0.5, 80.0)).tolist() == [0.5, 80.0, 0.5, 0.5, 0.5, 0.5, 2.0, 11.0]
    assert clamp_depth(raw, EIGEN_DEPTH_RANGE).tolist() == [1e-3, 10.0, 1e-3, 1e-3, 1e-3, 1e-3, 2.0, 10.0]


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        compute_metrics(np.zeros(0), np.zeros(0))


def test_images_count_the_same() -> None:
    few = compute_metrics(np.array([2.0]), np.array([1.0]))
    many = compute_metrics(np.full(99, 1.0), np.full(99, 1.0))
    assert mean_metrics([few, many]).abs_rel == 0.5
    assert mean_metrics([few, many])._fields == Metrics._fields
    errors = standard_errors([few, many, many])
    assert errors is not None
    # Values 1, 0, 0: variance (4/9 + 1/9 + 1/9) / 2 = 1/3, over 3 images.
    assert errors.abs_rel == pytest.approx(1 / 3)
    assert standard_errors([few]) is None
