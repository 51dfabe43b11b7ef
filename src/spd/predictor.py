"""What a user calls: an image of any size and kind, points in its own pixels, depths in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from spd.camera import Camera
from spd.data.transforms import Geometry, resize_image
from spd.depth_predictor import DepthPredictor as DepthPredictor
from spd.depth_predictor import SureDepthPredictor as SureDepthPredictor
from spd.estimate import Estimate, IntervalFactors
from spd.forking import answer_without_lost_threads
from spd.inputs import CameraLike, ImageLike, Numbers, Photo, as_photo, check_points, choose_camera, model_size
from spd.model.network import DepthNetwork
from spd.scene import CHUNK_SIZE as CHUNK_SIZE
from spd.scene import MAX_JOINT_QUERIES as MAX_JOINT_QUERIES
from spd.scene import Scene


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

    def estimate(
        self, image: ImageLike, points: Numbers, *, camera: CameraLike = None, intrinsics: CameraLike = None
    ) -> Estimate:
        """Depth at every point with how sure it is; as :meth:`Scene.estimate`.

        Args:
            image: see :meth:`encode`.
            points: see :meth:`__call__`.
            camera: see :meth:`encode`.
            intrinsics: another name of it.
        """
        return self.encode(image, camera=camera, intrinsics=intrinsics).estimate(points)

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
            _model=self.model,
            _memory=self.model.encode(images),
            size=size,
            seen_size=seen_size,
            camera=camera,
            _depth_scale=depth_scale,
            _device=self.device,
            _joint=self.joint,
            _has_log_std=self.has_log_std,
            _intervals=self.intervals,
        )

    def _assumed_camera(self, size: tuple[int, int], seen_size: tuple[int, int]) -> Camera | None:
        """The one whose depth needs no correction: of the canonical focal length in the image as the model sees it."""
        if self.focal_length is None:
            return None
        focal, (height, width) = self.focal_length, seen_size
        seen = Camera(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, size=seen_size, source="assumed")
        return seen.resized(size)


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
