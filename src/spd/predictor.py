"""What a user calls: an image of any size and kind, points in its own pixels, depths in metres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from spd.camera import Intrinsics, lift
from spd.checkpoint import load_model
from spd.coordinates import STRIDES, resize_points
from spd.data.rgbd import read_image, to_rgb
from spd.data.transforms import Geometry, resize_image
from spd.model.network import DepthNetwork

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray
"""A path, a PIL image, or a uint8 array (H, W, 3) in RGB or (H, W) in grey."""
Numbers: TypeAlias = ArrayLike | Sequence[Any]
"""What ``np.asarray`` takes; ``ArrayLike`` alone leaves tuples out."""


@runtime_checkable
class DepthPredictor(Protocol):
    """A model that encodes images once and then answers for any of their pixels.

    SPD is one; so is a dense model, whose memory is its depth map. Nothing about an image is kept on the model.
    """

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """Images, float32 RGB in [0, 1], to whatever :meth:`decode` needs of them."""
        ...

    def decode(self, memory: Any, query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """Depth in metres along the optical axis at xy pixel indices of the encoded images, float32."""
        ...


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Depth at points of an image. Holds nothing about any image, so threads may share one.

    Example:
        >>> from spd import SPD, ModelConfig
        >>> predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
        >>> image = np.zeros((480, 640, 3), np.uint8)
        >>> predictor(image, [(320, 240), (0, 479)]).shape
        (2,)
        >>> scene = predictor.encode(image, intrinsics=(518.9, 519.5, 325.6, 253.7))
        >>> scene.lift([(320, 240)]).shape
        (1, 3)
    """

    model: DepthPredictor
    """In evaluation mode, on ``device``."""
    train_size: tuple[int, int] | None
    """(height, width) in pixels at which the model was trained; images are resized to about that area. None: the
    model gets every image at its own size."""
    focal_length: float | None
    """Canonical focal length in pixels: the model answers as if every image that it sees were taken with it. None: the
    model's answers are metres as they are, whatever the camera."""
    device: torch.device

    @classmethod
    def from_model(cls, model: DepthNetwork) -> Predictor:
        """The predictor of a network at hand, on the device where that is; puts it in evaluation mode."""
        return cls(
            model=model.eval(),
            train_size=model.config.train_size,
            focal_length=model.config.canonical_focal_length,
            device=model.pixel_mean.device,
        )

    def __call__(
        self,
        image: ImageLike,
        points: Numbers,
        *,
        intrinsics: Numbers | None = None,
    ) -> Float[np.ndarray, "K"]:
        """Depth in metres along the optical axis at every point, float32, in the order asked.

        Args:
            image: see :meth:`encode`.
            points: anything that NumPy turns into (K, 2): xy = (u, v) pixel indices of ``image``, (0, 0) the centre of
                its first pixel, -0.5 <= u < W - 0.5 and -0.5 <= v < H - 0.5. With K = 0 the model does not run. All
                points of one call are answered together and see each other.
            intrinsics: see :meth:`encode`.

        Raises:
            ValueError: the image cannot be read, a point lies outside it, or the intrinsics are no camera.
        """
        pixels = _as_pixels(image)
        camera = _as_intrinsics(intrinsics)
        query_points = check_points(points, pixels.shape[:2])
        if len(query_points) == 0:
            return np.zeros(0, np.float32)
        return self._encode(pixels, camera)(query_points)

    def encode(self, image: ImageLike, *, intrinsics: Numbers | None = None) -> Scene:
        """Everything that depends on the image alone, computed once; ask the result for points.

        Args:
            image: a path, a PIL image, or a uint8 array (H, W, 3) in RGB or (H, W) in grey, of any size. A file is
                taken as displayed (its EXIF orientation applied), a PIL image or an array as it is.
            intrinsics: (fx, fy, cx, cy) of the camera in pixels of ``image``. With them depth is right for that
                camera; without, the camera is taken to have the model's canonical focal length. Where the model has
                none, they change no depth and only serve :meth:`Scene.lift`.

        Raises:
            ValueError: the image cannot be read, or the intrinsics are no camera.
        """
        return self._encode(_as_pixels(image), _as_intrinsics(intrinsics))

    @torch.inference_mode()
    def _encode(self, pixels: UInt8[np.ndarray, "H W 3"], intrinsics: Intrinsics | None) -> Scene:
        size = (pixels.shape[0], pixels.shape[1])
        seen_size = size if self.train_size is None else model_size(size, self.train_size)
        stored = torch.from_numpy(pixels).permute(2, 0, 1)
        images = resize_image(stored, Geometry(0, 0, size, seen_size)).unsqueeze(0).to(self.device)
        depth_scale = 1.0
        if intrinsics is not None and self.focal_length is not None:
            depth_scale = intrinsics.resized(size, seen_size).focal_length / self.focal_length
        return Scene(
            model=self.model,
            memory=self.model.encode(images),
            size=size,
            seen_size=seen_size,
            intrinsics=intrinsics,
            depth_scale=depth_scale,
            device=self.device,
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One encoded image, to be asked for depth as often as wanted."""

    model: DepthPredictor
    memory: Any
    size: tuple[int, int]
    """(height, width) of the user's image, whose pixels points are given in."""
    seen_size: tuple[int, int]
    """(height, width) to which it was resized for the model."""
    intrinsics: Intrinsics | None
    """The camera in pixels of the user's image."""
    depth_scale: float
    """The camera's focal length over the canonical one, by which the model's answers are multiplied; 1 where either is
    not known."""
    device: torch.device

    @torch.inference_mode()
    def __call__(self, points: Numbers) -> Float[np.ndarray, "K"]:
        """Depth in metres at every point, float32, in the order asked; as :meth:`Predictor.__call__`.

        Raises:
            ValueError: a point lies outside the image, or ``points`` is not (K, 2).
        """
        query_points = check_points(points, self.size)
        if len(query_points) == 0:
            return np.zeros(0, np.float32)
        seen_points = resize_points(torch.from_numpy(query_points), self.size, self.seen_size)
        # To float32 before the device: not every device has float64.
        depth_m = self.model.decode(self.memory, seen_points.float().unsqueeze(0).to(self.device))
        return (depth_m[0].float() * self.depth_scale).cpu().numpy()

    def lift(self, points: Numbers) -> Float[np.ndarray, "K 3"]:
        """The points in camera coordinates, metres, float32: X right, Y down, Z along the optical axis.

        Raises:
            ValueError: the image was encoded without intrinsics, or as for a call.
        """
        if self.intrinsics is None:
            raise ValueError("lifting points needs the camera: encode the image with intrinsics=(fx, fy, cx, cy)")
        query_points = check_points(points, self.size)
        return lift(query_points, self(query_points), self.intrinsics).astype(np.float32)


def load(folder: str | Path, *, device: str | torch.device | None = None) -> Predictor:
    """The predictor of a checkpoint.

    Args:
        folder: the checkpoint's folder, or ``owner/name`` of a repository on the Hugging Face hub.
        device: where to run; None is the first CUDA device where there is one, else the CPU.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another version, or there is no such device.
    """
    return Predictor.from_model(load_model(folder, choose_device(device)))


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
    try:
        array = np.asarray(points)
    except ValueError:
        raise ValueError(f"{expected}, got rows of different lengths") from None
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


def _as_pixels(image: object) -> UInt8[np.ndarray, "H W 3"]:
    """Any image that a user may pass as uint8 RGB.

    Raises:
        ValueError: it cannot be read, or is an array of another kind.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be a path, a PIL image or a uint8 array, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.size == 0:
        raise ValueError(f"an image array must be uint8 (H, W, 3) RGB or (H, W) grey, got {image.dtype} {image.shape}")
    # Copied: PyTorch takes no reversed view (as of BGR read backwards), and warns of a read-only one.
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else np.array(image)


def _as_intrinsics(values: Numbers | None) -> Intrinsics | None:
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
