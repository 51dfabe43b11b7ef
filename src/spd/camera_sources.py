"""What cameras are written down as: matrices, EXIF tags, ROS messages, COLMAP's models; each as fields of a Camera."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spd.distortion import Distortion, DistortionKind

_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_SAME_ASPECT = 0.02
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""Of EXIF's FocalPlaneResolutionUnit."""
_ROS_MODELS: dict[str, DistortionKind] = {
    "plumb_bob": "opencv",
    "rational_polynomial": "opencv",
    "equidistant": "fisheye",
    "fisheye": "fisheye",
}
# Focal lengths, then how the rest become OpenCV's coefficients; p1 = p2 = 0 of radial models.
_COLMAP_MODELS: dict[str, tuple[int, int, DistortionKind | None]] = {
    "SIMPLE_PINHOLE": (1, 0, None),
    "PINHOLE": (2, 0, None),
    "SIMPLE_RADIAL": (1, 1, "opencv"),
    "RADIAL": (1, 2, "opencv"),
    "OPENCV": (2, 4, "opencv"),
    "FULL_OPENCV": (2, 8, "opencv"),
    "OPENCV_FISHEYE": (2, 4, "fisheye"),
    "SIMPLE_RADIAL_FISHEYE": (1, 1, "fisheye"),
    "RADIAL_FISHEYE": (1, 2, "fisheye"),
}


def of_numbers(values: Any) -> dict[str, Any]:
    """Four numbers or a (3, 3) matrix."""
    try:
        numbers = np.asarray(values)
    except (ValueError, TypeError):
        numbers = np.zeros(0)
    if numbers.shape == (3, 3):
        return of_matrix(numbers)
    if numbers.shape != (4,) or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise ValueError(
            "intrinsics must be four finite numbers fx, fy, cx, cy, a 3x3 matrix, a dictionary or a spd.Camera, "
            f"got {_shown(values)}"
        )
    return dict(zip(("fx", "fy", "cx", "cy"), numbers.astype(float).tolist(), strict=True))


def of_matrix(matrix: Any) -> dict[str, Any]:
    """K, without a skew."""
    try:
        numbers = np.asarray(matrix, np.float64)
    except (ValueError, TypeError):
        numbers = np.zeros(0)
    shape = np.array(((1, 0, 1), (0, 1, 1), (0, 0, 1)), bool)
    if numbers.shape != (3, 3) or not np.isfinite(numbers).all() or numbers[~shape].any() or numbers[2, 2] != 1:
        raise ValueError(f"a camera matrix must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {_shown(matrix)}")
    (fx, _, cx), (_, fy, cy), _ = numbers.tolist()
    return {"fx": fx, "fy": fy, "cx": cx, "cy": cy}


def of_dictionary(values: Mapping[str, Any]) -> dict[str, Any]:
    """``fx``, ``fy``, ``cx``, ``cy``, or COLMAP's ``model`` and ``params``; with or without width and height."""
    size = None
    if "width" in values or "height" in values:
        try:
            size = (int(values["height"]), int(values["width"]))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"a camera must have both width and height or neither, got {_shown(values)}") from None
    if "model" in values and "params" in values:
        return {**of_colmap(values["model"], values["params"]), "size": size}
    names = ("fx", "fy", "cx", "cy")
    if unknown := sorted(set(values) - {*names, "width", "height"}, key=str):
        raise ValueError(f"a camera's dictionary must be of fx, fy, cx, cy, width and height, got {unknown[0]!r} too")
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"a camera's dictionary must have fx, fy, cx, cy, {missing[0]} is missing")
    return {**of_numbers([values[name] for name in names]), "size": size}


def is_camera_info(value: Any) -> bool:
    """Whether it looks like a ROS ``CameraInfo``: ROS 2 names its matrix k, ROS 1 K."""
    return any(_has(value, name) for name in ("k", "K")) and _has(value, "distortion_model")


def of_camera_info(info: Any) -> tuple[dict[str, Any], tuple[int, int, int, int] | None, tuple[int, int]]:
    """The camera of the whole sensor, the region (left, top, width, height) that is sent, and the binning (x, y)."""
    for name in ("width", "height", "distortion_model"):
        if not _has(info, name):
            raise ValueError(f"a CameraInfo must have k, d, distortion_model, width and height, {name} is missing")
    matrix = np.asarray(_get(info, "k", _get(info, "K", ())), np.float64)
    if matrix.size != 9 or not matrix.any():
        raise ValueError("the CameraInfo is of a camera that is not calibrated: its k is not nine numbers, or all 0")
    model = str(_get(info, "distortion_model"))
    coefficients = np.asarray(_get(info, "d", _get(info, "D", ())), np.float64).ravel()
    distortion = None
    if coefficients.any() or (coefficients.size and _ROS_MODELS.get(model) == "fisheye"):
        if model not in _ROS_MODELS:
            raise ValueError(f"distortion_model must be one of {', '.join(_ROS_MODELS)}, got {model!r}")
        distortion = distortion_of(_ROS_MODELS[model], coefficients)
    size = (int(_get(info, "height")), int(_get(info, "width")))
    fields = {**of_matrix(matrix.reshape(3, 3)), "size": size, "distortion": distortion}
    region = _get(info, "roi", None)
    roi = None
    if region is not None:
        left, top, width, height = (int(_get(region, name, 0)) for name in ("x_offset", "y_offset", "width", "height"))
        roi = (left, top, width or size[1], height or size[0]) if (left, top, width, height) != (0, 0, 0, 0) else None
    binning = (max(1, int(_get(info, "binning_x", 1))), max(1, int(_get(info, "binning_y", 1))))
    return fields, roi, binning


