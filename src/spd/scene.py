"""One encoded image, to be asked for depth as often as wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from spd.boxes import box_grid, mask_points, object_depth
from spd.calibration import Calibration
from spd.camera import Camera, CameraSource, Intrinsics
from spd.coordinates import resize_points
from spd.depth_predictor import DepthPredictor, SureDepthPredictor
from spd.detections import as_boxes, as_keypoints, as_masks
from spd.estimate import Estimate, IntervalFactors
from spd.forking import answer_without_lost_threads
from spd.inputs import Numbers, check_points
from spd.measurement import Distance, Measurement
from spd.upsampling import upsample

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
    _calibration: Calibration | None = None
    """As of :class:`Predictor`."""
    _pixels: np.ndarray | None = None
    """Of the user's image: what a sparse map is brought to its size by."""

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
                "this model does not say how sure it is; one that is trained with --model.log-std true does"
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

    def measure(self, points: Numbers) -> Measurement:
        """All that is known of the points: depth, range, place in space, how sure it is, and by which camera.

        Args:
            points: (K, 2), see :meth:`Predictor.__call__`.

        Raises:
            ValueError: as of a call.

        Example:
            >>> from spd import SPD, ModelConfig, Predictor
            >>> predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
            >>> found = predictor.encode(np.zeros((48, 80, 3), np.uint8)).measure([(3, 4), (70, 40)])
            >>> found.xyz_m.shape, found.camera_source
            ((2, 3), 'assumed')
        """
        query_points = check_points(points, self.size)
        answers = self._ask(query_points, with_std=self._has_log_std)
        return self._measured(query_points, answers[0], answers[1] if self._has_log_std else None)

    def _measured(self, query_points: np.ndarray, depth_m: np.ndarray, log_std: np.ndarray | None) -> Measurement:
        camera = self.camera
        return Measurement(
            points=query_points,
            depth_m=depth_m,
            rays=np.full((len(query_points), 3), np.nan) if camera is None else camera.rays(query_points),
            camera_source=self.camera_source,
            log_std=log_std,
            factors=self._intervals,
            calibrated=self._calibration is not None,
        )

    def distance(self, start: Numbers, end: Numbers) -> Distance:
        """The distance in space between what two pixels show, in metres, with its interval.

        Args:
            start: (u, v).
            end: (u, v).

        Raises:
            ValueError: as of a call.
        """
        return self.measure(np.stack((np.asarray(start), np.asarray(end)))).distance(0, 1)

    def measure_boxes(self, boxes: Any) -> Measurement:
        """The depth of the object in each box, not that of what is behind it; one row per box, at its middle.

        Every box asks 25 points.

        Args:
            boxes: (N, 4) x0, y0, x1, y1 as detectors give them (an image spans 0 to W and 0 to H); COCO annotations
                with ``bbox`` (a list of dictionaries, or one with ``annotations``); a result of Ultralytics; or
                ``supervision.Detections``. What reaches beyond the image is cut off.

        Raises:
            ValueError: they are none of these, or a box has no pixel inside of the image.
        """
        corners = as_boxes(boxes, self.size)
        places = [box_grid(box) for box in corners]
        return self._of_objects((corners[:, :2] + corners[:, 2:]) / 2 - 0.5, places, [object_depth] * len(places))

    def measure_masks(self, masks: Any) -> Measurement:
        """The median depth of each mask, from 25 points spread through it; one row per mask, at the middle of them.

        Args:
            masks: (N, H, W) bool; COCO annotations with ``segmentation`` (RLE or polygons); a result of Ultralytics; or
                ``supervision.Detections``.

        Raises:
            ValueError: they are none of these, are of another size than the image, or one is empty.
        """
        places = [mask_points(mask) for mask in as_masks(masks, self.size)]
        # A pixel of the mask itself: the middle of a ring is none.
        middles = [points[np.square(points - points.mean(axis=0)).sum(axis=1).argmin()] for points in places]
        middle = [lambda depth_m: float(np.median(depth_m))] * len(places)
        return self._of_objects(np.array(middles, np.float64).reshape(-1, 2), places, middle)

    def _of_objects(
        self, middles: np.ndarray, places: list[np.ndarray], rules: list[Callable[[np.ndarray], float]]
    ) -> Measurement:
        """One row per object, of the points of all asked at once."""
        asked = self.measure(np.concatenate(places)) if places else self.measure([])
        depth_m, log_std = np.zeros(len(places), np.float32), np.zeros(len(places), np.float32)
        ends = np.cumsum([0, *map(len, places)])
        for index, rule in enumerate(rules):
            mine = asked[int(ends[index]) : int(ends[index + 1])]
            depth_m[index] = rule(mine.depth_m)
            if mine.log_std is not None:
                log_std[index] = mine.log_std[np.abs(mine.depth_m - depth_m[index]).argmin()]
        return self._measured(middles, depth_m, log_std if self._has_log_std else None)

    def measure_keypoints(self, keypoints: Any) -> list[Measurement]:
        """The depth at the keypoints of each instance; hidden ones are not asked and have NaN.

        Args:
            keypoints: (N, J, 2) xy, or (N, J, 3) with a visibility, 0 for hidden; COCO annotations with ``keypoints``;
                a result of Ultralytics; or ``supervision.KeyPoints``.

        Returns:
            One :class:`Measurement` of J rows per instance.

        Raises:
            ValueError: they are none of these, or a visible one lies outside of the image.
        """
        instances = as_keypoints(keypoints)
        seen = [instance[:, 2] > 0 for instance in instances]
        visible = [instance[shown, :2] for instance, shown in zip(instances, seen, strict=True)]
        asked = self.measure(np.concatenate(visible) if visible else [])
        results, start = [], 0
        for instance, shown in zip(instances, seen, strict=True):
            mine = asked[start : start + int(shown.sum())]
            start += len(mine)
            depth_m = np.full(len(instance), np.nan, np.float32)
            depth_m[shown] = mine.depth_m
            log_std = None
            if mine.log_std is not None:
                log_std = np.full(len(instance), np.nan, np.float32)
                log_std[shown] = mine.log_std
            results.append(self._measured(instance[:, :2], depth_m, log_std))
        return results

    def dense(self, *, step: int = 1, progress: Callable[[int], None] | None = None) -> Float[np.ndarray, "H W"]:
        """Depth in metres at every pixel of the user's image, float32.

        Args:
            step: 1 asks every pixel. Of more, one pixel of step × step is asked and the others are filled in between
                them, along the edges of the image: a preview in about 1 / step² of the time.
            progress: called with the number of pixels asked since its last call.

        Raises:
            ValueError: ``step`` is no whole number from 1 up, or the model is joint and more pixels are asked than it
                answers at once.
        """
        if not isinstance(step, int) or step < 1:
            raise ValueError(f"the step of a dense map must be a whole number from 1 up, got {step!r}")
        asked_rows, asked_columns = (_spread(side, step) for side in self.size)
        columns, rows = np.meshgrid(asked_columns, asked_rows)
        query_points = np.stack((columns.ravel(), rows.ravel()), axis=1)
        # Whole chunks, but the last.
        chunk = len(query_points) if self._joint else 16 * CHUNK_SIZE
        pieces = []
        for start in range(0, len(query_points), chunk):
            pieces.append(self(query_points[start : start + chunk]))
            if progress is not None:
                progress(len(pieces[-1]))
        depth_m = np.concatenate(pieces).reshape(columns.shape)
        if step == 1 or self._pixels is None:
            return depth_m
        return upsample(depth_m, asked_rows, asked_columns, self._pixels)

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
        return self._calibrated(depth_m, None if log_std is None else log_std[0].float().cpu().numpy())

    def _calibrated(self, depth_m: np.ndarray, log_std: np.ndarray | None) -> list[Float[np.ndarray, "K"]]:
        exponent = 1.0
        if self._calibration is not None:
            depth_m, exponent = self._calibration.apply(depth_m), self._calibration.exponent
        return [depth_m] if log_std is None else [depth_m, log_std * np.float32(exponent)]

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


def _spread(side: int, step: int) -> np.ndarray:
    """Pixels of one axis that are asked: the middles of pieces of ``step``, the last of them inside."""
    return np.minimum(np.arange(0, side, step) + (step - 1) / 2, side - 1.0)
