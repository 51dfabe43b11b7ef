from __future__ import annotations

import dataclasses
import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from spd.camera import Camera, Intrinsics
from spd.checkpoint import save
from spd.config import ModelConfig, Variant
from spd.data.rgbd import RGBDSample
from spd.data.transforms import EvalTransform
from spd.inputs import as_pixels, check_points, choose_device, model_size
from spd.model.spd import SPD
from spd.predictor import Predictor
from spd.runtime.loading import load
from spd.scene import CHUNK_SIZE, MAX_JOINT_QUERIES

CONFIG = ModelConfig.atto(train_size=(64, 96), interaction="joint")
POINTS = [(3.0, 2.5), (70.25, 40.0), (-0.5, 47.4), (79.4, -0.5), (3.0, 2.5)]
side = st.integers(1, 3000)
train_side = st.integers(1, 8).map(lambda cells: 32 * cells)


class ImageReader:
    """A stand-in for a model: its "depth" at a point is the image's own red channel there, plus a metre.

    Reads bilinearly in float64, in loops, and keeps what it was given.
    """

    def __init__(self) -> None:
        self.encoded: list[Tensor] = []
        self.asked: list[Tensor] = []

    def encode(self, images: Tensor) -> Tensor:
        self.encoded.append(images)
        return images

    def decode(self, memory: Any, query_points: Tensor) -> Tensor:
        self.asked.append(query_points)
        red = memory[0, 0].double().numpy()
        return torch.tensor([[1.0 + self.read(red, u, v) for u, v in query_points[0].tolist()]])

    @staticmethod
    def read(red: np.ndarray, u: float, v: float) -> float:
        height, width = red.shape
        u, v = min(max(u, 0.0), width - 1.0), min(max(v, 0.0), height - 1.0)
        left, top = min(int(u), max(width - 2, 0)), min(int(v), max(height - 2, 0))
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        upper = red[top, left] * (1 - (u - left)) + red[top, right] * (u - left)
        lower = red[bottom, left] * (1 - (u - left)) + red[bottom, right] * (u - left)
        return upper * (1 - (v - top)) + lower * (v - top)


class Untouchable:
    """A model that must not be run."""

    def encode(self, images: Tensor) -> Any:
        raise AssertionError

    def decode(self, memory: Any, query_points: Tensor) -> Tensor:
        raise AssertionError


