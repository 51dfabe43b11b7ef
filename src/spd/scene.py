"""One encoded image, to be asked for depth as often as wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from spd.camera import Camera, CameraSource, Intrinsics
from spd.coordinates import resize_points
from spd.depth_predictor import DepthPredictor, SureDepthPredictor
from spd.estimate import Estimate, IntervalFactors
from spd.forking import answer_without_lost_threads
from spd.inputs import Numbers, check_points

CHUNK_SIZE = 4096
"""Points that are answered at once where none sees another: memory does not grow with their number."""
MAX_JOINT_QUERIES = 8192
"""Most points of one call where all see each other: time and memory grow with the square of their number."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One encoded image, to be asked for depth as often as wanted."""

    _model: DepthPredictor
    _memory: Any
    size: tuple[int, int]
    """(height, width) of the user's image, whose pixels points are given in."""
    seen_size: tuple[int, int]
    """(height, width) to which it was resized for the model."""
    camera: Camera | None
    """In pixels of the user's image, and where it comes from; None of a model without a focal length that got none."""
    _depth_scale: float
    """The camera's focal length over the canonical one, by which the model's answers are multiplied; 1 where either is
    not known."""
    _device: torch.device
    _joint: bool = False
    """As of :class:`Predictor`."""
    _has_log_std: bool = False
    """As of :class:`Predictor`."""
    _intervals: IntervalFactors | None = None
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
            >>> from spd import SPD, ModelConfig, Predictor
            >>> model = SPD(ModelConfig.atto(train_size=(64, 96), log_std=True))
            >>> scene = Predictor.from_model(model).encode(np.zeros((480, 640, 3), np.uint8))
            >>> scene.estimate([(320, 240), (0, 479)]).log_std.shape
            (2,)

        Raises:
            ValueError: the model does not say how sure it is, or as for a call.
        """
        if not self._has_log_std:
            raise ValueError(
                "this model does not say how sure it is; spd train sure --init CHECKPOINT teaches it to a checkpoint"
            )
        depth_m, log_std = self._ask(points, with_std=True)
        return Estimate(depth_m=depth_m, log_std=log_std, factors=self._intervals)

    def _ask(self, points: Numbers, *, with_std: bool) -> tuple[Float[np.ndarray, "K"], ...]:
        """Depth, and on wish the standard deviation of its logarithm."""
        query_points = check_points(points, self.size)
        if len(query_points) == 0:
            return (np.zeros(0, np.float32),) * (1 + with_std)
        if self._joint and len(query_points) > MAX_JOINT_QUERIES:
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
        step = len(query_points) if self._joint else 16 * CHUNK_SIZE
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
        size = len(query_points) if self._joint else CHUNK_SIZE
        for start in range(0, len(query_points), size):
            chunk = query_points[start : start + size]
            count = len(chunk)
            if start and count < size:
                chunk = np.concatenate((chunk, np.repeat(chunk[-1:], size - count, axis=0)))
            yield chunk, count

    @torch.inference_mode()
    def _answer(self, query_points: Float[np.ndarray, "K 2"], *, with_std: bool) -> list[Float[np.ndarray, "K"]]:
        answer_without_lost_threads(self._device)
        seen_points = resize_points(torch.from_numpy(query_points), self.size, self.seen_size)
        # To float32 before the device: not every device has float64.
        seen_points = seen_points.float().unsqueeze(0).to(self._device)
        if with_std:
            assert isinstance(self._model, SureDepthPredictor), type(self._model)
            depth_m, log_std = self._model.decode_with_std(self._memory, seen_points)
        else:
            depth_m, log_std = self._model.decode(self._memory, seen_points), None
        depth_m = (depth_m[0].float() * self._depth_scale).cpu().numpy()
        return [depth_m] if log_std is None else [depth_m, log_std[0].float().cpu().numpy()]

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
