"""Cameras: how they follow an image that is resized or cropped, and what they make of a depth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from spd import camera_sources
from spd.distortion import Distortion

CameraSource: TypeAlias = Literal["given", "exif", "calibration", "assumed"]
"""The caller, the photograph's EXIF, a calibration, or the model's canonical focal length."""
SHORTEST_FOCAL, LONGEST_FOCAL = 0.1, 10.0
"""Over the image's width: a lens of 157 degrees, and one of 6."""
_SAME_ASPECT = 0.01
"""Part by which an image's aspect may differ from its camera's: sides are rounded when an image is resized."""


class Intrinsics(NamedTuple):
    """A pinhole camera in pixels of its image; (cx, cy) is a pixel index, (0, 0) the centre of the first pixel."""

    fx: float
    fy: float
    cx: float
    cy: float

    @property
    def focal_length(self) -> float:
        """√(fx·fy): the one number that ties apparent size to depth."""
        return math.sqrt(self.fx * self.fy)

    def resized(self, source_size: tuple[int, int], target_size: tuple[int, int]) -> Intrinsics:
        """The camera of the image resized from ``source_size`` to ``target_size``, both (height, width)."""
        ratio_y = target_size[0] / source_size[0]
        ratio_x = target_size[1] / source_size[1]
        return Intrinsics(
            self.fx * ratio_x,
            self.fy * ratio_y,
            (self.cx + 0.5) * ratio_x - 0.5,
            (self.cy + 0.5) * ratio_y - 0.5,
        )

    def cropped(self, left: float, top: float) -> Intrinsics:
        """The camera of the crop whose first pixel is (left, top); negative where the crop pads."""
        return self._replace(cx=self.cx - left, cy=self.cy - top)

    def flipped(self, width: int) -> Intrinsics:
        """The camera of the image mirrored left to right."""
        return self._replace(cx=width - 1 - self.cx)


