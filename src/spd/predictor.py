"""What a user calls: an image of any size and kind, points in its own pixels, depths in metres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spd.camera import Camera, CameraSource, Intrinsics
from spd.coordinates import resize_points
from spd.data.transforms import Geometry, resize_image
from spd.forking import answer_without_lost_threads
from spd.inputs import CameraLike, ImageLike, Numbers, Photo, as_photo, check_points, choose_camera, model_size
from spd.model.network import DepthNetwork

CHUNK_SIZE = 4096
"""Points that are answered at once where none sees another: memory does not grow with their number."""
MAX_JOINT_QUERIES = 8192
"""Most points of one call where all see each other: time and memory grow with the square of their number."""


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
    joint: bool = False
    """The points of one call see each other, so they are answered at once and there is a most of them. Otherwise an
    answer depends on the image alone, and points are answered in chunks, as many as there are."""

    def __post_init__(self) -> None:
        answer_without_lost_threads(self.device)

    @classmethod
    def from_model(cls, model: DepthNetwork) -> Predictor:
        """The predictor of a network at hand, on the device where that is; puts it in evaluation mode."""
        return cls(
            model=model.eval(),
            train_size=model.config.train_size,
            focal_length=model.config.canonical_focal_length,
            device=model.pixel_mean.device,
            joint=model.config.architecture == "spd" and model.config.interaction == "joint",
        )

    def __call__(
        self,
        image: ImageLike,
        points: Numbers,
        *,
        camera: CameraLike = None,
        intrinsics: CameraLike = None,
    ) -> Float[np.ndarray, "K"]:
        """Depth in metres along the optical axis at every point, float32, in the order asked.

        Args:
            image: see :meth:`encode`.
            points: anything that NumPy turns into (K, 2): xy = (u, v) pixel indices of ``image``, (0, 0) the centre of
                its first pixel, -0.5 <= u < W - 0.5 and -0.5 <= v < H - 0.5. With K = 0 the model does not run. The
                points of one call see each other where the model is joint; then there are at most 8,192.
            camera: see :meth:`encode`.
            intrinsics: another name of it.

        Raises:
            ValueError: the image cannot be read, a point lies outside it, the camera is none, or there are too many
                points for a joint model.
        """
        photo = as_photo(image)
        chosen = choose_camera(photo, camera, intrinsics)
        query_points = check_points(points, photo.size)
        if len(query_points) == 0:
            return np.zeros(0, np.float32)
        return self._encode(photo, chosen)(query_points)

    def encode(self, image: ImageLike, *, camera: CameraLike = None, intrinsics: CameraLike = None) -> Scene:
        """Everything that depends on the image alone, computed once; ask the result for points.

        Args:
            image: a path, the bytes of a file, an open file, a PIL image, a uint8 array (H, W, 3) in RGB or (H, W) in
                grey, or a tensor (3, H, W) or (H, W, 3), uint8 or float in [0, 1]; of any size. A file is taken as
                displayed (its EXIF orientation applied), a PIL image or an array as it is.
            camera: a :class:`spd.Camera`, (fx, fy, cx, cy) in pixels of ``image``, a 3×3 matrix or a dictionary, see
                :func:`spd.camera.as_camera`. With it depth is right for that camera. None takes what the photograph's
                EXIF tags tell, or else, as ``"assumed"`` always does, the model's canonical focal length. Where the
                model has none, a camera changes no depth and only serves to lift points.
            intrinsics: another name of ``camera``.

        Raises:
            ValueError: the image cannot be read, or the camera is none, or of an image of another aspect.
        """
        photo = as_photo(image)
        return self._encode(photo, choose_camera(photo, camera, intrinsics))

    def dense(
        self, image: ImageLike, *, camera: CameraLike = None, intrinsics: CameraLike = None
    ) -> Float[np.ndarray, "H W"]:
        """Depth in metres at every pixel of the image, float32; as :meth:`Scene.dense`.

        Args:
            image: see :meth:`encode`.
            camera: see :meth:`encode`.
            intrinsics: another name of it.
        """
        return self.encode(image, camera=camera, intrinsics=intrinsics).dense()

    @torch.inference_mode()
    def _encode(self, photo: Photo, camera: Camera | None) -> Scene:
        answer_without_lost_threads(self.device)
        size = photo.size
        seen_size = size if self.train_size is None else model_size(size, self.train_size)
        stored = torch.from_numpy(photo.pixels).permute(2, 0, 1)
        images = resize_image(stored, Geometry(0, 0, size, seen_size)).unsqueeze(0).to(self.device)
        depth_scale = 1.0
        if camera is None:
            camera = self._assumed_camera(size, seen_size)
        elif self.focal_length is not None:
            depth_scale = camera.resized(seen_size).focal_length / self.focal_length
        return Scene(
            model=self.model,
            memory=self.model.encode(images),
            size=size,
            seen_size=seen_size,
            camera=camera,
            depth_scale=depth_scale,
            device=self.device,
            joint=self.joint,
        )

    def _assumed_camera(self, size: tuple[int, int], seen_size: tuple[int, int]) -> Camera | None:
        """The one whose depth needs no correction: of the canonical focal length in the image as the model sees it."""
        if self.focal_length is None:
            return None
        focal, (height, width) = self.focal_length, seen_size
        seen = Camera(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, size=seen_size, source="assumed")
        return seen.resized(size)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One encoded image, to be asked for depth as often as wanted."""

    model: DepthPredictor
    memory: Any
    size: tuple[int, int]
    """(height, width) of the user's image, whose pixels points are given in."""
    seen_size: tuple[int, int]
    """(height, width) to which it was resized for the model."""
    camera: Camera | None
    """In pixels of the user's image, and where it comes from; None of a model without a focal length that got none."""
    depth_scale: float
    """The camera's focal length over the canonical one, by which the model's answers are multiplied; 1 where either is
    not known."""
    device: torch.device
    joint: bool = False
    """As of :class:`Predictor`."""

    def __call__(self, points: Numbers) -> Float[np.ndarray, "K"]:
        """Depth in metres at every point, float32, in the order asked; as :meth:`Predictor.__call__`.

        Raises:
            ValueError: a point lies outside the image, ``points`` is not (K, 2), or there are too many of them for a
                joint model.
        """
        query_points = check_points(points, self.size)
        if len(query_points) == 0:
            return np.zeros(0, np.float32)
        if self.joint and len(query_points) > MAX_JOINT_QUERIES:
            raise ValueError(
                f"a joint model answers at most {MAX_JOINT_QUERIES} points at once, since each sees all others, got "
                f"{len(query_points)}; ask in groups, or train with interaction anchored, which has no limit"
            )
        return np.concatenate([self._answer(chunk)[:count] for chunk, count in self._chunks(query_points)])

    def dense(self, *, progress: Callable[[int], None] | None = None) -> Float[np.ndarray, "H W"]:
        """Depth in metres at every pixel of the user's image, float32.

        Args:
            progress: called with the number of pixels done since its last call.

        Raises:
            ValueError: the model is joint and the image has more pixels than it answers at once.
        """
        rows, columns = np.mgrid[: self.size[0], : self.size[1]]
        query_points = np.stack((columns.ravel(), rows.ravel()), axis=1)
        # Whole chunks, but the last.
        step = len(query_points) if self.joint else 16 * CHUNK_SIZE
        pieces = []
        for start in range(0, len(query_points), step):
            pieces.append(self(query_points[start : start + step]))
            if progress is not None:
                progress(len(pieces[-1]))
        return np.concatenate(pieces).reshape(self.size)

    def _chunks(self, query_points: Float[np.ndarray, "K 2"]) -> Iterator[tuple[np.ndarray, int]]:
        """The points in pieces, and how many of each were asked.

        The last piece of several is filled up to the size of the others, since compiled models want one size.
        """
        size = len(query_points) if self.joint else CHUNK_SIZE
        for start in range(0, len(query_points), size):
            chunk = query_points[start : start + size]
            count = len(chunk)
            if start and count < size:
                chunk = np.concatenate((chunk, np.repeat(chunk[-1:], size - count, axis=0)))
            yield chunk, count

    @torch.inference_mode()
    def _answer(self, query_points: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "K"]:
        answer_without_lost_threads(self.device)
        seen_points = resize_points(torch.from_numpy(query_points), self.size, self.seen_size)
        # To float32 before the device: not every device has float64.
        depth_m = self.model.decode(self.memory, seen_points.float().unsqueeze(0).to(self.device))
        return (depth_m[0].float() * self.depth_scale).cpu().numpy()

    @property
    def camera_source(self) -> CameraSource:
        """``given``, ``exif``, ``calibration`` or ``assumed``: whether the metres are right rests on it."""
        return "assumed" if self.camera is None else self.camera.source

    @property
    def intrinsics(self) -> Intrinsics | None:
        """The camera's four numbers, in pixels of the user's image; None where it is assumed."""
        return None if self.camera is None or self.camera_source == "assumed" else self.camera.intrinsics

    def lift(self, points: Numbers) -> Float[np.ndarray, "K 3"]:
        """The points in camera coordinates, metres, float32: X right, Y down, Z along the optical axis.

        Raises:
            ValueError: the camera is only assumed, or as for a call.
        """
        if self.camera is None or self.camera_source == "assumed":
            raise ValueError(
                "lifting points needs the camera: encode the image with intrinsics=(fx, fy, cx, cy) or a spd.Camera"
            )
        query_points = check_points(points, self.size)
        return self.camera.lift(query_points, self(query_points)).astype(np.float32)


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
