"""What users pass, as the model takes it: images of any kind, points, cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike
from PIL import Image

from spd.camera import Intrinsics
from spd.coordinates import STRIDES
from spd.data.rgbd import DECODING_ERRORS, read_image, to_rgb
from spd.files import expanded

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray
"""A path, a PIL image, or a uint8 array (H, W, 3) in RGB or (H, W) in grey."""
Numbers: TypeAlias = ArrayLike | Sequence[Any]
"""What ``np.asarray`` takes; ``ArrayLike`` alone leaves tuples out."""


def model_size(image_size: tuple[int, int], train_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in multiples of 32 to which an image is resized for a model trained at ``train_size``.

    Minimises |ln(area / trained area)| + |ln(aspect / image's aspect)|; among equals the area decides, so an image
    that is very long is squeezed rather than made larger than what the model was trained at.

    Args:
        image_size: (height, width) of the image in pixels.
        train_size: (height, width) at which the model was trained, multiples of 32.

    Example:
        >>> model_size((480, 640), train_size=(256, 320))
        (256, 320)
        >>> model_size((1080, 1920), train_size=(256, 320))
        (224, 384)
    """
    stride = STRIDES[-1]
    area = train_size[0] * train_size[1]
    # A side longer than this would make the area too large whatever the other is, and squeezing it costs no more.
    log_sides = np.log(np.arange(stride, area // stride + 1, stride))
    area_error = np.abs(log_sides[:, None] + log_sides - math.log(area))
    aspect_error = np.abs(log_sides - log_sides[:, None] - math.log(image_size[1] / image_size[0]))
    # Rounded, so that equal costs are equal whatever the last bits say.
    cost = (area_error + aspect_error).round(9)
    row, column = np.unravel_index(np.where(cost == cost.min(), area_error, np.inf).argmin(), cost.shape)
    return stride * (int(row) + 1), stride * (int(column) + 1)


def check_points(points: Numbers, size: tuple[int, int]) -> Float[np.ndarray, "K 2"]:
    """The points as float64 (K, 2), once all are pixels of an image of ``size`` (height, width).

    Raises:
        ValueError: they are not (K, 2) numbers, or one lies outside; the message names the first.
    """
    height, width = size
    expected = f"query_points must be (K, 2) xy pixels inside {width}x{height}"
    if isinstance(points, torch.Tensor):
        # NumPy takes no gradients, no other devices and no bfloat16.
        points = points.detach().cpu()
        points = (points.double() if points.is_floating_point() else points).numpy()
    try:
        array = np.asarray(points)
    except ValueError:
        raise ValueError(f"{expected}, got rows of different lengths") from None
    except (TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{expected}, got {type(points).__name__}: {' '.join(str(error).split())}") from None
    if array.shape == (0,):
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{expected}, got shape {array.shape}")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{expected}, got values of type {array.dtype}")
    query_points = array.astype(np.float64)
    # Comparisons with NaN are false, so NaN is outside too.
    inside = ((query_points >= -0.5) & (query_points < np.array((width, height)) - 0.5)).all(axis=1)
    if not inside.all():
        index = int(inside.argmin())
        u, v = query_points[index].tolist()
        raise ValueError(f"{expected}, got ({u}, {v}) at index {index}")
    return query_points


def as_pixels(image: object) -> UInt8[np.ndarray, "H W 3"]:
    """Any image that a user may pass as uint8 RGB.

    Raises:
        ValueError: it cannot be read, or is an array of another kind.
    """
    if isinstance(image, str | Path):
        return read_image(expanded(image))
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except DECODING_ERRORS as error:
            raise ValueError(f"cannot read the image: {' '.join(str(error).split())}") from error
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be a path, a PIL image or a uint8 array, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.size == 0:
        raise ValueError(f"an image array must be uint8 (H, W, 3) RGB or (H, W) grey, got {image.dtype} {image.shape}")
    # Of subclasses such as np.matrix, which index otherwise.
    image = np.asarray(image)
    # Copied: PyTorch takes no reversed view (as of BGR read backwards), and warns of a read-only one.
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else np.array(image)


def as_intrinsics(values: Numbers | None) -> Intrinsics | None:
    """(fx, fy, cx, cy) as a camera; None stays None."""
    if values is None:
        return None
    numbers = np.asarray(values)
    if numbers.shape != (4,) or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise ValueError(f"intrinsics must be four finite numbers fx, fy, cx, cy, got {values}")
    camera = Intrinsics(*numbers.tolist())
    if camera.fx <= 0 or camera.fy <= 0:
        raise ValueError(f"focal lengths must be positive, got fx={camera.fx}, fy={camera.fy}")
    return camera
