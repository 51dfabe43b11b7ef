"""Measurements, boxes, batches and calibrations against cameras and answers written out by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import spd
from spd.boxes import mask_points
from spd.config import ModelConfig
from spd.detections import as_boxes, as_keypoints, as_masks, decode_segmentation
from spd.estimate import IntervalFactors
from spd.measurement import Measurement
from spd.model.spd import SPD
from spd.predictor import Predictor
from spd.scene import Scene
from spd.upsampling import upsample

CAMERA = spd.Camera(fx=60.0, fy=50.0, cx=39.5, cy=23.5, size=(48, 80))
POINTS = [(3.0, 2.5), (70.25, 40.0), (39.5, 23.5)]


class Wall:
    """A stand-in for a model: 2 m everywhere, but 1 m in the columns 20 to 40 of rows 10 to 30."""

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, memory: Any, query_points: Tensor) -> Tensor:
        u, v = query_points.unbind(-1)
        near = (u > 19.5) & (u < 40.5) & (v > 9.5) & (v < 30.5)
        return torch.where(near, 1.0, 2.0)


def predictor_of(model: Any, **changes: Any) -> Predictor:
    about: dict[str, Any] = {"train_size": None, "focal_length": None, "device": torch.device("cpu")}
    return Predictor(model=model, **{**about, **changes})


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (48, 80, 3), dtype=np.uint8)


@pytest.fixture
def scene(image: np.ndarray) -> Scene:
    return predictor_of(Wall()).encode(image, camera=CAMERA)


class TestMeasurement:
    def test_by_hand(self, scene: Scene) -> None:
        found = scene.measure(POINTS)
        assert found.depth_m.tolist() == scene(POINTS).tolist() == [2.0, 2.0, 1.0]
        x, y = (3 - 39.5) / 60 * 2, (2.5 - 23.5) / 50 * 2
        np.testing.assert_allclose(found.xyz_m[0], (x, y, 2))
        assert found.range_m[0] == pytest.approx(math.sqrt(x * x + y * y + 4))
        assert (found.camera_source, found.log_std, found.calibrated) == ("given", None, False)

    def test_fewer_of_it(self, scene: Scene) -> None:
        found = scene.measure(POINTS)
        assert found[1:] == scene.measure(POINTS[1:])
        assert found[-1] == found[2] == found[[2]] == found[np.array([False, False, True])]
        assert len(found[[]]) == 0
        assert found[0] != found[1]
        with pytest.raises(IndexError, match="there are 3 points, got index 3"):
            found[3]
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.depth_m = found.depth_m  # type: ignore[misc]

    def test_tables(self, scene: Scene) -> None:
        found = scene.measure(POINTS)
        columns = found.to_dict()
        assert json.loads(json.dumps(columns, allow_nan=False)) == columns
        assert columns["u"] == [3.0, 70.25, 39.5]
        pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
        assert isinstance(found.to_pandas(), pd.DataFrame)
        assert isinstance(found.to_arrow(), pa.Table)
        assert found.to_pandas()["range_m"].tolist() == columns["range_m"]
        assert found.to_arrow().column("z_m").to_pylist() == [2.0, 2.0, 1.0]

    def test_without_any_camera(self, image: np.ndarray) -> None:
        found = predictor_of(Wall()).encode(image).measure(POINTS)
        assert np.isnan(found.range_m).all()
        assert found.camera_source == "assumed"
        assert found.to_dict()["range_m"] == [None] * 3

    def test_no_interval_without_log_std(self, scene: Scene) -> None:
        with pytest.raises(ValueError, match="does not say how sure it is"):
            scene.measure(POINTS).interval(0.8)

    def test_distances(self, scene: Scene) -> None:
        found = scene.measure(POINTS)
        table = found.distances()
        for i, a in enumerate(found.xyz_m):
            for j, b in enumerate(found.xyz_m):
                assert table[i, j] == pytest.approx(math.dist(a, b), abs=1e-6)
        assert float(scene.distance(POINTS[0], POINTS[1])) == pytest.approx(table[0, 1], abs=1e-6)

    def test_the_interval_of_a_distance_is_the_range_of_its_ends(self) -> None:
        """Against a fine grid of depths in both intervals."""
        rays = np.array([[0.1, 0.2, 1.0], [0.15, 0.1, 1.0]])
        ends = Measurement(
            points=np.zeros((2, 2)),
            depth_m=np.float32([2.0, 2.2]),
            rays=rays,
            camera_source="given",
            log_std=np.float32([0.1, 0.2]),
            factors=IntervalFactors(levels=(0.8,), factors=(1.2,)),
        )
        low, high = ends.interval(0.8)
        first, second = (np.linspace(a, b, 400) for a, b in zip(low, high, strict=True))
        lengths = np.linalg.norm(first[:, None, None] * rays[0] - second[None, :, None] * rays[1], axis=2)
        np.testing.assert_allclose(ends.distance(0, 1).interval(0.8), (lengths.min(), lengths.max()), rtol=1e-3)


class TestObjects:
    def test_a_box_has_the_depth_of_its_object(self, scene: Scene) -> None:
        """An object that fills half of its box, between what lies behind it."""
        found = scene.measure_boxes([[18, 8, 43, 33], [50, 5, 70, 40]])
        assert found.depth_m.tolist() == [1.0, 2.0]
        assert found.points.tolist() == [[30.0, 20.0], [59.5, 22.0]]

    def test_boxes_of_all_kinds(self, scene: Scene) -> None:
        corners = np.array([[18.0, 8.0, 43.0, 33.0]])
        coco = [{"bbox": [18, 8, 25, 25], "image_id": 1}]
        kinds = [
            corners,
            corners[0],
            torch.from_numpy(corners),
            coco,
            coco[0],
            {"annotations": coco, "images": []},
            SimpleNamespace(xyxy=corners, mask=None),
            SimpleNamespace(boxes=SimpleNamespace(xyxy=torch.from_numpy(corners)), masks=None),
        ]
        for kind in kinds:
            assert as_boxes(kind, (48, 80)).tolist() == corners.tolist(), kind
        assert as_boxes([[-5, -5, 200, 10]], (48, 80)).tolist() == [[0, 0, 80, 10]]
        assert len(scene.measure_boxes([])) == 0

    @pytest.mark.parametrize(
        ("boxes", "words"),
        [
            ([[1, 2, 3]], "must be \\(N, 4\\)"),
            ([[5, 5, 5, 9]], "with x0 < x1"),
            ([[90, 5, 99, 9]], "meet an image of 80x48"),
            ([{"bbox": [1, 2, 3, 4], "image_id": 1}, {"bbox": [1, 2, 3, 4], "image_id": 2}], "several image_id"),
            ([{"box": 3}], "must have bbox"),
            ("here", "must be an array of numbers"),
        ],
    )
    def test_what_is_no_box(self, boxes: Any, words: str, scene: Scene) -> None:
        with pytest.raises(ValueError, match=words):
            scene.measure_boxes(boxes)

    def test_masks(self, scene: Scene) -> None:
        mask = np.zeros((2, 48, 80), bool)
        mask[0, 10:31, 20:41] = True
        mask[1, 0:5] = True
        assert scene.measure_masks(mask).depth_m.tolist() == [1.0, 2.0]
        assert len(mask_points(mask[0])) == 25
        u, v = mask_points(mask[0]).astype(int).T
        assert mask[0, v, u].all()
        with pytest.raises(ValueError, match="index 0 has none"):
            scene.measure_masks(np.zeros((1, 48, 80), bool))
        with pytest.raises(ValueError, match="as the image is"):
            scene.measure_masks(np.ones((1, 48, 81), bool))

    def test_masks_of_coco(self) -> None:
        """Runs go down the columns and begin outside; the text was worked out by hand from the format."""
        mask = np.zeros((3, 4), bool)
        mask[1:, 1] = mask[0, 2] = True
        runs = {"counts": [4, 3, 5], "size": [3, 4]}
        assert decode_segmentation(runs, (3, 4)).tolist() == mask.tolist()
        assert decode_segmentation({"counts": "435", "size": [3, 4]}, (3, 4)).tolist() == mask.tolist()
        square = decode_segmentation([[1, 1, 3, 1, 3, 3, 1, 3]], (5, 6))
        assert square[1:3, 1:3].all()
        assert not square[4].any()
        annotation = {"segmentation": runs, "image_id": 3}
        assert as_masks([annotation], (3, 4)).tolist() == [mask.tolist()]
        with pytest.raises(ValueError, match="must cover 12 pixels, got 9"):
            decode_segmentation({"counts": [4, 5], "size": [3, 4]}, (3, 4))

    def test_keypoints_that_are_hidden_are_not_asked(self, scene: Scene) -> None:
        (found,) = scene.measure_keypoints([{"keypoints": [30, 20, 2, 0, 0, 0, 5, 6, 1], "image_id": 1}])
        np.testing.assert_array_equal(found.depth_m, [1.0, np.nan, 2.0])
        assert found.to_dict()["depth_m"] == [1.0, None, 2.0]
        detected = SimpleNamespace(keypoints=SimpleNamespace(xy=torch.tensor([[[30.0, 20.0], [0.0, 0.0]]])))
        assert as_keypoints(detected)[0].tolist() == [[30, 20, 1], [0, 0, 0]]
        assert scene.measure_keypoints([]) == []


class TestSparseMaps:
    def test_edges_of_depth_follow_those_of_the_image(self) -> None:
        picture = np.zeros((48, 80, 3), np.uint8)
        picture[10:31, 20:41] = 200
        scene = predictor_of(Wall()).encode(picture)
        full = scene.dense()
        coarse = np.abs(scene.dense(step=4) / full - 1)
        assert scene.dense(step=4).shape == full.shape
        # Linear between the points it is off in a band of four pixels around the object.
        assert coarse.mean() < 0.005
        blind = predictor_of(Wall()).encode(np.zeros_like(picture)).dense(step=4)
        assert np.abs(blind / full - 1).mean() > 0.02

    def test_a_flat_wall_stays_flat(self) -> None:
        depth_m = np.full((3, 4), 2.5, np.float32)
        image = np.random.default_rng(0).integers(0, 255, (9, 13, 3), dtype=np.uint8)
        rows, columns = np.array([1.0, 4.0, 7.0]), np.array([1.0, 4.0, 7.0, 10.0])
        np.testing.assert_allclose(upsample(depth_m, rows, columns, image), 2.5, rtol=1e-6)

    @pytest.mark.parametrize("step", [0, -2])
    def test_steps_that_are_none(self, step: int, scene: Scene) -> None:
        with pytest.raises(ValueError, match="a whole number from 1 up"):
            scene.dense(step=step)


class TestBatches:
    @pytest.fixture
    def predictor(self) -> Predictor:
        torch.manual_seed(0)
        return Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))

    @pytest.mark.parametrize("batch_size", [1, 2, 8])
    def test_equal_to_one_by_one(self, predictor: Predictor, batch_size: int) -> None:
        rng = np.random.default_rng(1)
        sizes = [(48, 80), (80, 48), (48, 80), (64, 96), (48, 80)]
        images = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
        points = [rng.uniform(0, 40, (count, 2)) for count in (3, 0, 5, 1, 2)]
        cameras: list[Any] = [None, (60, 60, 20, 40), None, None, (90, 90, 40, 20)]
        together = predictor.measure_batch(images, points, camera=cameras, batch_size=batch_size)
        for image, mine, camera, found in zip(images, points, cameras, together, strict=True):
            alone = predictor.measure(image, mine, camera=camera)
            np.testing.assert_allclose(found.depth_m, alone.depth_m, rtol=1e-5)
            assert found.camera_source == alone.camera_source

    def test_no_more_images_are_read_than_a_batch(self, predictor: Predictor, image: np.ndarray) -> None:
        read = []

        def images() -> Any:
            for index in range(6):
                read.append(index)
                yield image

        scenes = predictor.encode_batch(images(), batch_size=2)
        next(scenes)
        assert read == [0, 1]

    @pytest.mark.parametrize("points", [[[(1, 2)]], [[(1, 2)]] * 3])
    def test_other_numbers_of_points(self, predictor: Predictor, points: Any, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match="as many lists of points as images"):
            predictor.measure_batch([image, image], points)
