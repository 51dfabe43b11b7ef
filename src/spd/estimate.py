"""An answer with how sure it is: depth, the spread of its logarithm, and intervals of a known level.

The model answers log depth and the scale b of a Laplace distribution around it (Laplace's, since errors of depth have
long tails). ``log_std`` is that distribution's standard deviation, √2·b: about the relative error of the depth. How
wide an interval must be to hold the truth of, say, 80 % of the points is measured, not believed: see
:class:`IntervalFactors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95, 0.99)
"""Levels whose factors are fitted; those between are interpolated."""


@dataclass(frozen=True, kw_only=True)
class IntervalFactors:
    """Half the width of an interval of log depth over ``log_std``, by level, as validation data asked for.

    Split conformal prediction: the factor of a level is that quantile of |Δ log depth| / log_std on frames that no
    training has seen. On frames of the same kind an interval then holds the truth that often; on others it is a guess.

    Source: Romano, Patterson and Candès, "Conformalized Quantile Regression", 2019, with the scaled residual of
    Lei et al., "Distribution-Free Predictive Inference for Regression", 2018, section 5.2.
    """

    levels: tuple[float, ...]
    """Rising, each between 0 and 1."""
    factors: tuple[float, ...]
    """One per level, positive and rising."""
    fitted_on: tuple[Mapping[str, Any], ...] = ()
    """The data they were fitted on: per data set its name, split, number of frames, of scenes and of points."""

    def __post_init__(self) -> None:
        if not self.levels or len(self.levels) != len(self.factors):
            raise ValueError(
                f"levels and factors must be of one length, got {len(self.levels)} levels, {len(self.factors)} factors"
            )
        if not all(0 < level < 1 for level in self.levels) or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must rise between 0 and 1, got {self.levels}")
        if not all(0 < factor < math.inf for factor in self.factors) or list(self.factors) != sorted(self.factors):
            raise ValueError(f"factors must be positive, finite and not fall, got {self.factors}")

    def factor(self, level: float) -> float:
        """Of any level up to the last; between fitted ones linear in −ln(1 − level), as of a Laplace distribution.

        Raises:
            ValueError: ``level`` is not between 0 and the last level that was fitted.

        Example:
            >>> factors = IntervalFactors(levels=(0.5, 0.8), factors=(0.5, 1.2))
            >>> factors.factor(0.8), round(factors.factor(0.65), 3)
            (1.2, 0.772)
        """
        if not 0 < level <= self.levels[-1]:
            raise ValueError(
                f"level must be above 0 and at most {self.levels[-1]:g}, the last that was fitted, got {level:g}"
            )
        return float(np.interp(_tail(level), [0.0, *map(_tail, self.levels)], [0.0, *self.factors]))

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``config.json``."""
        return {
            "levels": list(self.levels),
            "factors": list(self.factors),
            "fitted_on": [dict(data) for data in self.fitted_on],
        }

    @classmethod
    def from_json(cls, values: Any) -> IntervalFactors | None:
        """The inverse of :meth:`to_json`; None stays None.

        Raises:
            ValueError: they are other values.
        """
        if values is None:
            return None
        try:
            numbers = {name: tuple(map(float, values[name])) for name in ("levels", "factors")}
            fitted_on = tuple(dict(data) for data in values["fitted_on"])
        except (KeyError, TypeError, ValueError):
            raise ValueError("intervals must have levels, factors and fitted_on, lists of equal length") from None
        return cls(**numbers, fitted_on=fitted_on)

    @classmethod
    def fit(
        cls,
        ratios: Float[np.ndarray, "N"],
        weights: Float[np.ndarray, "N"],
        *,
        fitted_on: Sequence[Mapping[str, Any]] = (),
    ) -> IntervalFactors:
        """The factors of :data:`LEVELS`.

        Args:
            ratios: |Δ log depth| / log_std of each point.
            weights: how much each point counts, any unit: points of one image are alike, so that a frame, or a scene,
                should count and not its points.
            fitted_on: see the class.

        Raises:
            ValueError: there is no point, or a ratio is not finite.
        """
        if len(ratios) == 0 or not np.isfinite(ratios).all():
            raise ValueError(f"intervals are fitted on finite errors of at least one point, got {len(ratios)} points")
        order = np.argsort(ratios)
        cumulated = np.cumsum(weights[order])
        places = np.searchsorted(cumulated, np.array(LEVELS) * cumulated[-1])
        factors = ratios[order][np.minimum(places, len(ratios) - 1)]
        # A model without any error has intervals of no width, which no factor can say.
        smallest = float(np.finfo(np.float32).tiny)
        return cls(
            levels=LEVELS, factors=tuple(max(float(factor), smallest) for factor in factors), fitted_on=tuple(fitted_on)
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Depth at K points, with how sure it is.

    Example:
        >>> sure = IntervalFactors(levels=(0.8,), factors=(1.5,))
        >>> estimate = Estimate(depth_m=np.float32([2.0]), log_std=np.float32([0.1]), factors=sure)
        >>> low_m, high_m = estimate.interval(0.8)
        >>> [f"{float(value[0]):.3f}" for value in (low_m, high_m, estimate.depth_std_m)]
        ['1.721', '2.324', '0.200']
    """

    depth_m: Float[np.ndarray, "K"]
    """Metres along the optical axis, float32; the very numbers that a scene answers when it is called."""
    log_std: Float[np.ndarray, "K"]
    """Standard deviation of the log depth, float32, positive: .1 is an error of about a tenth of the depth."""
    factors: IntervalFactors | None = None
    """Of the checkpoint; None of one whose intervals nobody has fitted."""

    @property
    def depth_std_m(self) -> Float[np.ndarray, "K"]:
        """``depth_m · log_std``: the standard deviation of the depth in metres, to first order."""
        return self.depth_m * self.log_std

    def interval(self, level: float) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
        """(low_m, high_m), between which the true depth lies as often as ``level`` says; metres, positive, float32.

        ``depth_m`` divided and multiplied by one factor per point: the middle of the interval's logarithm.

        Args:
            level: such as 0.8; up to the highest that was fitted.

        Raises:
            ValueError: ``level`` is none of those, or the checkpoint's intervals were never fitted.
        """
        if self.factors is None:
            raise ValueError(
                "the intervals of this checkpoint were not fitted on any data; spd.estimate.IntervalFactors.fit does it"
            )
        if not isinstance(level, float) or not math.isfinite(level):
            raise ValueError(f"level must be a number such as 0.8, got {level!r}")
        factor = np.exp(np.float32(self.factors.factor(level)) * self.log_std)
        return self.depth_m / factor, self.depth_m * factor


def _tail(level: float) -> float:
    return -math.log1p(-level)
