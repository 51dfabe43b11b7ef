"""What is known of some points of an image: depth, how sure it is, where they lie in space, and by which camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from spd.camera import CameraSource
from spd.estimate import Estimate, IntervalFactors

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PER_POINT = ("points", "depth_m", "log_std", "rays")
_SHOWN = 8
"""Points that ``repr`` shows."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Measurement:
    """K points of one image with all that is known of them; index or slice it for fewer.

    Example:
        >>> found = Measurement(
        ...     points=np.array([[320.0, 240.0], [100.0, 50.0]]), depth_m=np.float32([2.0, 3.0]),
        ...     rays=np.array([[0.0, 0.0, 1.0], [-0.4, -0.3, 1.0]]), camera_source="given",
        ... )
        >>> found
        Measurement of 2 points, camera given
               u       v  depth_m  range_m
             320     240    2.000    2.000
             100      50    3.000    3.354
        >>> found[1].xyz_m.round(3).tolist(), len(found[:1])
        ([[-1.2, -0.9, 3.0]], 1)
    """

    points: Float[np.ndarray, "K 2"]
    """xy pixel indices of the image, float64, in the order asked."""
    depth_m: Float[np.ndarray, "K"]
    """z-depth along the optical axis, metres, float32; NaN of a point that was not asked, as of a hidden keypoint."""
    rays: Float[np.ndarray, "K 3"]
    """Where the points look: (X, Y, 1) in camera coordinates, float64; NaN where no camera is known."""
    camera_source: CameraSource
    """``given``, ``exif``, ``calibration`` or ``assumed``. With an assumed one metres may be off by the zoom."""
    log_std: Float[np.ndarray, "K"] | None = None
    """Standard deviation of the log depth, float32; None of a checkpoint that does not say how sure it is."""
    factors: IntervalFactors | None = None
    """Of the checkpoint; what :meth:`interval` is made with."""
    calibrated: bool = False
    """The depths went through a :class:`spd.Calibration`."""

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Measurement:
        """Fewer points: one by its number, several by a slice, by numbers or by a mask."""
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"there are {len(self)} points, got index {index}")
            index = [int(index)]
        elif not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(int) if index.size == 0 else index
        kept = {name: getattr(self, name)[index] for name in _PER_POINT if getattr(self, name) is not None}
        return replace(self, **kept)

    @property
    def xyz_m(self) -> Float[np.ndarray, "K 3"]:
        """The points in camera coordinates, metres, float64: X right, Y down, Z along the optical axis."""
        return self.rays * self.depth_m[:, None].astype(np.float64)

    @property
    def range_m(self) -> Float[np.ndarray, "K"]:
        """Distance from the camera along the ray, metres, float32: what a tape or a laser measures."""
        return np.linalg.norm(self.xyz_m, axis=1).astype(np.float32)

    def interval(self, level: float) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
        """(low_m, high_m) of the depth, each (K,) float32; see :meth:`spd.estimate.Estimate.interval`.

        Raises:
            ValueError: the checkpoint does not say how sure it is, or as of an estimate.
        """
        if self.log_std is None:
            raise ValueError("this checkpoint does not say how sure it is: it has no log_std and no intervals")
        return Estimate(depth_m=self.depth_m, log_std=self.log_std, factors=self.factors).interval(level)

    def distances(self) -> Float[np.ndarray, "K K"]:
        """Metres in space between every two of the points, float32, symmetric, 0 on the diagonal."""
        return np.linalg.norm(self.xyz_m[:, None] - self.xyz_m[None], axis=2).astype(np.float32)

    def distance(self, first: int, second: int) -> Distance:
        """Between two of the points, by their numbers."""
        return Distance(self[first], self[second])

    def to_dict(self) -> dict[str, list[Any]]:
        """A list of K plain values per column: what JSON, pandas and Arrow take. What is not known is None.

        Columns: ``u``, ``v``, ``depth_m``, ``log_std`` where there is one, ``range_m``, ``x_m``, ``y_m``, ``z_m``,
        ``camera_source``, ``calibrated``.
        """
        x, y, z = self.xyz_m.T
        numbers = {"u": self.points[:, 0], "v": self.points[:, 1], "depth_m": self.depth_m}
        if self.log_std is not None:
            numbers["log_std"] = self.log_std
        numbers |= {"range_m": self.range_m, "x_m": x, "y_m": y, "z_m": z}
        columns = {name: [_plain(value) for value in values.tolist()] for name, values in numbers.items()}
        return {
            **columns,
            "camera_source": [self.camera_source] * len(self),
            "calibrated": [self.calibrated] * len(self),
        }

    def to_pandas(self) -> pd.DataFrame:
        """:meth:`to_dict` as a data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame(self.to_dict())

    def to_arrow(self) -> pa.Table:
        """:meth:`to_dict` as an Arrow table.

        Raises:
            ImportError: pyarrow is not installed.
        """
        import pyarrow as pa

        return pa.table(self.to_dict())

    def __repr__(self) -> str:
        lines = [
            f"Measurement of {len(self)} point{'s' if len(self) != 1 else ''}, camera {self.camera_source}"
            + (", calibrated" if self.calibrated else "")
        ]
        names = ["depth_m", *(["log_std"] if self.log_std is not None else []), "range_m"]
        lines.append(
            "".join(f"{name:>{width}}" for name, width in (("u", 8), ("v", 8), *((name, 9) for name in names)))
        )
        first = self[:_SHOWN]
        columns = [getattr(first, name).tolist() for name in names]
        for (u, v), *values in zip(first.points.tolist(), *columns, strict=True):
            lines.append(f"{u:8.6g}{v:8.6g}" + "".join(f"{value:9.3f}" for value in values))
        if len(self) > _SHOWN:
            lines.append(f"     ... {len(self) - _SHOWN} more")
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        """Whether all that is known is the same, number by number."""
        if not isinstance(other, Measurement):
            return NotImplemented
        mine, theirs = ({field.name: getattr(one, field.name) for field in fields(one)} for one in (self, other))
        return all(
            np.array_equal(value, theirs[name], equal_nan=True)
            if isinstance(value, np.ndarray)
            else value == theirs[name]
            for name, value in mine.items()
        )

    __hash__ = None  # type: ignore[assignment]  # Of arrays.


@dataclass(frozen=True)
class Distance:
    """The distance in space between two points of an image; ``float(distance)`` is in metres.

    Example:
        >>> ends = Measurement(
        ...     points=np.array([[320.0, 240.0], [820.0, 240.0]]), depth_m=np.float32([2.0, 2.0]),
        ...     rays=np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]), camera_source="given",
        ... )
        >>> ends.distance(0, 1)
        Distance of 2.000 m, camera given
    """

    start: Measurement
    """Of one point."""
    end: Measurement
    """Of the other."""

    @property
    def metres(self) -> float:
        """The length of the straight line between them."""
        return float(np.linalg.norm(self.start.xyz_m[0] - self.end.xyz_m[0]))

    @property
    def camera_source(self) -> CameraSource:
        """As of :class:`Measurement`."""
        return self.start.camera_source

    def interval(self, level: float) -> tuple[float, float]:
        """(low_m, high_m): the shortest and the longest distance that both depths' intervals of that level allow.

        It is wide: where the scale of a whole image is off, both depths are off in the same direction, which changes
        their distance less than opposite errors, which it also allows.

        Raises:
            ValueError: as of :meth:`Measurement.interval`.
        """
        first, second = self.start.interval(level), self.end.interval(level)
        depths = [(float(low[0]), float(high[0])) for low, high in (first, second)]
        rays = self.start.rays[0], self.end.rays[0]
        corners = [_length(rays, a, b) for a in depths[0] for b in depths[1]]
        nearest = list(corners)
        # A convex function of both depths: its greatest value lies in a corner, its least on an edge.
        for here in (0, 1):
            along, across = rays[1 - here], rays[here]
            for fixed in depths[here]:
                best = fixed * float(along @ across) / float(along @ along)
                free = min(max(best, depths[1 - here][0]), depths[1 - here][1])
                nearest.append(_length(rays, *((fixed, free) if here == 0 else (free, fixed))))
        return min(nearest), max(corners)

    def __float__(self) -> float:
        return self.metres

    def __repr__(self) -> str:
        return f"Distance of {self.metres:.3f} m, camera {self.camera_source}"


def _length(rays: tuple[np.ndarray, np.ndarray], first_m: float, second_m: float) -> float:
    return float(np.linalg.norm(rays[0] * first_m - rays[1] * second_m))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
