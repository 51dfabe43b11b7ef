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
from spd.evaluation.metrics import compute_metrics, mean_metrics
from spd.evaluation.protocol import (
    ImagePrediction,
    ask,
    fixed_points,
    num_points_asked,
    predict,
    score,
    valid_pixels,
)
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


@pytest.mark.parametrize(("num_queries", "groups"), [(64, [64] * 16), (256, [256] * 4), (1, [1] * 64), (4096, [3840])])
def test_points_are_asked_in_groups(write_data: WriteData, num_queries: int, groups: list[int]) -> None:
    root = write_data(depth_map())
    predictor = ReadsTheAnswer()
    (prediction,) = predict(predictor, RGBDDataset(root, ["test"]), root, num_queries=num_queries, crop="none")
    # The image has 3,840 pixels, fewer than 4,096.
    assert predictor.groups == groups
    assert len(prediction.query_points) == sum(groups)
    np.testing.assert_allclose(prediction.predicted_m, prediction.true_m, rtol=1e-6)


def test_answers_and_truth_belong_to_their_points(write_data: WriteData) -> None:
    depths = [depth_map(seed=1), depth_map(64, 96, seed=2)]
    root = write_data(*depths, cameras=True)
    predictor = ReadsTheAnswer(factor=1.5)
    predictions = list(predict(predictor, RGBDDataset(root, ["test"]), root, num_queries=256, crop="none"))
    assert predictor.cameras == [Intrinsics(100, 110, 39.5, 23.5), Intrinsics(101, 110, 39.5, 23.5)]
    for prediction, depth_m in zip(predictions, depths, strict=True):
        expected = [depth_m[int(v), int(u)] for u, v in prediction.query_points]
        np.testing.assert_allclose(prediction.true_m, expected, rtol=1e-6)
        np.testing.assert_allclose(prediction.predicted_m, 1.5 * prediction.true_m, rtol=1e-6)
        assert prediction.seconds > 0
    assert [prediction.image for prediction in predictions] == ["frames/0.png", "frames/1.png"]


def test_a_prediction_is_clamped_before_it_is_scored(write_data: WriteData) -> None:
    root = write_data(np.full((48, 80), 8.0))
    predictor = ReadsTheAnswer(factor=1.5)
    scores = score(list(predict(predictor, RGBDDataset(root), root, num_queries=64, crop="none")))
    assert scores.mean.abs_rel == pytest.approx(2 / 8)
    assert scores.standard_error is None


def image_prediction(name: str, predicted: list[float], true: list[float], seconds: float) -> ImagePrediction:
    return ImagePrediction(name, np.zeros((len(true), 2)), np.array(true), np.array(predicted), seconds)


def test_scores_per_image_over_images_and_pooled() -> None:
    predictions = [
        image_prediction("a", [2.0], [1.0], seconds=0.5),
        image_prediction("b", [1.0, np.nan, 4.0], [1.0, 2.0, 4.0], seconds=0.25),
        image_prediction("c", [3.0, 3.0], [3.0, 4.0], seconds=9.0),
    ]
    scores = score(predictions)
    b = (2.0 - 1e-3) / 2.0 / 3
    assert [image.metrics.abs_rel for image in scores.per_image] == pytest.approx([1, b, 1 / 8])
    assert [(image.image, image.num_points) for image in scores.per_image] == [("a", 1), ("b", 3), ("c", 2)]
    assert scores.mean.abs_rel == pytest.approx((1 + b + 1 / 8) / 3)
    assert scores.mean == mean_metrics([image.metrics for image in scores.per_image])
    assert scores.pooled.abs_rel == pytest.approx((1 + 3 * b + 2 / 8) / 6)
    together = compute_metrics(np.array([2.0, 1, 1e-3, 4, 3, 3]), np.array([1.0, 1, 2, 4, 3, 4]))
    assert scores.pooled == together
    deviation = np.std([1, b, 1 / 8], ddof=1)
    assert scores.standard_error is not None
    assert scores.standard_error.abs_rel == pytest.approx(deviation / np.sqrt(3))
    assert scores.images_per_second == 2.0


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        score([])


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
    # Recorded; they may change only together with the protocol's version.
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


def test_number_of_queries_is_checked() -> None:
    with pytest.raises(ValueError, match="num_queries must be at least 1, got 0"):
        num_points_asked(0)


def test_the_last_group_may_be_short() -> None:
    seen: list[np.ndarray] = []

    def scene(points: np.ndarray) -> np.ndarray:
        seen.append(points)
        return points[:, 0]

    points = np.arange(14.0).reshape(7, 2)
    np.testing.assert_array_equal(ask(scene, points, 3), points[:, 0])
    assert [len(group) for group in seen] == [3, 3, 1]


def test_valid_pixels_exclude_the_ends_of_the_range() -> None:
    depth_m = np.array([[0.0, 1e-3, 1.1e-3, 5.0], [9.999, 10.0, 12.0, np.nan]], np.float32)
    assert valid_pixels(depth_m, "none").tolist() == [[False, False, True, True], [True, False, False, False]]


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
        list(predict(ReadsTheAnswer(), RGBDDataset(root), root, num_queries=1, crop="eigen"))


@pytest.mark.parametrize("depth_m", [np.zeros((48, 80)), np.full((48, 80), 11.0)], ids=["holes", "far"])
def test_an_image_without_valid_depth_is_refused(write_data: WriteData, depth_m: np.ndarray) -> None:
    root = write_data(depth_map(), depth_m)
    with pytest.raises(ValueError, match=r"frames/1\.npy has no valid depth"):
        list(predict(ReadsTheAnswer(), RGBDDataset(root), root, num_queries=64, crop="none"))


def test_a_real_predictor_is_asked_as_users_ask_it(write_data: WriteData) -> None:
    torch.manual_seed(0)
    predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
    root = write_data(depth_map(), cameras=True)
    dataset = RGBDDataset(root, ["test"])
    (prediction,) = predict(predictor, dataset, root, num_queries=512, crop="none")
    camera = (100.0, 110.0, 39.5, 23.5)
    path = root / "frames/0.png"
    expected = [predictor(path, prediction.query_points[start : start + 512], intrinsics=camera) for start in (0, 512)]
    np.testing.assert_allclose(prediction.predicted_m, np.concatenate(expected), rtol=1e-5)
