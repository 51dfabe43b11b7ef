"""Known distances as a correction of a model's scale: fitted, checked, written down, applied."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from spd.camera import Camera, CameraSource
from spd.camera_sources import of_numbers
from spd.distortion import Distortion
from spd.files import write_files

CalibrationKind: TypeAlias = Literal["auto", "scale", "power"]
FORMAT = 1
SMALLEST_SPREAD = 1.5
"""Ratio of the farthest to the nearest depth from which an exponent can be told from a scale."""
FEWEST_FOR_POWER = 4
BETTER_BY = 0.1
"""Part by which the exponent must lower the leave-one-out error."""
LARGEST_RESIDUAL = 0.3
"""Of the median residual, relative: beyond it the distances do not belong to what was predicted."""
_HUBER = 0.05
"""Residual of log depth from which Huber's loss is linear."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """depth ↦ exp(offset) · depth^exponent, as known distances ask for it.

    Example:
        >>> fitted = Calibration.fit(np.array([1.0, 2.0]), np.array([1.2, 2.4]))
        >>> round(fitted.scale, 3), fitted.apply(np.array([3.0])).round(3).tolist()
        (1.2, [3.6])
    """

    offset: float
    """b of ln d′ = a·ln d + b."""
    exponent: float = 1.0
    """a; 1 where only the scale is corrected."""
    camera: Camera | None = None
    """The given camera of the observations, used for images that come without one; None where none was given."""
    camera_source: CameraSource = "assumed"
    """Of the observations' images: the correction holds for images whose camera comes from the same place."""
    residuals: tuple[float, ...] = ()
    """ln(known / corrected) of every observation, in the order given: .1 is 10 % too near."""
    leave_one_out: Mapping[str, float] = field(default_factory=dict)
    """Mean |ln(known / corrected)| of each observation by a fit without it: of ``none``, ``scale`` and ``power``."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What it was fitted on, in plain values."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and math.isfinite(self.exponent)):
            raise ValueError(f"a calibration must be finite numbers, got {self.offset} and {self.exponent}")
        if self.exponent <= 0:
            raise ValueError(
                f"the exponent of a calibration must be positive, got {self.exponent:.3g}: the known distances rise "
                "where the predicted ones fall"
            )

    @property
    def scale(self) -> float:
        """exp(offset): the factor of every depth where the exponent is 1."""
        return math.exp(self.offset)

    def apply(self, depth_m: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Corrected depth, metres, of the model's own."""
        return (self.scale * depth_m**self.exponent).astype(depth_m.dtype)

    @classmethod
    def fit(
        cls,
        predicted_m: Float[np.ndarray, "N"],
        known_m: Float[np.ndarray, "N"],
        *,
        kind: CalibrationKind = "auto",
        **about: Any,
    ) -> Calibration:
        """The correction that N known depths ask for, robust against single wrong ones.

        ``scale`` fits one factor, ``power`` an exponent too; ``auto`` takes the exponent only where there are at least
        four distances whose farthest is 1.5 times the nearest, and it lowers the leave-one-out error by a tenth.

        Args:
            predicted_m: the model's own z-depth, metres.
            known_m: the true z-depth there.
            kind: see above.
            about: ``camera``, ``camera_source`` and ``provenance`` of the result.

        Raises:
            ValueError: there are too few distances, they have no spread, they do not belong to the predictions, or one
                is not positive.
        """
        if kind not in ("auto", "scale", "power"):
            raise ValueError(f"the kind of a calibration must be auto, scale or power, got {kind!r}")
        if len(known_m) == 0:
            raise ValueError("a calibration needs at least one known distance, got none")
        for name, values in (("known", known_m), ("predicted", predicted_m)):
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise ValueError(f"{name} distances must be positive numbers of metres, got {values.tolist()[:8]}")
        x, y = np.log(predicted_m.astype(np.float64)), np.log(known_m.astype(np.float64))
        spread = math.exp(float(np.ptp(x)))
        if kind == "power" and len(x) < FEWEST_FOR_POWER:
            raise ValueError(f"an exponent needs at least {FEWEST_FOR_POWER} known distances, got {len(x)}")
        if kind == "power" and spread < SMALLEST_SPREAD:
            raise ValueError(
                f"an exponent needs distances of which the farthest is at least {SMALLEST_SPREAD} times the nearest, "
                f"got {spread:.2f} times"
            )
        may_bend = len(x) >= FEWEST_FOR_POWER and spread >= SMALLEST_SPREAD
        errors = _errors_left_out(x, y, may_bend)
        bend = kind == "power" or (kind == "auto" and may_bend and errors["power"] < (1 - BETTER_BY) * errors["scale"])
        exponent, offset = _fit(x, y, with_exponent=bend)
        residuals = y - (exponent * x + offset)
        middle = float(np.median(np.abs(np.expm1(residuals))))
        if middle > LARGEST_RESIDUAL:
            raise ValueError(
                f"the known distances do not belong to what is predicted: after the fit half of them are still off by "
                f"more than {middle:.0%}, at most {LARGEST_RESIDUAL:.0%} is accepted; check points, units and images"
            )
        return cls(
            offset=offset,
            exponent=exponent,
            residuals=tuple(residuals.tolist()),
            leave_one_out=errors,
            **about,
        )

    def save(self, path: str | Path) -> None:
        """Write it as a small JSON file.

        Raises:
            OSError: it cannot be written.
        """
        values = asdict(self)
        values["camera"] = None if self.camera is None else {**values["camera"], "distortion": _lens(self.camera)}
        text = json.dumps({"spd_calibration": FORMAT, **values}, indent=2, allow_nan=False)
        write_files({Path(path): (text + "\n").encode()})

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: it is no such file.
            OSError: there is none.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_bytes())
            if values.pop("spd_calibration") != FORMAT:
                raise ValueError("of another version")
            values["residuals"] = tuple(float(value) for value in values["residuals"])
            values["offset"], values["exponent"] = float(values["offset"]), float(values["exponent"])
            values["camera"] = None if values["camera"] is None else _camera(values["camera"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no calibration of SPD: {' '.join(str(error).split())[:160]}") from None

    def __str__(self) -> str:
        rule = f"{self.scale:.4g} x depth" + (f" ^ {self.exponent:.3f}" if self.exponent != 1 else "")
        off = np.abs(np.expm1(self.residuals)) if self.residuals else np.zeros(1)
        count = len(self.residuals)
        return (
            f"{rule}, from {count} known distance{'s' if count != 1 else ''} (camera {self.camera_source}); "
            f"residuals {np.mean(off):.1%} on average, {np.max(off):.1%} at most"
        )


def _fit(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"], *, with_exponent: bool) -> tuple[float, float]:
    """(a, b) by Huber's loss on log depth, from the median on: squares would follow a wrong one."""
    start = float(np.median(y - x))
    if len(x) == 1:
        return 1.0, start
    from scipy.optimize import least_squares

    if not with_exponent:
        solved = least_squares(lambda b: x + b[0] - y, [start], loss="huber", f_scale=_HUBER)
        return 1.0, float(solved.x[0])
    centre = float(x.mean())
    solved = least_squares(
        lambda p: p[0] * (x - centre) + p[1] - y, [1.0, start + centre], loss="huber", f_scale=_HUBER
    )
    return float(solved.x[0]), float(solved.x[1] - solved.x[0] * centre)


def _errors_left_out(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"], may_bend: bool) -> dict[str, float]:
    errors = {"none": float(np.abs(y - x).mean())}
    if len(x) > 1:
        errors["scale"] = _leave_one_out(x, y, with_exponent=False)
    if may_bend:
        errors["power"] = _leave_one_out(x, y, with_exponent=True)
    return errors


def _leave_one_out(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"], *, with_exponent: bool) -> float:
    errors = []
    for index in range(len(x)):
        others = np.arange(len(x)) != index
        exponent, offset = _fit(x[others], y[others], with_exponent=with_exponent)
        errors.append(abs(exponent * x[index] + offset - y[index]))
    return float(np.mean(errors))


def _lens(camera: Camera) -> dict[str, Any] | None:
    if camera.distortion is None:
        return None
    return {"kind": camera.distortion.kind, "coefficients": list(camera.distortion.coefficients)}


def _camera(values: dict[str, Any]) -> Camera:
    lens = values.pop("distortion")
    size = values.pop("size")
    return Camera(
        **of_numbers([values[name] for name in ("fx", "fy", "cx", "cy")]),
        size=None if size is None else (int(size[0]), int(size[1])),
        distortion=None if lens is None else Distortion(lens["kind"], tuple(map(float, lens["coefficients"]))),
    )
