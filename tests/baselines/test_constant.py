"""The constants against loops over all pixels, on small data sets with holes and frames of different sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spd.baselines.constant import LogMeanMap, MedianDepth, fit_log_mean_map, fit_median
from spd.data.rgbd import RGBDDataset
from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.predictor import DepthPredictor

SIZE = (6, 9)


def write_frames(root: Path, depths: list[np.ndarray], splits: list[str] | None = None) -> RGBDDataset:
    """A data set of those depths in metres, as float files; images of the same sizes."""
    lines = ["image,depth,split"]
    for number, depth_m in enumerate(depths):
        height, width = depth_m.shape
        Image.new("RGB", (width, height)).save(root / f"{number}.png")
        np.save(root / f"{number}.npy", depth_m.astype(np.float32))
        lines.append(f"{number}.png,{number}.npy,{splits[number] if splits else 'train'}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return RGBDDataset(root, ["train"])


def random_depths(sizes: list[tuple[int, int]], seed: int = 0) -> list[np.ndarray]:
    """Depths of which some are missing and some beyond 10 m."""
    rng = np.random.default_rng(seed)
    depths = [rng.uniform(0.5, 11.0, size).astype(np.float32) for size in sizes]
    for depth_m in depths:
        depth_m[rng.random(depth_m.shape) < 0.2] = 0
    return depths


def valid_values(depths: list[np.ndarray]) -> list[float]:
    return [float(d) for depth_m in depths for d in depth_m.ravel() if 1e-3 < d < 10]


@pytest.fixture
def image() -> np.ndarray:
    return np.zeros((*SIZE, 3), np.uint8)


class TestMedian:
    @pytest.mark.parametrize("num_frames", [1, 2, 5])
    def test_is_that_of_all_valid_pixels(self, num_frames: int, tmp_path: Path, image: np.ndarray) -> None:
        depths = random_depths([SIZE, (4, 11)] * num_frames)
        values = sorted(valid_values(depths))
        assert len(values) < sum(depth_m.size for depth_m in depths)  # or the range would not be tested
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        predictor = fit_median(write_frames(tmp_path, depths), EIGEN_DEPTH_RANGE)
        np.testing.assert_allclose(predictor(image, [(0, 0), (8.2, 5.4)]), [middle] * 2, atol=5.1e-5)

    def test_of_two_values_is_their_mean(self, tmp_path: Path, image: np.ndarray) -> None:
        depth_m = np.zeros(SIZE)
        depth_m[0, 0], depth_m[5, 8] = 1.5, 2.25
        assert fit_median(write_frames(tmp_path, [depth_m]), EIGEN_DEPTH_RANGE)(image, [(4, 4)])[0] == pytest.approx(
            1.875
        )

    def test_counts_pixels_not_frames(self, tmp_path: Path, image: np.ndarray) -> None:
        """Two frames of one valid pixel each do not outweigh a full one."""
        sparse = [np.zeros(SIZE) for _ in range(2)]
        for depth_m in sparse:
            depth_m[1, 1] = 1.0
        predictor = fit_median(write_frames(tmp_path, [*sparse, np.full(SIZE, 7.0)]), EIGEN_DEPTH_RANGE)
        assert predictor(image, [(0, 0)])[0] == pytest.approx(7.0)

    def test_reads_millimetres_exactly(self, tmp_path: Path) -> None:
        Image.fromarray(np.full(SIZE, 2347, np.uint16)).save(tmp_path / "d.png")
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "i.png")
        (tmp_path / "manifest.csv").write_text("image,depth,split\ni.png,d.png,train")
        model = fit_median(RGBDDataset(tmp_path), EIGEN_DEPTH_RANGE).model
        assert isinstance(model, MedianDepth)
        assert model.depth_m.item() == np.float32(2.347)


class TestLogMeanMap:
    def test_is_the_mean_of_logs_at_every_pixel(self, tmp_path: Path, image: np.ndarray) -> None:
        depths = random_depths([SIZE] * 4)
        for depth_m in depths:
            depth_m[2, 3] = 0  # No frame has a depth here.
        everywhere = np.mean(np.log(valid_values(depths)))
        expected = np.empty(SIZE)
        for v in range(SIZE[0]):
            for u in range(SIZE[1]):
                logs = [math.log(d[v, u]) for d in depths if 1e-3 < d[v, u] < 10]
                expected[v, u] = math.exp(np.mean(logs) if logs else everywhere)
        points = [(u, v) for v in range(SIZE[0]) for u in range(SIZE[1])]
        answers = fit_log_mean_map(write_frames(tmp_path, depths), EIGEN_DEPTH_RANGE)(image, points)
        np.testing.assert_allclose(answers, expected.ravel(), rtol=1e-5)

    def test_brings_other_sizes_to_the_first(self, tmp_path: Path) -> None:
        """A frame of twice and three times the sides gives each place the pixel at its centre."""
        first, other = np.full((2, 4), 2.0), np.full((6, 8), 9.0)
        # The centre of a place of 3 x 2 pixels: its middle row, and of its two columns the second.
        other[1::3, 1::2] = [[1, 2, 3, 4], [5, 6, 7, 8]]
        model = fit_log_mean_map(write_frames(tmp_path, [first, other]), EIGEN_DEPTH_RANGE).model
        assert isinstance(model, LogMeanMap)
        expected = [[math.sqrt(2 * d) for d in row] for row in ((1, 2, 3, 4), (5, 6, 7, 8))]
        np.testing.assert_allclose(model.log_depth.exp().numpy(), expected, rtol=1e-6)

    def test_lies_on_an_image_of_any_size(self) -> None:
        """On an image of twice the sides, pixel 2i + 1/2 is cell i; between cells logs are mixed."""
        log_depth = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
        model = LogMeanMap(log_depth)
        memory = model.encode(torch.zeros(1, 3, 4, 6))
        points = torch.tensor([[[0.5, 0.5], [4.5, 2.5], [1.5, 0.5], [-0.5, -0.5], [5.4, 3.4]]])
        answers = model.decode(memory, points)
        torch.testing.assert_close(answers.log(), torch.tensor([[0.0, 5.0, 0.5, 0.0, 5.0]]))


@pytest.mark.parametrize("fit", [fit_median, fit_log_mean_map])
class TestBoth:
    def test_follow_the_protocol(self, fit, tmp_path: Path) -> None:
        model = fit(write_frames(tmp_path, random_depths([SIZE])), EIGEN_DEPTH_RANGE).model
        assert isinstance(model, DepthPredictor)
        images, points = torch.rand(2, 3, *SIZE), torch.rand(2, 5, 2) * 5
        both = model.decode(model.encode(images), points)
        assert both.dtype == torch.float32
        for i in range(2):
            single = model.decode(model.encode(images[i : i + 1]), points[i : i + 1])
            torch.testing.assert_close(both[i : i + 1], single)

    def test_are_metres_whatever_the_camera(self, fit, tmp_path: Path, image: np.ndarray) -> None:
        predictor = fit(write_frames(tmp_path, random_depths([SIZE])), EIGEN_DEPTH_RANGE)
        scene = predictor.encode(image, intrinsics=(50.0, 50.0, 4.0, 2.5))
        np.testing.assert_array_equal(scene([(3, 4)]), predictor(image, [(3, 4)]))
        assert scene.lift([(3, 4)])[0, 2] == predictor(image, [(3, 4)])[0]

    def test_see_the_training_frames_only(self, fit, tmp_path: Path, image: np.ndarray) -> None:
        dataset = write_frames(tmp_path, [np.full(SIZE, 2.0), np.full(SIZE, 8.0)], ["train", "val"])
        assert fit(dataset, EIGEN_DEPTH_RANGE)(image, [(3, 4)])[0] == pytest.approx(2.0)

    def test_report_each_frame(self, fit, tmp_path: Path) -> None:
        done: list[int] = []
        fit(write_frames(tmp_path, random_depths([SIZE] * 3)), EIGEN_DEPTH_RANGE, progress=done.append)
        assert done == [1, 1, 1]

    def test_refuse_frames_without_depth(self, fit, tmp_path: Path) -> None:
        dataset = write_frames(tmp_path, [np.zeros(SIZE), np.full(SIZE, 10.0)])
        with pytest.raises(ValueError, match=r"depths of 0.001 to 10 m, got none in 2 frames"):
            fit(dataset, EIGEN_DEPTH_RANGE)

    def test_take_the_depths_of_their_range(self, fit, tmp_path: Path, image: np.ndarray) -> None:
        """Two of three depths lie between 3 and 30 m."""
        depth_m = np.zeros(SIZE)
        depth_m[0], depth_m[1], depth_m[2] = 2.0, 20.0, 20.0
        model = fit(write_frames(tmp_path, [depth_m]), DepthRange(3.0, 30.0))
        assert model(image, [(3, 1)])[0] == pytest.approx(20.0)
        assert model(image, [(3, 0)])[0] == pytest.approx(20.0)
