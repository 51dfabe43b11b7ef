"""What users pass, as the model takes it: images of any kind, points, cameras."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike
from PIL import Image

from spd import camera_sources
from spd.camera import Camera, Intrinsics, as_camera
from spd.coordinates import STRIDES
from spd.data.rgbd import DECODING_ERRORS, read_image, to_rgb
from spd.files import expanded

ImageLike: TypeAlias = str | Path | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor
"""A path, the bytes of a file, an open file, a PIL image, a uint8 array (H, W, 3) in RGB or (H, W) in grey, or a tensor
(3, H, W) or (H, W, 3) in RGB, uint8 or float in [0, 1]."""
CameraLike: TypeAlias = Any
"""What :func:`spd.camera.as_camera` takes, or the word ``assumed``."""
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


class Photo(NamedTuple):
    """An image that a user passed."""

    pixels: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    camera: Camera | None
    """That its EXIF tags tell of; None where they tell of none, and of arrays."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def choose_camera(photo: Photo, camera: CameraLike, intrinsics: CameraLike = None) -> Camera | None:
    """The camera in pixels of the image; None is the one that the model assumes.

    Warns of one whose numbers cannot be pixels of the image.

    Args:
        photo: the image; its EXIF is used where nothing is given.
        camera: what a user passed.
        intrinsics: the same by its other name.

    Raises:
        ValueError: both are given, it is no camera, or that of an image of another aspect.
    """
    if camera is not None and intrinsics is not None:
        raise ValueError("camera and intrinsics are two names of one thing, got both")
    value = intrinsics if camera is None else camera
    if isinstance(value, str) and value == "assumed":
        return None
    if value is None:
        return photo.camera
    given = as_camera(value)
    assert given is not None
    chosen = given.of_image(photo.size)
    if odd := chosen.implausible():
        warnings.warn(f"the camera's {odd}", stacklevel=4)
    return chosen


def as_photo(image: object) -> Photo:
    """Any image that a user may pass as uint8 RGB, and its camera where it names one.

    Raises:
        ValueError: it cannot be read, or is an array of another kind.
    """
    told: list[dict[str, Any] | str] = []

    def look(opened: Image.Image) -> None:
        told.append(camera_sources.of_pil(opened, displayed=True))

    if isinstance(image, str | Path):
        pixels = read_image(expanded(image), look=look)
    elif isinstance(image, bytes | bytearray | memoryview):
        pixels = read_image(io.BytesIO(image), look=look)
    elif hasattr(image, "read") and not isinstance(image, Image.Image):
        pixels = read_image(io.BytesIO(_contents(image)), look=look)
    elif isinstance(image, Image.Image):
        told.append(camera_sources.of_pil(image, displayed=False))
        try:
            pixels = to_rgb(image)
        except DECODING_ERRORS as error:
            raise ValueError(f"cannot read the image: {' '.join(str(error).split())}") from error
    else:
        pixels = _array_pixels(_as_array(image) if isinstance(image, torch.Tensor) else image)
    fields = told[0] if told else ""
    return Photo(pixels, None if isinstance(fields, str) else Camera(**fields, source="exif"))


def _contents(file: Any) -> bytes:
    contents = file.read()
    if not isinstance(contents, bytes):
        raise ValueError(f"an image file must be open for reading bytes, got one that gives {type(contents).__name__}")
    return contents


def as_pixels(image: object) -> UInt8[np.ndarray, "H W 3"]:
    """:func:`as_photo` without the camera."""
    return as_photo(image).pixels


def _array_pixels(image: object) -> UInt8[np.ndarray, "H W 3"]:
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"image must be a path, bytes, an open file, a PIL image, a uint8 array or a tensor, got "
            f"{type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.size == 0:
        raise ValueError(f"an image array must be uint8 (H, W, 3) RGB or (H, W) grey, got {image.dtype} {image.shape}")
    # Of subclasses such as np.matrix, which index otherwise.
    image = np.asarray(image)
    # Copied: PyTorch takes no reversed view (as of BGR read backwards), and warns of a read-only one.
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else np.array(image)


def _as_array(image: torch.Tensor) -> UInt8[np.ndarray, "H W 3"]:
    """(3, H, W) or (H, W, 3), uint8 or float in [0, 1]; where both could be meant, channels come first."""
    what = f"got {str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
    if image.ndim != 3 or 3 not in (image.shape[0], image.shape[2]):
        raise ValueError(f"an image tensor must be (3, H, W) or (H, W, 3) RGB, {what}")
    pixels = image.detach().cpu()
    pixels = pixels.permute(1, 2, 0) if pixels.shape[0] == 3 else pixels
    if pixels.is_floating_point():
        pixels = pixels.float()
        if not (pixels.numel() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(f"a float image tensor must lie in [0, 1], {what} with other values")
        pixels = (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise ValueError(f"an image tensor must be uint8 or float in [0, 1], {what}")
    return pixels.numpy()


def as_intrinsics(values: Any) -> Intrinsics | None:
    """Any camera that a user may pass as its four numbers; None stays None."""
    camera = as_camera(values)
    return None if camera is None else camera.intrinsics


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device of that name, once it is known to be there; None is CUDA where there is one, else the CPU.

    Raises:
        ValueError: there is no such device on this machine.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):  # PyTorch asserts that it was compiled with CUDA.
        raise ValueError(f"device must be one that this machine has, such as cpu, got {str(device)!r}") from None
    return chosen
