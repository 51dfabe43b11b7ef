"""Predictions of an image brought to its true depths before they are scored: by one factor, or by a line in log depth.

An aligned figure says how well near and far are told apart, not how well metres are known: the truth of the image went
into it. It stands beside the raw one, under a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Real

from spd.depth_range import DepthRange
from spd.evaluation.metrics import clamp_depth

Alignment = Literal["raw", "median_aligned", "log_fit_aligned"]
"""``raw`` is as answered; the others are :func:`scale_by_median` and :func:`fit_in_log`."""
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)

# A spread of log depth below this is the rounding of float32: a slope of it would be noise.
_CONSTANT_SPREAD = 1e-6

_Positive = Float[np.ndarray, "M"]


def aligned_depth(
    predicted_m: Real[np.ndarray, "N"], true_m: Real[np.ndarray, "N"], alignment: Alignment, depth_range: DepthRange
) -> Float[np.ndarray, "N"]:
    """The predictions about one image as they are scored: aligned with its truth, then clamped to the range.

    Args:
        predicted_m: metres as answered, at all points that were asked about the image. One that is not a positive
            finite number takes no part in the alignment and is only clamped.
        true_m: metres, positive.
        alignment: how.
        depth_range: of the protocol.

    Example:
        >>> predicted_m, true_m = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 7.0])
        >>> aligned_depth(predicted_m, true_m, "median_aligned", DepthRange(0.001, 10.0)).tolist()
        [2.0, 4.0, 6.0]
    """
    predicted = predicted_m.astype(np.float64)
    if alignment != "raw":
        usable = np.isfinite(predicted) & (predicted > 0)
        if usable.any():
            predicted[usable] = _ALIGN[alignment](predicted[usable], true_m[usable].astype(np.float64))
    return clamp_depth(predicted, depth_range)


def scale_by_median(predicted_m: _Positive, true_m: _Positive) -> _Positive:
    """Predictions times median(true) / median(predicted), both over all points of the image.

    The median of an even number of values is the mean of the middle two.

    Source:
        Zhou et al., Unsupervised Learning of Depth and Ego-Motion from Video, CVPR 2017; the usual scale of models
        without metres, and the default of ``yolo depth val`` in Ultralytics 8.4.
    """
    return predicted_m * (np.median(true_m) / np.median(predicted_m))


def fit_in_log(predicted_m: _Positive, true_m: _Positive) -> _Positive:
    """exp(t) · predicted^s, with s and t the least squares of ln true ≈ s · ln predicted + t over all points.

    Where all predictions are the same, or there is one, s is 1: only t is known.

    Source:
        The documentation of Ultralytics' depth task gives its figures on NYU Depth V2 "with log-least-squares
        alignment" per image (docs.ultralytics.com/tasks/depth); the package itself, as of 8.4, aligns by the median
        alone. This is that fit as its words say it, without the test-time augmentation of those figures.
    """
    x, y = np.log(predicted_m), np.log(true_m)
    centred = x - x.mean()
    spread = np.sqrt(np.mean(centred**2))
    slope = float(np.mean(centred * y) / spread**2) if spread > _CONSTANT_SPREAD else 1.0
    # Few points may lie on a line so steep that others leave the numbers there are; clamping brings them back.
    with np.errstate(over="ignore"):
        return np.exp(slope * centred + y.mean())


_ALIGN: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "median_aligned": scale_by_median,
    "log_fit_aligned": fit_in_log,
}
