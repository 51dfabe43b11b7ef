"""Calibrations against corrections that are known, with noise and with wrong distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spd.calibration import Calibration
from spd.camera import Camera
from spd.predictor import Predictor

PREDICTED = np.array([0.8, 1.1, 1.9, 2.4, 3.5, 5.0])


class Slope:
    """A stand-in for a model: depth rises by a centimetre a column, from 1 m on."""

    def encode(self, images: Any) -> Any:
        return images

    def decode(self, memory: Any, query_points: Any) -> Any:
        return 1 + query_points[..., 0] / 100


class TestFit:
    def test_one_distance_is_a_scale(self) -> None:
        fitted = Calibration.fit(np.array([2.0]), np.array([2.5]))
        assert fitted.exponent == 1
        np.testing.assert_allclose(fitted.apply(np.array([2.0, 4.0])), [2.5, 5.0])

    def test_a_wrong_distance_does_not_count(self) -> None:
        known = 1.3 * PREDICTED
        known[2] *= 3
        assert Calibration.fit(PREDICTED, known).scale == pytest.approx(1.3, rel=0.02)

    def test_an_exponent_where_it_helps(self) -> None:
        fitted = Calibration.fit(PREDICTED, 1.2 * PREDICTED**0.8)
        assert (fitted.exponent, fitted.scale) == pytest.approx((0.8, 1.2), rel=1e-3)
        np.testing.assert_allclose(fitted.apply(PREDICTED), 1.2 * PREDICTED**0.8, rtol=1e-3)

    def test_no_exponent_for_noise(self) -> None:
        noise = np.exp(np.array([0.05, -0.06, 0.04, 0.05, -0.05, -0.03]))
        fitted = Calibration.fit(PREDICTED, 1.2 * PREDICTED * noise)
        assert fitted.exponent == 1
        assert fitted.leave_one_out["power"] > 0.9 * fitted.leave_one_out["scale"]

    @pytest.mark.parametrize(
        ("predicted", "known", "kind", "words"),
        [
            ([], [], "auto", "at least one known distance"),
            ([1, 2, 3], [1, 2, 3], "power", "at least 4 known distances, got 3"),
            ([1, 1.1, 1.2, 1.3], [1, 1, 1, 1], "power", "at least 1.5 times the nearest, got 1.30"),
            ([1, 2, 3, 4], [4, 3, 2, 1], "power", "must be positive|do not belong"),
            ([1, 2, 3, 4], [4, 1, 9, 1], "scale", "do not belong to what is predicted"),
            ([1, 2], [1, -2], "auto", "known distances must be positive"),
        ],
    )
    def test_what_is_refused(self, predicted: Any, known: Any, kind: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            Calibration.fit(np.array(predicted, float), np.array(known, float), kind=kind)


class TestFiles:
    def test_comes_back(self, tmp_path: Path) -> None:
        camera = Camera.from_opencv([[400.0, 0, 330], [0, 410, 235], [0, 0, 1]], (0.1, 0, 0, 0), size=(480, 640))
        fitted = Calibration.fit(
            PREDICTED, 1.2 * PREDICTED, camera=camera, camera_source="given", provenance={"by": "tape"}
        )
        fitted.save(tmp_path / "room.json")
        assert Calibration.load(tmp_path / "room.json") == fitted
        assert "from 6 known distances (camera given)" in str(fitted)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"spd_calibration": 9}', '{"spd_calibration": 1, "offset": "a"}']
    )
    def test_other_files(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "room.json").write_text(text)
        with pytest.raises(ValueError, match=r"room\.json is no calibration of SPD"):
            Calibration.load(tmp_path / "room.json")


class TestOfAPredictor:
    @pytest.fixture
    def predictor(self) -> Predictor:
        return Predictor(model=Slope(), train_size=None, focal_length=50.0, device=torch.device("cpu"))

    @pytest.fixture
    def image(self) -> np.ndarray:
        return np.zeros((48, 80, 3), np.uint8)

    def test_a_tape_measures_along_the_ray(self, predictor: Predictor, image: np.ndarray) -> None:
        camera = (60.0, 60.0, 39.5, 23.5)
        along = np.linalg.norm([(70 - 39.5) / 60, (5 - 23.5) / 60, 1])
        by_range = predictor.calibrate([(image, (70, 5), 3.0)], camera=camera)
        by_depth = predictor.calibrate([(image, (70, 5), 3.0)], camera=camera, kind="depth")
        assert by_depth.scale / by_range.scale == pytest.approx(along)

    def test_every_result_says_so(self, predictor: Predictor, image: np.ndarray) -> None:
        camera = (60.0, 60.0, 39.5, 23.5)
        fitted = predictor.calibrate([(image, (70, 5), 3.0), (image, (10, 5), 2.0)], camera=camera)
        corrected = predictor.calibrated(fitted)
        found = corrected.measure(image, [(70, 5)])
        assert (found.calibrated, found.camera_source) == (True, "calibration")
        assert corrected.measure(image, [(70, 5)], camera=camera).camera_source == "given"
        # On raw depth: to calibrate again corrects the model and not its correction.
        assert corrected.calibrate([(image, (70, 5), 3.0), (image, (10, 5), 2.0)], camera=camera) == fitted
        np.testing.assert_allclose(corrected(image, [(70, 5)], camera=camera), found.depth_m)

    def test_without_a_camera(self, predictor: Predictor, image: np.ndarray) -> None:
        fitted = predictor.calibrate([(image, (70, 5), 3.0)])
        assert (fitted.camera, fitted.camera_source) == (None, "assumed")
        found = predictor.calibrated(fitted).measure(image, [(70, 5)])
        assert found.range_m.tolist() == pytest.approx([3.0])