def with_model(
    model: Any, train_size: tuple[int, int] | None = (64, 96), focal_length: float | None = 80.0
) -> Predictor:
    return Predictor(model=model, train_size=train_size, focal_length=focal_length, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> SPD:
    torch.manual_seed(3)
    return SPD(CONFIG)


@pytest.fixture(scope="module")
def predictor(model: SPD) -> Predictor:
    return Predictor.from_model(model)


class TestAnswers:
    def test_equal_a_pipeline_by_hand(self, model: SPD, image: np.ndarray) -> None:
        """80x48 has the aspect 1.67; of the sizes near 96x64 in area 96x64 itself is the nearest."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        images = vision.resize(pixels, [64, 96], antialias=True) / 255
        points = [((u + 0.5) * 96 / 80 - 0.5, (v + 0.5) * 64 / 48 - 0.5) for u, v in POINTS]
        with torch.no_grad():
            expected = model.eval().decode(model.encode(images), torch.tensor([points]))[0].numpy()
        answers = Predictor.from_model(model)(image, POINTS)
        assert answers.dtype == np.float32
        assert answers.shape == (5,)
        # Older torchvision resizes in float and rounds: some pixels are a grey level off.
        np.testing.assert_allclose(answers, expected, rtol=1e-3)

    def test_come_in_the_order_asked(self, predictor: Predictor, image: np.ndarray) -> None:
        order = [3, 0, 4, 2, 1]
        straight = predictor(image, POINTS)
        np.testing.assert_allclose(predictor(image, [POINTS[i] for i in order]), straight[order], rtol=1e-5)
        assert len({round(float(depth), 5) for depth in straight}) == 4  # The first and the last point are one.

    def test_encoding_once_gives_the_same(self, predictor: Predictor, image: np.ndarray) -> None:
        scene = predictor.encode(image)
        for points in (POINTS, POINTS[:1], POINTS):
            np.testing.assert_array_equal(scene(points), predictor(image, points))

    def test_a_scene_encodes_once(self, image: np.ndarray) -> None:
        reader = ImageReader()
        scene = with_model(reader).encode(image)
        scene(POINTS)
        scene(POINTS[:2])
        assert (len(reader.encoded), len(reader.asked)) == (1, 2)

    def test_survive_saving(self, model: SPD, image: np.ndarray, tmp_path: Path) -> None:
        save(model, tmp_path)
        loaded: Any = load(tmp_path, device="cpu")
        predicted = Predictor.from_model(model)(image, POINTS)
        # Bit for bit the same weights; packed, their products may add up in another order.
        np.testing.assert_array_equal(Predictor.from_model(loaded.model.source)(image, POINTS), predicted)
        np.testing.assert_allclose(loaded(image, POINTS), predicted, rtol=1e-6)
        assert loaded.train_size == (64, 96)
        assert loaded.focal_length == CONFIG.canonical_focal_length

    def test_are_the_same_from_several_threads(self, predictor: Predictor, image: np.ndarray) -> None:
        images = [np.roll(image, 7 * shift, axis=1) for shift in range(3)]
        alone = [predictor(each, POINTS) for each in images]
        with ThreadPoolExecutor(3) as threads:
            together = list(threads.map(lambda each: predictor(each, POINTS), images))
        np.testing.assert_allclose(together, alone, rtol=1e-5)

    def test_dropout_is_off(self, image: np.ndarray) -> None:
        training = SPD(CONFIG).train()
        predictor = Predictor.from_model(training)
        np.testing.assert_array_equal(predictor(image, POINTS), predictor(image, POINTS))
        assert not training.training

    def test_predictor_and_scene_are_frozen(self, predictor: Predictor, image: np.ndarray) -> None:
        with pytest.raises(FrozenInstanceError):
            predictor.focal_length = 1.0  # type: ignore[misc]
        with pytest.raises(FrozenInstanceError):
            predictor.encode(image).size = (1, 1)  # type: ignore[misc]


class TestWherePointsFall:
    @pytest.mark.parametrize("size", [(64, 96), (120, 250), (40, 256), (200, 31)])
    def test_the_image_is_read_where_it_was_asked(self, size: tuple[int, int]) -> None:
        """The image is a ramp along each axis in turn: its own value at a pixel is known before any resize."""
        height, width = size
        points = np.random.default_rng(0).uniform((8, 8), (width - 9, height - 9), (40, 2))
        rows, columns = np.mgrid[0:height, 0:width]
        for axis, ramp in enumerate((columns, rows)):
            image = np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)
            answers = with_model(ImageReader())(image, points)
            # Both the ramp and its resize are rounded to whole levels.
            np.testing.assert_allclose((answers - 1) * 255, points[:, axis], atol=0.75)

    def test_edges_stay_edges(self) -> None:
        reader = ImageReader()
        with_model(reader)(np.zeros((48, 100, 3), np.uint8), [(-0.5, -0.5), (99.49, 47.49), (49.5, 23.5)])
        height, width = reader.encoded[0].shape[2:]
        expected = [(-0.5, -0.5), (width - 0.5, height - 0.5), (width / 2 - 0.5, height / 2 - 0.5)]
        np.testing.assert_allclose(reader.asked[0][0].numpy(), expected, atol=0.02)

    def test_model_sees_what_evaluation_shows_it(self, image: np.ndarray) -> None:
        reader = ImageReader()
        with_model(reader).encode(image)
        sample = RGBDSample(torch.from_numpy(image).permute(2, 0, 1), torch.ones(48, 80))
        assert torch.equal(reader.encoded[0][0], EvalTransform(model=CONFIG)(sample).image)

    def test_a_model_without_a_size_sees_the_image_itself(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (47, 81, 3), np.uint8)
        reader = ImageReader()
        points = np.array([(0.0, 0.0), (80.4, 46.4), (33.3, 7.9)])
        with_model(reader, train_size=None)(image, points)
        seen = reader.encoded[0][0].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(seen, image, atol=1e-4)
        np.testing.assert_allclose(reader.asked[0][0].numpy(), points, atol=1e-4)

    def test_resize_is_antialiased(self) -> None:
        """Stripes of one pixel turn grey at a third of the size; PIL's reducing filter is the independent one."""
        image = np.zeros((192, 288, 3), np.uint8)
        image[:, ::2] = 255
        reader = ImageReader()
        with_model(reader).encode(image)
        reduced = np.asarray(Image.fromarray(image).resize((96, 64), Image.Resampling.BILINEAR), np.float32)
        seen = reader.encoded[0][0].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(seen, reduced, atol=1.5)
        assert 60 < seen.min() < seen.max() < 195


class TestCamera:
    CAMERA = (400.0, 300.0, 49.0, 20.0)

    def test_depth_follows_the_focal_length(self) -> None:
        """100x48 is seen at 128x64: fx·1.28, fy·4/3; the stand-in answers 1 m on black for f_c = 80."""
        image = np.zeros((48, 100, 3), np.uint8)
        reader = ImageReader()
        answers = with_model(reader, focal_length=80.0)(image, [(5, 6)], intrinsics=self.CAMERA)
        height, width = reader.encoded[0].shape[2:]
        seen_focal = math.sqrt(400 * width / 100 * 300 * height / 48)
        np.testing.assert_allclose(answers, [seen_focal / 80], rtol=1e-6)

    def test_without_camera_the_canonical_one_is_assumed(self, image: np.ndarray) -> None:
        assert with_model(ImageReader(), focal_length=123.0)(np.zeros_like(image), [(5, 6)]).tolist() == [1.0]

    def test_a_model_without_a_focal_length_answers_metres(self, image: np.ndarray) -> None:
        scene = with_model(ImageReader(), focal_length=None).encode(np.zeros_like(image), intrinsics=self.CAMERA)
        assert scene([(5, 6)]).tolist() == [1.0]
        np.testing.assert_allclose(scene.lift([(9, 5)]), [((9 - 49) / 400, (5 - 20) / 300, 1)], rtol=1e-6)

    def test_evaluation_undoes_the_same_factor(self, image: np.ndarray) -> None:
        """Depth that EvalTransform brings to the canonical focal length comes back by the predictor's factor."""
        camera = Intrinsics(70.0, 90.0, 40.0, 22.0)
        sample = RGBDSample(torch.from_numpy(image).permute(2, 0, 1), torch.full((48, 80), 3.0), camera)
        canonical = EvalTransform(model=CONFIG)(sample).depth_m[0, 0].item()
        scene = with_model(ImageReader(), focal_length=CONFIG.canonical_focal_length).encode(image, intrinsics=camera)
        assert canonical * scene._depth_scale == pytest.approx(3.0, rel=1e-6)

    def test_lift_by_hand(self) -> None:
        image = np.zeros((48, 100, 3), np.uint8)
        scene = with_model(ImageReader()).encode(image, intrinsics=np.array(self.CAMERA))
        z = scene([(9, 5)])[0]
        xyz = scene.lift([(9, 5)])
        assert xyz.dtype == np.float32
        np.testing.assert_allclose(xyz, [((9 - 49) / 400 * z, (5 - 20) / 300 * z, z)], rtol=1e-6)
        assert scene.lift([]).shape == (0, 3)
        assert scene.intrinsics == Intrinsics(*self.CAMERA)

    def test_lift_needs_a_camera(self, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match="encode the image with intrinsics"):
            with_model(ImageReader()).encode(image).lift([(1, 1)])

    @pytest.mark.parametrize(
        "intrinsics",
        [(500, 500, 320), (500, 500, 320, 240, 1), (500, math.nan, 320, 240), (0, 500, 3, 2), (5, -5, 3, 2), "abcd"],
    )
    def test_what_is_no_camera(self, intrinsics: Any, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"intrinsics must be four|focal lengths must be positive"):
            with_model(Untouchable()).encode(image, intrinsics=intrinsics)


class TestWhereTheCameraComesFrom:
    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = 26
        Image.new("RGB", (80, 60), (90, 20, 30)).save(tmp_path / "photo.jpg", exif=exif)
        return tmp_path / "photo.jpg"

    def test_every_source_says_so(self, photo: Path) -> None:
        predictor = with_model(ImageReader(), focal_length=80.0)
        camera = Camera.from_exif(photo)
        exif, assumed = predictor.encode(photo), predictor.encode(photo, camera="assumed")
        given = predictor.encode(photo, camera=camera.intrinsics)
        sources = [scene.camera_source for scene in (exif, assumed, given)]
        assert sources == ["exif", "assumed", "given"]
        assert exif([(3, 2)]) == given([(3, 2)]) != assumed([(3, 2)])
        assert predictor(photo, [(3, 2)], camera="assumed") == assumed([(3, 2)])

    def test_pixels_alone_tell_no_camera(self, photo: Path) -> None:
        """What evaluation passes: it never reads EXIF."""
        scene = with_model(ImageReader(), focal_length=80.0).encode(as_pixels(photo))
        assert scene.camera_source == "assumed"

    def test_the_assumed_camera_changes_no_depth(self, image: np.ndarray) -> None:
        predictor = with_model(ImageReader(), focal_length=80.0)
        scene = predictor.encode(image)
        assert scene.camera is not None
        again = predictor.encode(image, camera=scene.camera.intrinsics)
        np.testing.assert_allclose(again([(5, 6)]), scene([(5, 6)]), rtol=1e-6)

    def test_two_names_at_once(self, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match="two names of one thing"):
            with_model(Untouchable()).encode(image, camera=(90, 90, 4, 2), intrinsics=(90, 90, 4, 2))

    def test_millimetres_are_warned_of(self, image: np.ndarray) -> None:
        with pytest.warns(UserWarning, match="the camera's fx=4.2 is implausible .* not millimetres"):
            with_model(ImageReader()).encode(image, camera=(4.2, 4.2, 39.5, 23.5))


class TestPoints:
    @pytest.mark.parametrize("points", [[], (), np.zeros((0, 2)), np.zeros((0, 2), int)])
    def test_none_run_nothing(self, points: Any, image: np.ndarray) -> None:
        answers = with_model(Untouchable())(image, points)
        assert answers.shape == (0,)
        assert answers.dtype == np.float32

    def test_none_of_a_scene_run_nothing(self, image: np.ndarray) -> None:
        reader = ImageReader()
        assert with_model(reader).encode(image)([]).shape == (0,)
        assert not reader.asked

    @pytest.mark.parametrize(
        "points",
        [
            [[3, 2], [7, 4]],
            ((3.0, 2.0), (7.0, 4.0)),
            np.array([[3, 2], [7, 4]], np.uint8),
            np.array([[3, 2], [7, 4]], np.float16),
            torch.tensor([[3, 2], [7, 4]]),
        ],
    )
    def test_of_any_kind(self, points: Any, image: np.ndarray) -> None:
        expected = with_model(ImageReader())(image, [(3.0, 2.0), (7.0, 4.0)])
        np.testing.assert_array_equal(with_model(ImageReader())(image, points), expected)

    @pytest.mark.parametrize(
        ("points", "got"),
        [
            ([(3, 3), (80, 2)], r"\(80\.0, 2\.0\) at index 1"),
            ([(79.5, 2)], r"\(79\.5, 2\.0\) at index 0"),
            ([(3, 47.5)], r"\(3\.0, 47\.5\) at index 0"),
            ([(-0.51, 3), (99, 99)], r"\(-0\.51, 3\.0\) at index 0"),
            ([(3, 3), (3, 3), (math.nan, 3)], r"\(nan, 3\.0\) at index 2"),
            ([(3, math.inf)], r"\(3\.0, inf\) at index 0"),
            ((3, 3), r"shape \(2,\)"),
            ([(3, 3, 3)], r"shape \(1, 3\)"),
            ([[(3, 3)]], r"shape \(1, 1, 2\)"),
            ([[]], r"shape \(1, 0\)"),
            (np.array(5), r"shape \(\)"),
            ([("3", "3")], "values of type <U1"),
            ([(True, False)], "values of type bool"),
            ([(3j, 3)], "values of type complex128"),
            ([(None, 3)], "values of type object"),
            ([(10**400, 3)], "values of type object"),
            ([(3, 3), (3,)], "rows of different lengths"),
        ],
    )
    def test_that_are_refused(self, points: Any, got: str, image: np.ndarray) -> None:
        expected = rf"^query_points must be \(K, 2\) xy pixels inside 80x48, got {got}$"
        with pytest.raises(ValueError, match=expected):
            with_model(Untouchable())(image, points)
        scene = with_model(ImageReader()).encode(image)
        with pytest.raises(ValueError, match=expected):
            scene(points)

    @given(size=st.tuples(side, side), u=st.floats(-2, 3002), v=st.floats(-2, 3002))
    def test_are_legal_inside_the_outer_edges(self, size: tuple[int, int], u: float, v: float) -> None:
        height, width = size
        if -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5:
            assert check_points([(u, v)], size).tolist() == [[u, v]]
        else:
            with pytest.raises(ValueError, match="at index 0"):
                check_points([(u, v)], size)


class TestImages:
    def test_of_any_kind_are_the_same(self, image: np.ndarray, image_path: Path) -> None:
        read_only = image.copy()
        read_only.flags.writeable = False
        backwards = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
        expected = with_model(ImageReader())(image, POINTS)
        for same in (image_path, str(image_path), Image.fromarray(image), read_only, backwards):
            np.testing.assert_array_equal(with_model(ImageReader())(same, POINTS), expected)

    def test_grey_array(self, image: np.ndarray) -> None:
        grey = image[..., 0]
        colour = np.stack((grey, grey, grey), axis=2)
        readers = ImageReader(), ImageReader()
        for reader, each in zip(readers, (grey, colour), strict=True):
            with_model(reader).encode(each)
        assert torch.equal(readers[0].encoded[0], readers[1].encoded[0])

    def test_file_is_taken_as_displayed(self, image: np.ndarray, tmp_path: Path) -> None:
        """Orientation 6: the camera was turned, and viewers turn the picture a quarter clockwise."""
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
        scene = with_model(ImageReader()).encode(tmp_path / "turned.png")
        assert scene.size == (80, 48)
        np.testing.assert_array_equal(scene([(5, 70)]), with_model(ImageReader())(np.rot90(image, -1), [(5, 70)]))

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [("L", "png"), ("RGBA", "png"), ("I;16", "png"), ("P", "png"), ("CMYK", "jpg"), ("1", "png")],
    )
    def test_files_of_other_modes(self, mode: str, suffix: str, image: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / f"image.{suffix}"
        if mode == "I;16":
            Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(path)
        else:
            Image.fromarray(image).convert(mode).save(path)
        assert with_model(ImageReader())(path, POINTS).shape == (5,)

    def test_truncated_file(self, image_path: Path) -> None:
        image_path.write_bytes(image_path.read_bytes()[:-60])
        with pytest.raises(ValueError, match="cannot read the image"):
            with_model(Untouchable()).encode(image_path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="cannot read the image"):
            with_model(Untouchable())(tmp_path / "missing.png", POINTS)

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((48, 80, 3), np.float32),
            np.zeros((48, 80), np.uint16),
            np.zeros((48, 80, 4), np.uint8),
            np.zeros((3, 48, 80), np.uint8),
            np.zeros(80, np.uint8),
            np.zeros((0, 80, 3), np.uint8),
            np.zeros((1, 48, 80, 3), np.uint8),
        ],
    )
    def test_arrays_that_are_refused(self, array: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\) RGB or \(H, W\) grey, got"):
            with_model(Untouchable()).encode(array)

    def test_what_is_no_image(self) -> None:
        with pytest.raises(ValueError, match=r"image must be a path, bytes, an open file.* got int"):
            as_pixels(7)

    @pytest.mark.parametrize("kind", ["bytes", "file", "CHW", "HWC", "float"])
    def test_other_kinds_of_the_same_image(self, kind: str, image: np.ndarray) -> None:
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        tensor = torch.from_numpy(image)
        kinds = {
            "bytes": encoded.getvalue(),
            "file": io.BytesIO(encoded.getvalue()),
            "CHW": tensor.permute(2, 0, 1),
            "HWC": tensor,
            "float": tensor.permute(2, 0, 1) / 255,
        }
        np.testing.assert_array_equal(as_pixels(kinds[kind]), image)

    @pytest.mark.parametrize(
        ("tensor", "words"),
        [
            (torch.zeros(4, 48, 80), "must be \\(3, H, W\\) or \\(H, W, 3\\) RGB, got float32 \\(4, 48, 80\\)"),
            (torch.full((3, 48, 80), 200.0), "must lie in \\[0, 1\\]"),
            (torch.full((3, 48, 80), math.nan), "must lie in \\[0, 1\\]"),
            (torch.zeros(3, 48, 80, dtype=torch.int64), "must be uint8 or float"),
        ],
    )
    def test_tensors_that_are_no_images(self, tensor: Tensor, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            as_pixels(tensor)

    @pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2), (33, 47)])
    def test_of_any_size(self, predictor: Predictor, size: tuple[int, int]) -> None:
        image = np.full((*size, 3), 90, np.uint8)
        answers = predictor(image, [(-0.5, -0.5), (size[1] - 0.6, size[0] - 0.6)])
        assert np.isfinite(answers).all()
        assert (answers > 0).all()


