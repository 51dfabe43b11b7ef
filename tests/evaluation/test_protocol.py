from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spd.camera import Intrinsics
from spd.config import ModelConfig
from spd.data.rgbd import RGBDDataset
from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.evaluation.protocol import (
    Asking,
    ImagePrediction,
    ask,
    askings,
    dense_points,
    depth_range_of,
    fixed_points,
    num_points_asked,
    predict,
    valid_pixels,
)
from spd.evaluation.scores import score
from spd.model.spd import SPD
from spd.predictor import Predictor

WriteData = Callable[..., Path]


@pytest.fixture
def write_data(tmp_path: Path) -> WriteData:
    """Write depths as a data set; the red channel of an image is its depth in decimetres."""

    def write(*depths: np.ndarray, cameras: bool = False) -> Path:
        root = tmp_path / "data"
        (root / "frames").mkdir(parents=True)
        with (root / "manifest.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "depth", "split", *(["fx", "fy", "cx", "cy"] if cameras else [])])
            for index, depth_m in enumerate(depths):
                pixels = np.zeros((*depth_m.shape, 3), np.uint8)
                pixels[..., 0] = np.rint(10 * depth_m)
                Image.fromarray(pixels).save(root / f"frames/{index}.png")
                np.save(root / f"frames/{index}.npy", depth_m.astype(np.float32))
                camera = [100 + index, 110, 39.5, 23.5] if cameras else []
                writer.writerow([f"frames/{index}.png", f"frames/{index}.npy", "test", *camera])
        return root

    return write


def depth_map(height: int = 48, width: int = 80, seed: int = 0) -> np.ndarray:
    """Depths in whole decimetres between 0.5 and 9 m."""
    return np.random.default_rng(seed).integers(5, 91, (height, width)) / np.float32(10)


class ReadsTheAnswer:
    """A predictor whose images hold their depth; remembers what it was asked."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.groups: list[int] = []
        self.cameras: list[Any] = []

    def encode(self, image: np.ndarray, *, intrinsics: Any) -> Callable[[np.ndarray], np.ndarray]:
        self.cameras.append(intrinsics)

        def scene(points: np.ndarray) -> np.ndarray:
            self.groups.append(len(points))
            return np.array([self.factor * image[int(v), int(u), 0] / 10 for u, v in points], np.float32)

        return scene


def predict_one_way(
    predictor: Any, root: Path, num_queries: int, crop: Any = "none", depth_range: DepthRange | None = None
) -> list[ImagePrediction]:
    """The predictions for one K over all frames."""
    rows = predict(predictor, RGBDDataset(root), root, ways=[Asking(num_queries)], crop=crop, depth_range=depth_range)
    return [prediction for (prediction,) in rows]


@pytest.mark.parametrize(("num_queries", "groups"), [(64, [64] * 16), (256, [256] * 4), (1, [1] * 64), (4096, [3840])])
def test_points_are_asked_in_groups(write_data: WriteData, num_queries: int, groups: list[int]) -> None:
    root = write_data(depth_map())
    predictor = ReadsTheAnswer()
    (prediction,) = predict_one_way(predictor, root, num_queries)
    # The image has 3,840 pixels, fewer than 4,096.
    assert predictor.groups == groups
    assert len(prediction.query_points) == sum(groups)
    np.testing.assert_allclose(prediction.predicted_m, prediction.true_m, rtol=1e-6)


def test_answers_and_truth_belong_to_their_points(write_data: WriteData) -> None:
    depths = [depth_map(seed=1), depth_map(64, 96, seed=2)]
    root = write_data(*depths, cameras=True)
    predictor = ReadsTheAnswer(factor=1.5)
    predictions = predict_one_way(predictor, root, 256)
    assert predictor.cameras == [Intrinsics(100, 110, 39.5, 23.5), Intrinsics(101, 110, 39.5, 23.5)]
    assert [prediction.intrinsics for prediction in predictions] == predictor.cameras
    for prediction, depth_m in zip(predictions, depths, strict=True):
        expected = [depth_m[int(v), int(u)] for u, v in prediction.query_points]
        np.testing.assert_allclose(prediction.true_m, expected, rtol=1e-6)
        np.testing.assert_allclose(prediction.predicted_m, 1.5 * prediction.true_m, rtol=1e-6)
        assert prediction.seconds > 0
    assert [prediction.image for prediction in predictions] == ["frames/0.png", "frames/1.png"]


def test_a_prediction_is_clamped_before_it_is_scored(write_data: WriteData) -> None:
    root = write_data(np.full((48, 80), 8.0))
    predictor = ReadsTheAnswer(factor=1.5)
    scores = score(predict_one_way(predictor, root, 64), EIGEN_DEPTH_RANGE)
    assert scores.mean.abs_rel == pytest.approx(2 / 8)
    assert scores.standard_error is None


@settings(max_examples=30, deadline=None)
@given(name=st.text(max_size=20), seed=st.integers(0, 99), numbers=st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_few_points_are_the_first_of_many(name: str, seed: int, numbers: tuple[int, int]) -> None:
    valid_mask = np.random.default_rng(seed).random((13, 29)) < 0.6
    few, many = (fixed_points(name, valid_mask, number) for number in sorted(numbers))
    np.testing.assert_array_equal(few, many[: len(few)])
    columns, rows = many.astype(int).T
    assert valid_mask[rows, columns].all()
    assert len(set(zip(columns, rows, strict=True))) == len(many) == min(max(numbers), valid_mask.sum())


def test_points_depend_on_the_image_s_name_alone() -> None:
    valid_mask = np.ones((48, 80), bool)
    points = fixed_points("frames/0.png", valid_mask, 1024)
    np.testing.assert_array_equal(points, fixed_points("frames/0.png", valid_mask.copy(), 1024))
    assert (points != fixed_points("frames/1.png", valid_mask, 1024)).any(axis=1).mean() > 0.9
    # A hole takes its own points away and leaves the order of the others.
    valid_mask[:, :40] = False
    np.testing.assert_array_equal(fixed_points("frames/0.png", valid_mask, 300), points[points[:, 0] >= 40][:300])


def test_points_are_the_same_on_every_machine() -> None:
    # Recorded: figures of all versions of the protocol are of these points.
    points = fixed_points("images/0001.jpg", np.ones((480, 640), bool), 4)
    assert points.tolist() == [[381.0, 50.0], [79.0, 230.0], [535.0, 104.0], [566.0, 467.0]]


def test_points_are_uniform() -> None:
    counts = np.zeros((6, 10))
    for image in range(40):
        columns, rows = fixed_points(f"{image}", np.ones((48, 80), bool), 600).astype(int).T
        np.add.at(counts, (rows // 8, columns // 8), 1)
    # 24,000 points in 60 blocks: 400 each, with a deviation of 20 at most.
    assert abs(counts - 400).max() < 5 * 20


@pytest.mark.parametrize(
    ("num_queries", "asked"), [(1, 64), (2, 1024), (64, 1024), (100, 1000), (1024, 1024), (1025, 1025), (4096, 4096)]
)
def test_number_of_points(num_queries: int, asked: int) -> None:
    assert num_points_asked(num_queries) == asked


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((256, 0), "must be at least 1, got 0"),
        ((64, 256, 64), "must not repeat a number, got 64 256 64"),
        ((), "got none"),
    ],
)
def test_numbers_of_queries_are_checked(numbers: tuple[int, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        askings(numbers)


def test_an_image_is_encoded_once_for_all_ways_of_asking(write_data: WriteData) -> None:
    root = write_data(depth_map(), depth_map(seed=1))
    predictor = ReadsTheAnswer()
    ways = askings((1, 1024), dense=True)
    rows = list(predict(predictor, RGBDDataset(root), root, ways=ways, crop="none"))
    assert len(predictor.cameras) == len(rows) == 2
    # A dense grid of every fourth of 48x80 pixels: 12 rows of 20.
    assert predictor.groups == 2 * [*[1] * 64, 1024, 240]
    for one_by_one, together, _ in rows:
        np.testing.assert_array_equal(one_by_one.query_points, together.query_points[:64])
        np.testing.assert_array_equal(one_by_one.true_m, together.true_m[:64])
    assert [way.name for way in ways] == ["1", "1024", "dense"]


def test_dense_points_are_every_fourth_pixel_that_is_valid() -> None:
    valid_mask = np.zeros((9, 14), bool)
    valid_mask[[0, 4, 8, 4, 3], [0, 8, 12, 9, 4]] = True
    assert dense_points(valid_mask).tolist() == [[0.0, 0.0], [8.0, 4.0], [12.0, 8.0]]


def test_the_last_group_may_be_short() -> None:
    seen: list[np.ndarray] = []

    def scene(points: np.ndarray) -> np.ndarray:
        seen.append(points)
        return points[:, 0]

    points = np.arange(14.0).reshape(7, 2)
    np.testing.assert_array_equal(ask(scene, points, Asking(3)), points[:, 0])
    assert [len(group) for group in seen] == [3, 3, 1]


def test_valid_pixels_exclude_the_ends_of_the_range() -> None:
    depth_m = np.array([[0.0, 1e-3, 1.1e-3, 5.0], [9.999, 10.0, 12.0, np.nan]], np.float32)
    expected = [[False, False, True, True], [True, False, False, False]]
    assert valid_pixels(depth_m, "none", EIGEN_DEPTH_RANGE).tolist() == expected
    wider = [[False, False, False, True], [True, True, True, False]]
    assert valid_pixels(depth_m, "none", DepthRange(1.0, 12.5)).tolist() == wider


def test_a_range_goes_with_each_crop() -> None:
    depth_m = np.full((480, 640), 2.0)
    depth_m[100, 100:105] = [9.99, 10.0, 65.0, 999.0, 1001.0]
    assert valid_pixels(depth_m, "eigen")[100, 100:105].tolist() == [True, False, False, False, False]
    assert valid_pixels(depth_m, "none")[100, 100:105].tolist() == [True, True, True, True, False]
    assert valid_pixels(depth_m, "eigen", DepthRange(0.1, 80.0))[100, 100:105].tolist() == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_far_depth_is_asked_and_scored_outside_of_the_eigen_protocol(write_data: WriteData) -> None:
    root = write_data(np.full((48, 80), 20.0))
    (prediction,) = predict_one_way(ReadsTheAnswer(factor=1.2), root, 64)
    assert score([prediction], depth_range_of("none")).mean.abs_rel == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"0\.npy has no valid depth \(0\.001 to 15 m\) anywhere"):
        predict_one_way(ReadsTheAnswer(), root, 64, depth_range=DepthRange(0.001, 15.0))


def test_eigen_crop_by_hand() -> None:
    depth_m = np.full((480, 640), 2.0)
    valid = valid_pixels(depth_m, "eigen")
    # Rows 45...470 and columns 41...600.
    assert valid.sum() == 426 * 560
    assert valid[45, 41]
    assert valid[470, 600]
    outside = np.concatenate((valid[44], valid[471], valid[:, 40], valid[:, 601]))
    assert not outside.any()
    depth_m[100, 100] = 0
    assert not valid_pixels(depth_m, "eigen")[100, 100]


def test_eigen_crop_refuses_other_sizes(write_data: WriteData) -> None:
    root = write_data(depth_map())
    with pytest.raises(ValueError, match=r"0\.npy: crop eigen is defined for 640x480, got depth of 80x48"):
        predict_one_way(ReadsTheAnswer(), root, 1, "eigen")


@pytest.mark.parametrize("depth_m", [np.zeros((48, 80)), np.full((48, 80), 1e4)], ids=["holes", "far"])
def test_an_image_without_valid_depth_is_refused(write_data: WriteData, depth_m: np.ndarray) -> None:
    root = write_data(depth_map(), depth_m)
    with pytest.raises(ValueError, match=r"frames/1\.npy has no valid depth"):
        predict_one_way(ReadsTheAnswer(), root, 64)


def test_images_without_valid_depth_may_be_left_out(write_data: WriteData) -> None:
    root = write_data(depth_map(), np.zeros((48, 80)), depth_map(seed=2))
    predictor = ReadsTheAnswer()
    rows = list(predict(predictor, RGBDDataset(root), root, ways=[Asking(64), Asking(1)], crop="none", skip_empty=True))
    assert [row[0].image for row in rows] == ["frames/0.png", "frames/2.png"]
    # It is not even encoded.
    assert len(predictor.cameras) == 2


def test_a_real_predictor_is_asked_as_users_ask_it(write_data: WriteData) -> None:
    torch.manual_seed(0)
    predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
    root = write_data(depth_map(), cameras=True)
    (prediction,) = predict_one_way(predictor, root, 512)
    camera = (100.0, 110.0, 39.5, 23.5)
    path = root / "frames/0.png"
    expected = [predictor(path, prediction.query_points[start : start + 512], intrinsics=camera) for start in (0, 512)]
    np.testing.assert_allclose(prediction.predicted_m, np.concatenate(expected), rtol=1e-5)