def of_colmap(model: str, params: Any) -> dict[str, Any]:
    """By the model's name and its numbers in COLMAP's order."""
    if model not in _COLMAP_MODELS:
        raise ValueError(f"a COLMAP model must be one of {', '.join(_COLMAP_MODELS)}, got {model!r}")
    focals, others, kind = _COLMAP_MODELS[model]
    try:
        numbers = np.asarray(params, np.float64).ravel().tolist()
    except (ValueError, TypeError):
        numbers = []
    if len(numbers) != focals + 2 + others:
        raise ValueError(f"COLMAP's {model} must have {focals + 2 + others} parameters, got {_shown(params)}")
    fx, fy = numbers[0], numbers[focals - 1]
    cx, cy, *rest = numbers[focals:]
    if kind is not None:
        rest += [0.0] * ((4 if len(rest) <= 4 else 8) - len(rest))
    return {"fx": fx, "fy": fy, "cx": cx - 0.5, "cy": cy - 0.5, "distortion": kind and distortion_of(kind, rest)}


def distortion_of(kind: DistortionKind, coefficients: Any) -> Distortion | None:
    """OpenCV's coefficients in any shape; None where they are those of a lens without distortion."""
    if coefficients is None:
        coefficients = (0.0,) * 4 if kind == "fisheye" else ()
    values = np.asarray(coefficients, np.float64).ravel()
    # A fisheye whose coefficients are all 0 is an equidistant lens, which is no pinhole.
    if values.size == 0 or (kind == "opencv" and not values.any()):
        return None
    return Distortion(kind, tuple(values.tolist()))


def of_exif(image: Any) -> dict[str, Any] | str:
    """A photograph as displayed, by its tags; or why they tell no camera.

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import Image

    if isinstance(image, Image.Image):
        return of_pil(image, displayed=True)
    if isinstance(image, bytes | bytearray):
        image = io.BytesIO(image)
    try:
        with Image.open(Path(image).expanduser() if isinstance(image, str | Path) else image) as opened:
            return of_pil(opened, displayed=True)
    except (OSError, ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot read the image: {' '.join(str(error).split())}") from error


def of_pil(image: Any, *, displayed: bool) -> dict[str, Any] | str:
    """Of an opened image, as displayed or as its pixels lie in the file; or why it tells no camera."""
    try:
        exif = image.getexif()
        tags = {**exif, **exif.get_ifd(0x8769)}
        found = _exif_focal(tags, image.width, image.height)
        orientation = int(tags.get(0x0112, 1) or 1)
    except Exception as error:  # Of damaged tags: of many kinds.
        return f"its EXIF cannot be read: {' '.join(str(error).split())[:80]}"
    if isinstance(found, str):
        return found
    (fx, fy), (width, height) = found, image.size
    if displayed and orientation in _TURNED:
        fx, fy, width, height = fy, fx, height, width
    return {"fx": fx, "fy": fy, "cx": (width - 1) / 2, "cy": (height - 1) / 2, "size": (height, width)}


def odd_centre(cx: float, cy: float, size: tuple[int, int]) -> str | None:
    """What is implausible about the principal point of an image of (height, width); None where nothing is."""
    for name, centre, side in (("cx", cx, size[1]), ("cy", cy, size[0])):
        # A crop may leave the axis outside of the image, but not by more than a whole image.
        if not -side <= centre <= 2 * side:
            return f"{name}={centre:g} lies far outside of an image of {size[1]}x{size[0]}: is it of another size?"
    return None


def _exif_focal(tags: Mapping[int, Any], width: int, height: int) -> tuple[float, float] | str:
    """(fx, fy) in pixels of the image as stored."""
    taken = (_number(tags, 0xA002), _number(tags, 0xA003))  # PixelXDimension, PixelYDimension.
    if all(taken) and abs(math.log(width * taken[1] / (height * taken[0]))) > _SAME_ASPECT:
        turned = abs(math.log(height * taken[1] / (width * taken[0]))) <= _SAME_ASPECT
        if not turned:
            return f"it was {taken[0]:g}x{taken[1]:g} when it was taken and is {width}x{height}, so it was cropped"
    if equivalent := _number(tags, 0xA405):  # FocalLengthIn35mmFilm.
        focal = equivalent / _FILM_DIAGONAL_MM * math.hypot(width, height)
        focals = (focal, focal)
    else:
        focal_mm, unit = _number(tags, 0x920A), _MM_PER_UNIT.get(int(_number(tags, 0xA210) or 2))
        per_unit = (_number(tags, 0xA20E), _number(tags, 0xA20F))  # FocalPlaneXResolution, ...YResolution.
        if not (focal_mm and unit and all(per_unit) and all(taken)):
            return (
                "its EXIF has neither a 35 mm equivalent focal length nor a focal length with the sensor's resolution"
            )
        # Resolutions are those of the picture as taken.
        focals = (
            focal_mm * per_unit[0] / unit * width / taken[0],
            focal_mm * per_unit[1] / unit * height / taken[1],
        )
    if not all(0.1 * width <= focal <= 50 * width for focal in focals):
        return f"its EXIF's focal length is {focals[0]:.4g} pixels of an image {width} wide, which no camera has"
    return focals


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """0 where the tag is missing or says nothing."""
    try:
        value = float(tags.get(tag, 0) or 0)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _has(holder: Any, name: str) -> bool:
    return name in holder if isinstance(holder, Mapping) else hasattr(holder, name)


def _get(holder: Any, name: str, default: Any = None) -> Any:
    return holder.get(name, default) if isinstance(holder, Mapping) else getattr(holder, name, default)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else text[:117] + "..."