class Candidate(NamedTuple):
    cost: float
    area_error: float
    size: tuple[int, int]


def nearest_sizes(image_size: tuple[int, int], train_size: tuple[int, int]) -> set[tuple[int, int]]:
    """All sizes of least cost and then of nearest area, by trying every one up to twice the trained area."""
    area = train_size[0] * train_size[1]
    candidates = []
    for height in range(32, 2 * area // 32 + 1, 32):
        for width in range(32, 2 * area // height + 1, 32):
            area_error = abs(math.log(height * width / area))
            aspect_error = abs(math.log(width / height * image_size[0] / image_size[1]))
            candidates.append(Candidate(area_error + aspect_error, area_error, (height, width)))
    least = min(candidate.cost for candidate in candidates) + 1e-8
    kept = [candidate for candidate in candidates if candidate.cost < least]
    nearest = min(candidate.area_error for candidate in kept) + 1e-8
    return {candidate.size for candidate in kept if candidate.area_error < nearest}


class TestModelSize:
    @pytest.mark.parametrize(
        ("image_size", "expected"),
        [
            ((480, 640), (256, 320)),
            ((640, 480), (320, 256)),
            ((3, 4), (256, 320)),
            ((1080, 1920), (224, 384)),
            ((100, 100), (288, 288)),
            ((1, 100_000), (32, 2560)),
            ((100_000, 1), (2560, 32)),
        ],
    )
    def test_known_sizes(self, image_size: tuple[int, int], expected: tuple[int, int]) -> None:
        assert model_size(image_size, (256, 320)) == expected

    @given(image_size=st.tuples(side, side), train_size=st.tuples(train_side, train_side))
    def test_against_trying_every_size(self, image_size: tuple[int, int], train_size: tuple[int, int]) -> None:
        assert model_size(image_size, train_size) in nearest_sizes(image_size, train_size)

    @given(scale=st.integers(1, 50), train_size=st.tuples(train_side, train_side))
    def test_trained_aspect_gives_the_trained_size(self, scale: int, train_size: tuple[int, int]) -> None:
        image_size = (train_size[0] // 32 * scale, train_size[1] // 32 * scale)
        assert model_size(image_size, train_size) == train_size

    @given(image_size=st.tuples(side, side), train_size=st.tuples(train_side, train_side), scale=st.integers(2, 9))
    def test_depends_on_the_shape_only(
        self, image_size: tuple[int, int], train_size: tuple[int, int], scale: int
    ) -> None:
        larger = (image_size[0] * scale, image_size[1] * scale)
        assert model_size(larger, train_size) == model_size(image_size, train_size)


class Column:
    """A stand-in for a model: its answer is u + 1; remembers how many points it was asked at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def encode(self, images: Tensor) -> None:
        return None

    def decode(self, memory: None, query_points: Tensor) -> Tensor:
        self.asked.append(query_points.shape[1])
        return query_points[..., 0] + 1


class TestManyPoints:
    SIZE = (64, 96)

    @pytest.mark.parametrize(
        ("number", "asked"),
        [
            (1, [1]),
            (CHUNK_SIZE, [CHUNK_SIZE]),
            (CHUNK_SIZE + 1, [CHUNK_SIZE, CHUNK_SIZE]),
            (3 * CHUNK_SIZE - 5, [CHUNK_SIZE] * 3),
        ],
    )
    def test_come_in_chunks_of_one_size(self, number: int, asked: list[int]) -> None:
        column = Column()
        points = np.random.default_rng(0).uniform(-0.4, 63.4, (number, 2))
        answers = with_model(column)(np.zeros((*self.SIZE, 3), np.uint8), points)
        np.testing.assert_allclose(answers, points[:, 0] + 1, rtol=1e-5)
        assert column.asked == asked

    def test_of_a_joint_model_are_one_question(self) -> None:
        column = Column()
        predictor = dataclasses.replace(with_model(column), joint=True)
        image = np.zeros((*self.SIZE, 3), np.uint8)
        predictor(image, np.ones((MAX_JOINT_QUERIES, 2)))
        assert column.asked == [MAX_JOINT_QUERIES]
        with pytest.raises(ValueError, match=r"a joint model answers at most 8192 points at once.*got 8193.*anchored"):
            predictor(image, np.ones((MAX_JOINT_QUERIES + 1, 2)))
        assert len(column.asked) == 1

    def test_dense_is_every_pixel_of_the_user_s_image(self) -> None:
        answers = with_model(Column()).dense(np.zeros((*self.SIZE, 3), np.uint8))
        assert answers.shape == self.SIZE
        np.testing.assert_allclose(answers, np.tile(np.arange(1, 97), (64, 1)), rtol=1e-5)

    @pytest.mark.slow
    def test_a_million_take_less_than_a_gibibyte(self) -> None:
        """Above what encoding the image took; asked in a process of its own, whose highest memory is known."""
        asking = """
import resource, numpy as np, torch
from spd import SPD, ModelConfig, Predictor
from spd.variant import Variant
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predictor = Predictor.from_model(SPD(ModelConfig.atto(interaction="anchored")))
scene = predictor.encode(np.zeros((480, 640, 3), np.uint8))
before = peak()
points = np.random.default_rng(0).uniform(0, 479, (1_000_000, 2))
assert scene(points).shape == (1_000_000,)
print(peak() - before)
"""
        result = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True)
        assert int(result.stdout) * 1024 < 2**30

    def test_the_mode_of_a_model_decides(self, model: SPD, image: np.ndarray) -> None:
        assert Predictor.from_model(model).joint
        torch.manual_seed(0)
        anchored = Predictor.from_model(SPD(dataclasses.replace(CONFIG, interaction="anchored")))
        assert not anchored.joint
        dense = anchored.dense(image)
        np.testing.assert_allclose(anchored(image, [(70, 40), (3, 2)]), [dense[40, 70], dense[2, 3]], rtol=1e-5)


class TestMode:
    @pytest.fixture
    def folder(self, model: SPD, tmp_path: Path) -> Path:
        save(model, tmp_path)
        return tmp_path

    def test_is_that_of_the_training_unless_said(self, folder: Path, recwarn: pytest.WarningsRecorder) -> None:
        for interaction in (None, "joint"):
            assert load(folder, device="cpu", interaction=interaction).joint
        assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]

    def test_of_another_kind_runs_the_same_weights_and_warns(self, folder: Path, image: np.ndarray) -> None:
        with pytest.warns(UserWarning, match="was trained with joint queries; with anchored ones"):
            anchored = load(folder, device="cpu", interaction="anchored")
        assert not anchored.joint
        assert anchored.model.source.config.canvas_write == "bilinear"
        together = anchored(image, POINTS)
        np.testing.assert_allclose(anchored(image, POINTS[2:3]), together[2:3], rtol=1e-5)
        assert not np.allclose(load(folder, device="cpu")(image, POINTS), together, rtol=1e-3)

    def test_a_canvas_write_that_was_chosen_stays(self) -> None:
        chosen = dataclasses.replace(CONFIG, variant=Variant(canvas_write="sum"))
        assert chosen.with_interaction("anchored").canvas_write == "sum"
        resolved = type(CONFIG).from_json(CONFIG.to_json())
        assert resolved.canvas_write == "mean"
        assert resolved.with_interaction("anchored").canvas_write == "bilinear"


class TestDevice:
    def test_default_is_cuda_where_there_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert choose_device(None) == torch.device("cpu")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device(None) == torch.device("cuda")

    @pytest.mark.parametrize("name", ["gpu9", "cuda:99", ""])
    def test_that_is_not_there(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"device must be one that this machine has, such as cpu, got '{name}'"):
            choose_device(name)

    @pytest.mark.gpu
    def test_cuda_answers_as_the_cpu_does(self, model: SPD, image: np.ndarray, tmp_path: Path) -> None:
        save(model, tmp_path)
        answers = [load(tmp_path, device=name)(image, POINTS) for name in ("cpu", "cuda")]
        np.testing.assert_allclose(answers[1], answers[0], rtol=2e-3)
