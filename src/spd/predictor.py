"""What a user calls: an image of any size and kind, points in its own pixels, depths in metres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from spd.batching import BATCH_SIZE, encode_together, one_by_one, pairs_of, windows
from spd.calibration import Calibration, CalibrationKind
from spd.camera import Camera
from spd.data.transforms import Geometry, resize_image
from spd.depth_predictor import DepthPredictor as DepthPredictor
from spd.depth_predictor import SureDepthPredictor as SureDepthPredictor
from spd.estimate import Estimate, IntervalFactors
from spd.forking import answer_without_lost_threads
from spd.inputs import CameraLike, ImageLike, Numbers, Photo, as_photo, check_points, choose_camera, model_size
from spd.measurement import Measurement
from spd.model.network import DepthNetwork
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
    calibration: Calibration | None = None
    """Corrects every depth; every :class:`Measurement` then says that it is calibrated."""

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

    def measure(
        self, image: ImageLike, points: Numbers, *, camera: CameraLike = None, intrinsics: CameraLike = None
    ) -> Measurement:
        """Everything that is known of the points; as :meth:`Scene.measure`.

        Args:
            image: see :meth:`encode`.
            points: see :meth:`__call__`.
            camera: see :meth:`encode`.
            intrinsics: another name of it.
        """
        return self.encode(image, camera=camera, intrinsics=intrinsics).measure(points)

    def encode_batch(
        self, images: Iterable[ImageLike], *, camera: CameraLike = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[Scene]:
        """The scenes of many images of any sizes, in their order, those of one size encoded together.

        Args:
            images: see :meth:`encode`; read as they are needed.
            camera: one for all, or a list of one per image; see :meth:`encode`.
            batch_size: how many images are read and encoded before their scenes are handed on. Memory grows with it,
                and not with the number of images, as long as the scenes are not kept.

        Raises:
            ValueError: as of :meth:`encode`, once that image's turn comes; or ``batch_size`` is below 1.

        Example:
            >>> from spd import SPD, ModelConfig
            >>> predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
            >>> images = [np.zeros((48, 80, 3), np.uint8), np.zeros((80, 48, 3), np.uint8)]
            >>> [scene.size for scene in predictor.encode_batch(images)]
            [(48, 80), (80, 48)]
        """
        for window in windows(pairs_of(images, camera), batch_size):
            photos = [as_photo(image) for image, _ in window]
            cameras = [choose_camera(photo, given) for photo, (_, given) in zip(photos, window, strict=True)]
            yield from self._encode_all(photos, cameras)

    def measure_batch(
        self,
        images: Iterable[ImageLike],
        points: Iterable[Numbers],
        *,
        camera: CameraLike = None,
        batch_size: int = BATCH_SIZE,
    ) -> list[Measurement]:
        """:meth:`measure` of many images, each at its own points, of any number.

        Args:
            images: see :meth:`encode`.
            points: one (K, 2) per image; K may differ.
            camera: as of :meth:`encode_batch`.
            batch_size: as of :meth:`encode_batch`.

        Raises:
            ValueError: as of :meth:`encode_batch`, there are not as many lists of points as images, or a point lies
                outside of its image.
        """
        scenes = self.encode_batch(images, camera=camera, batch_size=batch_size)
        return [scene.measure(mine) for scene, mine in one_by_one(scenes, points)]

    def calibrate(
        self,
        observations: Iterable[tuple[ImageLike, Numbers, float | int]],
        *,
        kind: Literal["range", "depth"] = "range",
        camera: CameraLike = None,
        correction: CalibrationKind = "auto",
        provenance: dict[str, Any] | None = None,
    ) -> Calibration:
        """A correction of this predictor's scale by known distances; hand it to :meth:`calibrated`.

        Args:
            observations: (image, (u, v), metres) each, one or more. Distances far apart tell most.
            kind: what the metres are: ``range`` along the ray from the camera, as a tape or a laser measures, or
                ``depth`` along the optical axis.
            camera: of all images; see :meth:`encode`. It is kept in the calibration, for images without one.
            correction: ``scale``, ``power`` or ``auto``; see :meth:`spd.Calibration.fit`.
            provenance: plain values to keep in it, such as who measured what.

        Raises:
            ValueError: as of :meth:`encode` and :meth:`spd.Calibration.fit`, or images whose cameras come from
                different places.

        Example:
            >>> from spd import SPD, ModelConfig
            >>> predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
            >>> image = np.zeros((48, 80, 3), np.uint8)
            >>> calibration = predictor.calibrate([(image, (40, 20), 2.5)])
            >>> predictor.calibrated(calibration).measure(image, [(40, 20)]).range_m.round(4).tolist()
            [2.5]
        """
        if kind not in ("range", "depth"):
            raise ValueError(f"the kind of known distances must be range or depth, got {kind!r}")
        plain = replace(self, calibration=None)
        predicted, known, cameras = [], [], []
        scene, last = None, None
        for image, point, metres in observations:
            if scene is None or image is not last:
                scene, last = plain.encode(image, camera=camera), image
                cameras.append(scene.camera)
            found = scene.measure(np.asarray(point)[None])
            along = float(np.linalg.norm(found.rays[0])) if kind == "range" else 1.0
            if not np.isfinite(along):
                raise ValueError("distances along the ray need a camera: this model assumes none, so pass camera=...")
            predicted.append(float(found.depth_m[0]))
            known.append(float(metres) / along)
        sources = sorted({"assumed" if one is None else one.source for one in cameras})
        if len(sources) > 1:
            raise ValueError(f"observations must have cameras of one kind, got {' and '.join(sources)}")
        given = cameras[0] if sources == ["given"] else None
        return Calibration.fit(
            np.array(predicted),
            np.array(known),
            kind=correction,
            camera=given,
            camera_source=sources[0] if sources else "assumed",
            provenance={"images": len(cameras), "kind": kind, **(provenance or {})},
        )

    def calibrated(self, calibration: Calibration | None) -> Predictor:
        """This predictor with a calibration, or without any."""
        return replace(self, calibration=calibration)

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

    def _encode(self, photo: Photo, camera: Camera | None) -> Scene:
        return self._encode_all([photo], [camera])[0]

    @torch.inference_mode()
    def _encode_all(self, photos: Sequence[Photo], cameras: Sequence[Camera | None]) -> list[Scene]:
        """Scenes of several images, in their order; those that the model sees at one size are encoded together."""
        answer_without_lost_threads(self.device)
        seen_sizes = [
            photo.size if self.train_size is None else model_size(photo.size, self.train_size) for photo in photos
        ]
        images = []
        for photo, seen_size in zip(photos, seen_sizes, strict=True):
            stored = torch.from_numpy(photo.pixels).permute(2, 0, 1)
            images.append(resize_image(stored, Geometry(0, 0, photo.size, seen_size)))
        memories = encode_together(self.model, images, self.device)
        return [
            self._scene(photo, camera, seen_size, memory)
            for photo, camera, seen_size, memory in zip(photos, cameras, seen_sizes, memories, strict=True)
        ]

    def _scene(self, photo: Photo, camera: Camera | None, seen_size: tuple[int, int], memory: Any) -> Scene:
        known = None if self.calibration is None else self.calibration.camera
        if known is not None and (camera is None or camera.source == "exif"):
            camera = replace(known.of_image(photo.size), source="calibration")
        depth_scale = 1.0
        if camera is None:
            camera = self._assumed_camera(photo.size, seen_size)
        elif self.focal_length is not None:
            depth_scale = camera.resized(seen_size).focal_length / self.focal_length
        return Scene(
            _model=self.model,
            _memory=memory,
            size=photo.size,
            seen_size=seen_size,
            camera=camera,
            _depth_scale=depth_scale,
            _device=self.device,
            _joint=self.joint,
            _has_log_std=self.has_log_std,
            _intervals=self.intervals,
            _calibration=self.calibration,
            _pixels=photo.pixels,
        )

    def _assumed_camera(self, size: tuple[int, int], seen_size: tuple[int, int]) -> Camera | None:
        """The one whose depth needs no correction: of the canonical focal length in the image as the model sees it."""
        if self.focal_length is None:
            return None
        focal, (height, width) = self.focal_length, seen_size
        seen = Camera(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, size=seen_size, source="assumed")
        return seen.resized(size)
