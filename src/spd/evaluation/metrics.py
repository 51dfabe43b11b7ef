"""The error metrics of depth estimation, of one set of points and over images (Eigen et al. 2014), in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from spd.depth_range import DepthRange


class Metrics(NamedTuple):
    """Errors of predictions p against the truth g, with e = ln p - ln g; the deltas are better the higher."""

    abs_rel: float
    """mean |g - p| / g"""
    sq_rel: float
    """mean (g - p)² / g, metres"""
    rmse: float
    """√ mean (g - p)², metres"""
    rmse_log: float
    """√ mean e²"""
    silog: float
    """100 · √(mean e² - (mean e)²): zero for a prediction that is off by one factor everywhere"""
    log10: float
    """mean |log10 p - log10 g|"""
    delta1: float
    """Part of the points with max(g / p, p / g) < 1.25"""
    delta2: float
    """The same for 1.25²"""
    delta3: float
    """The same for 1.25³"""


def clamp_depth(predicted_m: Real[np.ndarray, "N"], depth_range: DepthRange) -> Float[np.ndarray, "N"]:
    """Predictions in metres as float64 within the range, its bounds included; NaN becomes the lower bound.

    Example:
        >>> clamp_depth(np.array([np.nan, np.inf, -2.0, 3.5]), DepthRange(0.001, 10.0)).tolist()
        [0.001, 10.0, 0.001, 3.5]
    """
    known = np.where(np.isnan(predicted_m), depth_range.min_m, predicted_m.astype(np.float64))
    return known.clip(depth_range.min_m, depth_range.max_m)


def compute_metrics(predicted_m: Real[np.ndarray, "N"], true_m: Real[np.ndarray, "N"]) -> Metrics:
    """Metrics over N points, each counting the same.

    Args:
        predicted_m: depths in metres, positive; see :func:`clamp_depth`.
        true_m: true depths in metres, positive.

    Raises:
        ValueError: there is no point.

    Example:
        >>> compute_metrics(np.array([1.1, 4.0]), np.array([1.0, 2.0])).abs_rel
        0.55
    """
    if len(true_m) == 0:
        raise ValueError("metrics need at least one point, got none")
    predicted, true = predicted_m.astype(np.float64), true_m.astype(np.float64)
    error = true - predicted
    log_error = np.log(predicted) - np.log(true)
    ratio = np.maximum(true / predicted, predicted / true)
    return Metrics(
        abs_rel=float(np.mean(np.abs(error) / true)),
        sq_rel=float(np.mean(error**2 / true)),
        rmse=math.sqrt(np.mean(error**2)),
        rmse_log=math.sqrt(np.mean(log_error**2)),
        # The variance about the mean, which rounding cannot make negative.
        silog=100 * float(np.std(log_error)),
        log10=float(np.mean(np.abs(log_error))) / math.log(10),
        delta1=float(np.mean(ratio < 1.25)),
        delta2=float(np.mean(ratio < 1.25**2)),
        delta3=float(np.mean(ratio < 1.25**3)),
    )


def mean_metrics(per_image: Sequence[Metrics]) -> Metrics:
    """The mean over images, each counting the same however many points it has."""
    return Metrics(*np.mean(per_image, axis=0).tolist())


def standard_errors(per_image: Sequence[Metrics]) -> Metrics | None:
    """Standard errors of :func:`mean_metrics`: the deviation between images over √N; None for a single image."""
    if len(per_image) < 2:
        return None
    return Metrics(*(np.std(per_image, axis=0, ddof=1) / math.sqrt(len(per_image))).tolist())
