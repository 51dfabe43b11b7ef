"""Alignments against NumPy's own fits, by hand, and what they must leave unchanged."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spd.depth_range import DepthRange
from spd.evaluation.alignment import ALIGNMENTS, Alignment, aligned_depth
from spd.evaluation.metrics import compute_metrics

WIDE = DepthRange(1e-6, 1e9)
DEPTH = st.floats(0.05, 50.0)
pairs_of_depths = st.lists(st.tuples(DEPTH, DEPTH), min_size=1, max_size=40)


def split(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = zip(*pairs, strict=True)
    return np.array(predicted), np.array(true)


def spread_of_logs(depth_m: np.ndarray) -> float:
    return float(np.std(np.log(depth_m)))


def test_by_hand() -> None:
    # Medians 2 and 5: a factor of 2.5. In log2 the predictions are 0, 1, 2 and the truths 1, 3, 5: a line of slope 2.
    predicted, true = np.array([1.0, 2.0, 4.0]), np.array([2.0, 8.0, 32.0])
    assert aligned_depth(predicted, true, "raw", WIDE).tolist() == [1.0, 2.0, 4.0]
    assert aligned_depth(predicted, true, "median_aligned", WIDE).tolist() == [4.0, 8.0, 16.0]
    np.testing.assert_allclose(aligned_depth(predicted, true, "log_fit_aligned", WIDE), true, rtol=1e-12)
    # Four points: medians are the means of the middle two, 2.5 and 5.
    even = aligned_depth(np.array([1.0, 2.0, 3.0, 9.0]), np.array([1.0, 4.0, 6.0, 7.0]), "median_aligned", WIDE)
    assert even.tolist() == [2.0, 4.0, 6.0, 18.0]


@settings(max_examples=80, deadline=None)
@given(pairs=pairs_of_depths)
def test_the_fit_in_log_is_numpys(pairs: list[tuple[float, float]]) -> None:
    predicted, true = split(pairs)
    assume(spread_of_logs(predicted) > 1e-3)
    design = np.stack((np.log(predicted), np.ones(len(predicted))), axis=1)
    slope, offset = np.linalg.lstsq(design, np.log(true), rcond=None)[0]
    ours = aligned_depth(predicted, true, "log_fit_aligned", WIDE)
    expected = np.exp(slope * np.log(predicted) + offset).clip(WIDE.min_m, WIDE.max_m)
    np.testing.assert_allclose(ours, expected, rtol=1e-7)


@settings(max_examples=60, deadline=None)
@given(pairs=pairs_of_depths, factor=st.floats(0.01, 100.0))
@pytest.mark.parametrize("alignment", ["median_aligned", "log_fit_aligned"])
def test_one_factor_is_forgiven(alignment: Alignment, pairs: list[tuple[float, float]], factor: float) -> None:
    predicted, true = split(pairs)
    assume(len(pairs) == 1 or spread_of_logs(predicted) > 1e-3)
    before = aligned_depth(predicted, true, alignment, WIDE)
    after = aligned_depth(factor * predicted, true, alignment, WIDE)
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert not np.isclose(factor, 1) or np.allclose(aligned_depth(factor * predicted, true, "raw", WIDE), predicted)


@settings(max_examples=60, deadline=None)
@given(pairs=pairs_of_depths, slope=st.floats(-2.0, 2.0), offset=st.floats(-1.0, 1.0))
def test_a_line_in_log_depth_is_forgiven_by_the_fit_alone(
    pairs: list[tuple[float, float]], slope: float, offset: float
) -> None:
    predicted, _ = split(pairs)
    assume(spread_of_logs(predicted) > 1e-2)
    true = np.exp(offset) * predicted**slope
    fitted = compute_metrics(aligned_depth(predicted, true, "log_fit_aligned", WIDE), true)
    assert fitted.abs_rel == pytest.approx(0, abs=1e-9)
    assert fitted.delta1 == 1
    scaled = aligned_depth(predicted, true, "median_aligned", WIDE)
    if abs(slope - 1) > 0.1:
        assert compute_metrics(scaled, true).abs_rel > 1e-4


@pytest.mark.parametrize(
    "predicted", [[3.0], [3.0, 3.0, 3.0], np.float32([0.1, 0.1, np.nextafter(np.float32(0.1), 1)])]
)
def test_of_one_prediction_the_fit_takes_the_factor_alone(predicted: list[float]) -> None:
    true = np.array([1.0, 2.0, 4.0])[: len(predicted)]
    geometric_mean = np.exp(np.log(true).mean())
    ours = aligned_depth(np.array(predicted), true, "log_fit_aligned", WIDE)
    np.testing.assert_allclose(ours, np.full(len(true), geometric_mean), rtol=1e-6)


def test_answers_that_are_no_depth_take_no_part() -> None:
    predicted = np.array([np.nan, np.inf, -1.0, 0.0, 1.0, 2.0, 4.0], np.float32)
    true = np.array([9.0, 9.0, 9.0, 9.0, 3.0, 6.0, 12.0], np.float32)
    for alignment in ("median_aligned", "log_fit_aligned"):
        aligned = aligned_depth(predicted, true, alignment, DepthRange(0.1, 10.0))
        np.testing.assert_allclose(aligned, [0.1, 10.0, 0.1, 0.1, 3.0, 6.0, 10.0], rtol=1e-6)
        none = aligned_depth(predicted[:4], true[:4], alignment, DepthRange(0.1, 10.0))
        assert none.tolist() == [0.1, 10.0, 0.1, 0.1]
    assert np.isnan(predicted[0])  # The answers themselves stay.


def test_the_range_clamps_after_the_alignment() -> None:
    """Answers ten times too far are beyond 10 m, and right once they are aligned."""
    true = np.array([2.0, 4.0, 8.0])
    for alignment in ("median_aligned", "log_fit_aligned"):
        aligned = aligned_depth(10 * true, true, alignment, DepthRange(0.001, 10.0))
        np.testing.assert_allclose(aligned, true, rtol=1e-12)
    assert aligned_depth(10 * true, true, "raw", DepthRange(0.001, 10.0)).tolist() == [10.0, 10.0, 10.0]


def test_a_line_too_steep_for_numbers_stays_in_the_range() -> None:
    predicted, true = np.array([1.0, 1.0, 1.0 + 1e-5]), np.array([1e-3, 1.0, 900.0])
    aligned = aligned_depth(predicted, true, "log_fit_aligned", DepthRange(1e-3, 10.0))
    assert ((aligned >= 1e-3) & (aligned <= 10.0)).all()


def test_all_have_a_name_that_says_what_they_are() -> None:
    assert ALIGNMENTS == get_args(Alignment) == ("raw", "median_aligned", "log_fit_aligned")