def lift(
    query_points: Float[np.ndarray, "K 2"], depth_m: Float[np.ndarray, "K"], intrinsics: Intrinsics
) -> Float[np.ndarray, "K 3"]:
    """Points in camera coordinates, metres: X right, Y down, Z along the optical axis.

    X = (u - cx) / fx · Z and Y = (v - cy) / fy · Z, with Z the predicted depth.

    Args:
        query_points: xy pixel indices of the image that ``intrinsics`` belong to.
        depth_m: z-depth at those pixels in metres.
        intrinsics: the camera.

    Example:
        >>> lift(np.array([[320.0, 240.0]]), np.array([2.0]), Intrinsics(500, 500, 320, 240)).tolist()
        [[0.0, 0.0, 2.0]]
    """
    x = (query_points[:, 0] - intrinsics.cx) / intrinsics.fx
    y = (query_points[:, 1] - intrinsics.cy) / intrinsics.fy
    return np.stack((x * depth_m, y * depth_m, depth_m), axis=1)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera in pixels of its image: what turns a pixel and a depth into a place in space.

    Everything of SPD that takes a camera takes one of these, four numbers (fx, fy, cx, cy), a 3×3 matrix, or a
    dictionary; see :func:`as_camera`.

    Example:
        >>> camera = Camera(fx=500.0, fy=500.0, cx=319.5, cy=239.5, size=(480, 640))
        >>> camera.rays([(319.5, 239.5), (819.5, 239.5)]).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """

    fx: float
    """Focal length in pixels along x."""
    fy: float
    cx: float
    """Principal point, a pixel index: (0, 0) is the centre of the first pixel, as in OpenCV."""
    cy: float
    size: tuple[int, int] | None = None
    """(height, width) of the image in pixels; None is that of whatever image it is used with."""
    distortion: Distortion | None = None
    """Of the lens; None of an ideal one. Rays through it need OpenCV, the extra ``camera``."""
    source: CameraSource = "given"

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"a camera must be finite numbers fx, fy, cx, cy, got {numbers}")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths must be positive, got fx={self.fx}, fy={self.fy}")
        if self.size is not None and not (len(self.size) == 2 and min(self.size) > 0):
            raise ValueError(f"a camera's size must be (height, width) in pixels, got {self.size}")

    @classmethod
    def from_matrix(cls, matrix: Any, *, size: tuple[int, int] | None = None) -> Camera:
        """The camera of a matrix K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], in pixels.

        Args:
            matrix: (3, 3), anything that NumPy takes. A skew is refused.
            size: (height, width) of its image.

        Raises:
            ValueError: it is no such matrix.

        Example:
            >>> Camera.from_matrix([[500, 0, 320], [0, 510, 240], [0, 0, 1]]).fy
            510.0
        """
        return cls(**camera_sources.of_matrix(matrix), size=size)

    @classmethod
    def from_fov(cls, degrees: float | int, size: tuple[int, int]) -> Camera:
        """An ideal camera by its horizontal field of view, with square pixels and its axis in the image's middle.

        Args:
            degrees: between the image's left and right edge, above 0 and below 180.
            size: (height, width) of the image in pixels.

        Raises:
            ValueError: there is no such field of view.

        Example:
            >>> round(Camera.from_fov(90, (480, 640)).fx, 6)
            320.0
        """
        if not 0 < degrees < 180:
            raise ValueError(f"a field of view must be above 0 and below 180 degrees, got {degrees}")
        height, width = size
        focal = width / 2 / math.tan(math.radians(degrees) / 2)
        return cls(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, size=(height, width))

    @classmethod
    def from_exif(cls, image: Any) -> Camera:
        """The camera that a photograph's EXIF tags tell of, for the image as displayed (its orientation applied).

        By the focal length in 35 mm equivalent, else by the focal length and the resolution of the sensor. The axis is
        taken to be in the middle. Where a photograph was cropped after it was taken, its tags no longer hold, and
        it is refused.

        Args:
            image: a path, a file object, bytes, or a PIL image as opened from a file.

        Raises:
            ValueError: it cannot be read, or says nothing of its focal length.

        Source: CIPA DCG-001-2018: equivalent focal lengths compare diagonals, 43.27 mm for 35 mm film.
        """
        found = camera_sources.of_exif(image)
        if isinstance(found, str):
            raise ValueError(f"the image tells no camera: {found}")
        return cls(**found, source="exif")

    @classmethod
    def from_camera_info(cls, info: Any) -> Camera:
        """The camera of a ROS ``sensor_msgs/CameraInfo``, of ROS 1 or 2, as a message or a dictionary.

        Its binning and region of interest are applied: the camera is that of the image that comes with the message.

        Raises:
            ValueError: a field is missing, the camera is not calibrated, or its ``distortion_model`` is none of
                ``plumb_bob``, ``rational_polynomial`` and ``equidistant``.
        """
        fields, roi, binning = camera_sources.of_camera_info(info)
        camera = cls(**fields)
        if roi is not None:
            left, top, width, height = roi
            camera = replace(camera, cx=camera.cx - left, cy=camera.cy - top, size=(height, width))
        if binning != (1, 1) and camera.size is not None:
            camera = camera.resized((camera.size[0] // binning[1], camera.size[1] // binning[0]))
        return camera

    @classmethod
    def from_colmap(cls, model: str, params: Any, *, size: tuple[int, int] | None = None) -> Camera:
        """The camera of a COLMAP model, such as a line of its ``cameras.txt``.

        COLMAP puts (0.5, 0.5) at the centre of the first pixel, so half a pixel is taken off its principal point.

        Args:
            model: ``SIMPLE_PINHOLE``, ``PINHOLE``, ``SIMPLE_RADIAL``, ``RADIAL``, ``OPENCV``, ``FULL_OPENCV``,
                ``OPENCV_FISHEYE``, ``SIMPLE_RADIAL_FISHEYE`` or ``RADIAL_FISHEYE``.
            params: its numbers in COLMAP's order.
            size: (height, width) of its image.

        Raises:
            ValueError: it is another model, or has other parameters.
        """
        return cls(**camera_sources.of_colmap(model, params), size=size)

    @classmethod
    def from_opencv(cls, matrix: Any, dist: Any = None, *, fisheye: bool = False, size: Any = None) -> Camera:
        """The camera that ``cv2.calibrateCamera`` or ``cv2.fisheye.calibrate`` found.

        Args:
            matrix: (3, 3), as of :meth:`from_matrix`.
            dist: 4, 5, 8, 12 or 14 coefficients in OpenCV's order, or the 4 of a fisheye; None has none.
            fisheye: they are those of ``cv2.fisheye``.
            size: (height, width) of its image.

        Raises:
            ValueError: as of :meth:`from_matrix`, or the coefficients are of another number.
        """
        distortion = camera_sources.distortion_of("fisheye" if fisheye else "opencv", dist)
        return replace(cls.from_matrix(matrix, size=size), distortion=distortion)

    @property
    def intrinsics(self) -> Intrinsics:
        """The four numbers, without the distortion."""
        return Intrinsics(self.fx, self.fy, self.cx, self.cy)

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """K, float64."""
        return np.array(((self.fx, 0.0, self.cx), (0.0, self.fy, self.cy), (0.0, 0.0, 1.0)))

    @property
    def focal_length(self) -> float:
        """√(fx·fy) in pixels."""
        return self.intrinsics.focal_length

    def resized(self, size: tuple[int, int]) -> Camera:
        """The camera of its image resized to ``size``, (height, width); it must know its own size."""
        assert self.size is not None, "a camera without a size cannot be resized"
        return replace(self, **self.intrinsics.resized(self.size, size)._asdict(), size=size)

    def of_image(self, size: tuple[int, int]) -> Camera:
        """The camera of an image of ``size``, (height, width): itself, or resized where the image was.

        Raises:
            ValueError: the image has another aspect than the camera's, so it was cropped or turned.
        """
        if self.size is None:
            return replace(self, size=size)
        if self.size == size:
            return self
        height, width = self.size
        if abs(size[1] * height / (size[0] * width) - 1) > _SAME_ASPECT:
            raise ValueError(
                f"the camera is of images of {width}x{height}, got one of {size[1]}x{size[0]}, which is no resized one"
            )
        return self.resized(size)

    def implausible(self) -> str | None:
        """What shows that the numbers are no pixels of its image; None where nothing does."""
        if self.size is None:
            return None
        return odd_focal_length(self.intrinsics, self.size[1]) or camera_sources.odd_centre(self.cx, self.cy, self.size)

    def rays(self, points: Any) -> Float[np.ndarray, "K 3"]:
        """Where pixels look: (X, Y, 1) in camera coordinates, float64, X right and Y down; times z-depth, it is XYZ.

        Through a distorted lens by OpenCV. A pixel that no ray of the lens model reaches has NaN.

        Args:
            points: (K, 2) xy pixel indices.
        """
        array = np.asarray(points, np.float64).reshape(-1, 2)
        if self.distortion is None:
            x, y = (array[:, 0] - self.cx) / self.fx, (array[:, 1] - self.cy) / self.fy
        else:
            x, y = self.distortion.undo(array, self.matrix).T
        return np.stack((x, y, np.ones(len(array))), axis=1)

    def lift(self, points: Any, depth_m: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K 3"]:
        """Points in camera coordinates, metres, float64: X right, Y down, Z along the optical axis.

        Args:
            points: (K, 2) xy pixel indices.
            depth_m: z-depth there, metres.
        """
        return self.rays(points) * np.asarray(depth_m, np.float64)[:, None]


def as_camera(value: Any) -> Camera | None:
    """Any camera that a user may pass.

    Args:
        value: a :class:`Camera`, four numbers (fx, fy, cx, cy), a (3, 3) matrix, or a dictionary: of ``fx``, ``fy``,
            ``cx``, ``cy`` with or without ``width`` and ``height``; of a ROS ``CameraInfo``; or of COLMAP's ``model``
            and ``params`` with or without ``width`` and ``height``. None stays None.

    Raises:
        ValueError: it is none of these.

    Example:
        >>> as_camera({"fx": 500, "fy": 500, "cx": 320, "cy": 240, "width": 640, "height": 480}).size
        (480, 640)
    """
    if value is None or isinstance(value, Camera):
        return value
    if camera_sources.is_camera_info(value):
        return Camera.from_camera_info(value)
    if isinstance(value, dict):
        return Camera(**camera_sources.of_dictionary(value))
    return Camera(**camera_sources.of_numbers(value))


def odd_focal_length(camera: Intrinsics, width: int) -> str | None:
    """What is implausible about a camera of an image so many pixels wide; None where nothing is."""
    for name, focal in (("fx", camera.fx), ("fy", camera.fy)):
        if SHORTEST_FOCAL * width <= focal <= LONGEST_FOCAL * width:
            continue
        unit = ""
        if focal < SHORTEST_FOCAL * width:
            unit = ", not normalised to the image's width" if focal < 3 else ", not millimetres"
        return (
            f"{name}={focal:g} is implausible for an image {width} pixels wide, expected between "
            f"{SHORTEST_FOCAL * width:g} and {LONGEST_FOCAL * width:g}: focal lengths are in pixels of the image{unit}"
        )
    return None
