"""What a user calls: an image of any size and kind, points in its own pixels, depths in metres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from spd.camera import Intrinsics, lift
from spd.coordinates import resize_points
from spd.data.transforms import Geometry, resize_image
from spd.depth_predictor import DepthPredictor as DepthPredictor
from spd.depth_predictor import SureDepthPredictor as SureDepthPredictor
from spd.estimate import Estimate, IntervalFactors
from spd.forking import answer_without_lost_threads
from spd.inputs import ImageLike, Numbers, as_intrinsics, as_pixels, check_points, model_size
from spd.model.network import DepthNetwork

CHUNK_SIZE = 4096
"""Points that are answered at once where none sees another: memory does not grow with their number."""
MAX_JOINT_QUERIES = 8192
"""Most points of one call where all see each other: time and memory grow with the square of their number."""


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
    has_log_std: bool = False
    """The model is a :class:`SureDepthPredictor` and :meth:`estimate` answers."""
    intervals: IntervalFactors | None = None
    """Of the checkpoint; None where nobody has fitted them."""

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
            has_log_std=model.config.log_std,
            intervals=model.intervals,
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
                its first pixel, -0.5 <= u < W - 0.5 and -0.5 <= v < H - 0.5. With K = 0 the model does not run. The
                points of one call see each other where the model is joint; then there are at most 8,192.
            intrinsics: see :meth:`encode`.

        Raises:
            ValueError: the image cannot be read, a point lies outside it, the intrinsics are no camera, or there are
                too many points for a joint model.
        """
        pixels = as_pixels(image)
        camera = as_intrinsics(intrinsics)
        query_points = check_points(points, pixels.shape[:2])
        if len(query_points) == 0:
            return np.zeros(0, np.float32)
        return self._encode(pixels, camera)(query_points)

    def estimate(self, image: ImageLike, points: Numbers, *, intrinsics: Numbers | None = None) -> Estimate:
        """Depth at every point with how sure it is; as :meth:`Scene.estimate`.

        Args:
            image: see :meth:`encode`.
            points: see :meth:`__call__`.
            intrinsics: see :meth:`encode`.
        """
        return self.encode(image, intrinsics=intrinsics).estimate(points)

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
        return self._encode(as_pixels(image), as_intrinsics(intrinsics))

    def dense(self, image: ImageLike, *, intrinsics: Numbers | None = None) -> Float[np.ndarray, "H W"]:
        """Depth in metres at every pixel of the image, float32; as :meth:`Scene.dense`.

        Args:
            image: see :meth:`encode`.
            intrinsics: see :meth:`encode`.
        """
        return self.encode(image, intrinsics=intrinsics).dense()

    @torch.inference_mode()
    def _encode(self, pixels: UInt8[np.ndarray, "H W 3"], intrinsics: Intrinsics | None) -> Scene:
        answer_without_lost_threads(self.device)
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
            joint=self.joint,
            has_log_std=self.has_log_std,
            intervals=self.intervals,
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
    joint: bool = False
    """As of :class:`Predictor`."""
    has_log_std: bool = False
    """As of :class:`Predictor`."""
    intervals: IntervalFactors | None = None
    """As of :class:`Predictor`."""

    def __call__(self, points: Numbers) -> Float[np.ndarray, "K"]:
        """Depth in metres at every point, float32, in the order asked; as :meth:`Predictor.__call__`.

        Raises:
            ValueError: a point lies outside the image, ``points`` is not (K, 2), or there are too many of them for a
                joint model.
        """
        (depth_m,) = self._ask(points, with_std=False)
        return depth_m

    def estimate(self, points: Numbers) -> Estimate:
        """Depth at every point with how sure it is: standard deviations, and intervals of any level.

        The depth is that of a call. The camera changes no ``log_std``: it multiplies depth.

        Example:
            >>> from spd import SPD, ModelConfig
            >>> model = SPD(ModelConfig.atto(train_size=(64, 96), log_std=True))
            >>> scene = Predictor.from_model(model).encode(np.zeros((480, 640, 3), np.uint8))
            >>> scene.estimate([(320, 240), (0, 479)]).log_std.shape
            (2,)

        Raises:
            ValueError: the model does not say how sure it is, or as for a call.
        """
        if not self.has_log_std:
            raise ValueError(
                "this model does not say how sure it is; spd train sure --init CHECKPOINT teaches it to a checkpoint"
            )
        depth_m, log_std = self._ask(points, with_std=True)
        return Estimate(depth_m=depth_m, log_std=log_std, factors=self.intervals)

    def _ask(self, points: Numbers, *, with_std: bool) -> tuple[Float[np.ndarray, "K"], ...]:
        """Depth, and on wish the standard deviation of its logarithm."""
        query_points = check_points(points, self.size)
        if len(query_points) == 0:
            return (np.zeros(0, np.float32),) * (1 + with_std)
        if self.joint and len(query_points) > MAX_JOINT_QUERIES:
            raise ValueError(
                f"a joint model answers at most {MAX_JOINT_QUERIES} points at once, since each sees all others, got "
                f"{len(query_points)}; ask in groups, or train with interaction anchored, which has no limit"
            )
        pieces = [
            [values[:count] for values in self._answer(chunk, with_std=with_std)]
            for chunk, count in self._chunks(query_points)
        ]
        return tuple(np.concatenate(values) for values in zip(*pieces, strict=True))

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
    def _answer(self, query_points: Float[np.ndarray, "K 2"], *, with_std: bool) -> list[Float[np.ndarray, "K"]]:
        answer_without_lost_threads(self.device)
        seen_points = resize_points(torch.from_numpy(query_points), self.size, self.seen_size)
        # To float32 before the device: not every device has float64.
        seen_points = seen_points.float().unsqueeze(0).to(self.device)
        if with_std:
            assert isinstance(self.model, SureDepthPredictor), type(self.model)
            depth_m, log_std = self.model.decode_with_std(self.memory, seen_points)
        else:
            depth_m, log_std = self.model.decode(self.memory, seen_points), None
        depth_m = (depth_m[0].float() * self.depth_scale).cpu().numpy()
        return [depth_m] if log_std is None else [depth_m, log_std[0].float().cpu().numpy()]

    def lift(self, points: Numbers) -> Float[np.ndarray, "K 3"]:
        """The points in camera coordinates, metres, float32: X right, Y down, Z along the optical axis.

        Raises:
            ValueError: the image was encoded without intrinsics, or as for a call.
        """
        if self.intrinsics is None:
            raise ValueError("lifting points needs the camera: encode the image with intrinsics=(fx, fy, cx, cy)")
        query_points = check_points(points, self.size)
        return lift(query_points, self(query_points), self.intrinsics).astype(np.float32)


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
