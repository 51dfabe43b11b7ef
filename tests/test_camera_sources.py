"""Cameras of every source, held to OpenCV, to COLMAP and to pinholes written out by hand."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spd.camera import Camera, as_camera
from spd.distortion import Distortion

MATRIX = [[400.0, 0.0, 330.0], [0.0, 410.0, 235.0], [0.0, 0.0, 1.0]]
BROWN = (-0.28, 0.09, 0.0008, -0.0005, -0.012)
RATIONAL = (0.4, 0.05, 0.0008, -0.0005, 0.01, 0.7, 0.1, 0.02)
FISHEYE = (0.03, -0.01, 0.004, -0.001)
SPACE = np.array([[0.5, -0.3, 2.0], [-1.1, 0.8, 3.0], [0.0, 0.0, 1.0], [1.2, 0.9, 4.0]])


def photo(path: Path, tags: dict[int, Any], size: tuple[int, int] = (80, 60), orientation: int = 1) -> Path:
    """A JPEG with these EXIF tags of a photograph; ``size`` is (width, height) as stored."""
    image = Image.new("RGB", size)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update(tags)
    image.save(path, exif=exif)
    return path


class TestSources:
    def test_matrix(self) -> None:
        camera = Camera.from_matrix(MATRIX, size=(480, 640))
        assert (*camera.intrinsics, camera.size) == (400, 410, 330, 235, (480, 640))
        assert camera.matrix.tolist() == MATRIX

    def test_field_of_view_reaches_the_edges(self) -> None:
        camera = Camera.from_fov(70, (48, 100))
        left, right = camera.rays([(-0.5, 23.5), (99.5, 23.5)])
        assert math.degrees(math.atan(right[0]) - math.atan(left[0])) == pytest.approx(70)
        assert left[1] == pytest.approx(0)

    @pytest.mark.parametrize("degrees", [0, 180, -10, math.nan])
    def test_no_field_of_view(self, degrees: float) -> None:
        with pytest.raises(ValueError, match="above 0 and below 180"):
            Camera.from_fov(degrees, (48, 64))

    @pytest.mark.parametrize(
        ("value", "source"),
        [
            ((400, 410, 330, 235), "numbers"),
            (np.array(MATRIX), "matrix"),
            (MATRIX, "nested lists"),
            ({"fx": 400, "fy": 410, "cx": 330, "cy": 235}, "dictionary"),
            ({"model": "PINHOLE", "params": [400, 410, 330.5, 235.5]}, "COLMAP"),
            (Camera(fx=400.0, fy=410.0, cx=330.0, cy=235.0), "camera"),
        ],
    )
    def test_everything_that_is_a_camera(self, value: Any, source: str) -> None:
        camera = as_camera(value)
        assert camera is not None, source
        assert tuple(camera.intrinsics) == (400, 410, 330, 235)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("canon", "four finite numbers"),
            ([[400, 3, 330], [0, 410, 235], [0, 0, 1]], "must be \\[\\[fx, 0, cx\\]"),
            ({"fx": 400, "fy": 410, "cx": 330}, "cy is missing"),
            ({"fx": 400, "fy": 410, "cx": 330, "cy": 2, "f": 1}, "'f' too"),
            ({"fx": 400, "fy": 410, "cx": 330, "cy": 2, "width": 9}, "both width and height"),
            ({"model": "FOV", "params": [1, 2, 3]}, "a COLMAP model must be one of"),
            ({"model": "RADIAL", "params": [1, 2, 3]}, "must have 5 parameters"),
            (object(), "four finite numbers"),
        ],
    )
    def test_what_is_no_camera(self, value: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words) as refused:
            as_camera(value)
        assert "\n" not in str(refused.value)

    def test_ros_message_with_region_and_binning(self) -> None:
        info = {
            "width": 640,
            "height": 480,
            "k": np.ravel(MATRIX).tolist(),
            "d": BROWN,
            "distortion_model": "plumb_bob",
            "binning_x": 2,
            "binning_y": 2,
            "roi": {"x_offset": 40, "y_offset": 20, "width": 400, "height": 300},
        }
        camera = as_camera(info)
        assert camera is not None
        assert camera.size == (150, 200)
        assert camera.distortion == Distortion("opencv", BROWN)
        # A pixel of the binned region covers 2 x 2 pixels of the sensor: its centre lies between them.
        whole = Camera.from_opencv(MATRIX, BROWN, size=(480, 640))
        np.testing.assert_allclose(camera.rays([(10, 20)]), whole.rays([(40 + 20.5, 20 + 40.5)]), atol=1e-9)

    def test_ros_message_of_an_older_version(self) -> None:
        info = SimpleNamespace(width=640, height=480, K=np.ravel(MATRIX), D=[], distortion_model="")
        camera = as_camera(info)
        assert camera is not None
        assert camera.distortion is None
        assert camera.matrix.tolist() == MATRIX

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"k": [0.0] * 9}, "not calibrated"),
            ({"d": [0.1] * 5, "distortion_model": "fov"}, "must be one of plumb_bob"),
        ],
    )
    def test_a_ros_message_that_says_nothing(self, changes: dict[str, Any], words: str) -> None:
        info = {"width": 640, "height": 480, "k": np.ravel(MATRIX), "d": [], "distortion_model": "plumb_bob"}
        with pytest.raises(ValueError, match=words):
            as_camera({**info, **changes})


class TestExif:
    def test_equivalent_focal_length_compares_diagonals(self, tmp_path: Path) -> None:
        camera = Camera.from_exif(photo(tmp_path / "a.jpg", {0xA405: 26}))
        # The lens sees the film's 43.27 mm diagonal at 26 mm, and the picture's 100 pixels alike.
        assert camera.fx == camera.fy == pytest.approx(26 * 100 / math.hypot(36, 24))
        assert (camera.size, camera.cx, camera.cy, camera.source) == ((60, 80), 39.5, 29.5, "exif")

    def test_sensor_resolution(self, tmp_path: Path) -> None:
        tags = {0x920A: 4.0, 0xA20E: 5000.0, 0xA20F: 5000.0, 0xA210: 3, 0xA002: 160, 0xA003: 120}
        # 500 pixels per millimetre as taken, half as many as the picture was resized.
        assert Camera.from_exif(photo(tmp_path / "a.jpg", tags)).fx == pytest.approx(4.0 * 500 / 2)

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_orientation(self, orientation: int, tmp_path: Path) -> None:
        path = photo(tmp_path / "a.jpg", {0xA405: 26}, orientation=orientation)
        assert Camera.from_exif(path).size == ((60, 80) if orientation == 1 else (80, 60))

    def test_from_bytes_and_pil(self, tmp_path: Path) -> None:
        path = photo(tmp_path / "a.jpg", {0xA405: 26})
        cameras = [Camera.from_exif(path.read_bytes()), Camera.from_exif(io.BytesIO(path.read_bytes()))]
        with Image.open(path) as opened:
            cameras.append(Camera.from_exif(opened))
        assert cameras == [Camera.from_exif(path)] * 3

    @pytest.mark.parametrize(
        ("tags", "words"),
        [
            ({}, "neither a 35 mm equivalent"),
            ({0xA405: 0}, "neither a 35 mm equivalent"),
            ({0x920A: 4.0}, "neither a 35 mm equivalent"),
            ({0xA405: 26, 0xA002: 160, 0xA003: 60}, "it was cropped"),
            ({0xA405: 60000}, "no camera has"),
        ],
    )
    def test_tags_that_tell_nothing(self, tags: dict[int, Any], words: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=words):
            Camera.from_exif(photo(tmp_path / "a.jpg", tags))


class TestDistortion:
    @pytest.mark.parametrize(("coefficients", "fisheye"), [(BROWN, False), (RATIONAL, False), (FISHEYE, True)])
    def test_rays_lead_back_to_what_opencv_projects(self, coefficients: tuple[float, ...], fisheye: bool) -> None:
        cv2 = pytest.importorskip("cv2")
        project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
        zero = np.zeros(3)
        pixels = project(SPACE[:, None], zero, zero, np.array(MATRIX), np.array(coefficients))[0][:, 0]
        camera = Camera.from_opencv(MATRIX, coefficients, fisheye=fisheye)
        np.testing.assert_allclose(camera.lift(pixels, SPACE[:, 2]), SPACE, atol=1e-6)
        straight = Camera.from_matrix(MATRIX).lift(pixels, SPACE[:, 2])
        assert np.abs(straight - SPACE).max() > 0.01

    @pytest.mark.parametrize(
        ("model", "params"),
        [
            ("SIMPLE_PINHOLE", [400, 330, 235]),
            ("PINHOLE", [400, 410, 330, 235]),
            ("SIMPLE_RADIAL", [400, 330, 235, -0.1]),
            ("RADIAL", [400, 330, 235, -0.1, 0.03]),
            ("OPENCV", [400, 410, 330, 235, -0.1, 0.03, 0.001, -0.002]),
            ("FULL_OPENCV", [400, 410, 330, 235, 0.4, 0.05, 0.001, -0.002, 0.01, 0.7, 0.1, 0.02]),
            ("OPENCV_FISHEYE", [400, 410, 330, 235, *FISHEYE]),
            ("SIMPLE_RADIAL_FISHEYE", [400, 330, 235, -0.05]),
            ("RADIAL_FISHEYE", [400, 330, 235, -0.05, 0.01]),
        ],
    )
    def test_colmap(self, model: str, params: list[float]) -> None:
        """COLMAP projects points in space to its own pixels, half a pixel from ours; rays lead back to the points."""
        pycolmap = pytest.importorskip("pycolmap")
        theirs = pycolmap.Camera(model=model, width=640, height=480, params=params)
        pixels = np.array(theirs.img_from_cam(SPACE)) - 0.5
        camera = Camera.from_colmap(model, params, size=(480, 640))
        np.testing.assert_allclose(camera.lift(pixels, SPACE[:, 2]), SPACE, atol=1e-6)

    def test_where_the_model_reaches_no_pixel(self) -> None:
        pytest.importorskip("cv2")
        rays = Camera.from_opencv(MATRIX, (-0.4, 0.0, 0.0, 0.0)).rays([(330, 235), (1500, 1100)])
        assert np.isfinite(rays[0]).all()
        assert np.isnan(rays[1, :2]).all()

    def test_other_numbers_of_coefficients(self) -> None:
        with pytest.raises(ValueError, match="must be 4, 5, 8, 12, 14 finite coefficients"):
            Camera.from_opencv(MATRIX, (0.1, 0.2, 0.3))
        with pytest.raises(ValueError, match="must be 4 finite coefficients"):
            Camera.from_opencv(MATRIX, (0.1,) * 5, fisheye=True)


class TestSizes:
    def test_a_resized_image_resizes_its_camera(self) -> None:
        camera = Camera.from_opencv(MATRIX, BROWN, size=(480, 640))
        half = camera.of_image((240, 320))
        np.testing.assert_allclose(half.intrinsics, (200, 205, 164.75, 117.25))
        assert half.distortion == camera.distortion

    def test_another_aspect_is_refused(self) -> None:
        with pytest.raises(ValueError, match="of images of 640x480, got one of 480x640"):
            Camera.from_matrix(MATRIX, size=(480, 640)).of_image((640, 480))

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ((0.8, 1.1, 0.5, 0.5), "fx=0.8 .* not normalised"),
            ((4.2, 4.2, 3.1, 2.4), "fx=4.2 .* not millimetres"),
            ((500, 500, 2000, 240), "cx=2000 lies far outside"),
        ],
    )
    def test_numbers_that_are_no_pixels(self, numbers: tuple[float, ...], words: str) -> None:
        camera = as_camera(numbers)
        assert camera is not None
        assert re.search(words, camera.of_image((480, 640)).implausible() or "")
