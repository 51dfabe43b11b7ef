from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spd.data.rgbd import RGBDDataset
from spd.evaluation.consistency import COMPANIONS, NUM_PIXELS, NUM_SETS, measure_consistency


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of 48x96, so that every set of companions is full."""
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "depth", "split"])
        for name in "ab":
            Image.new("RGB", (96, 48)).save(tmp_path / f"{name}.png")
            np.save(tmp_path / f"{name}.npy", np.full((48, 96), 2.0, np.float32))
            writer.writerow([f"{name}.png", f"{name}.npy", "test"])
    return tmp_path


class Sees:
    """A predictor whose answer is ``answer(points)``; remembers the questions."""

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.answer = answer
        self.asked: list[np.ndarray] = []

    def encode(self, image: np.ndarray, *, intrinsics: Any) -> Callable[[np.ndarray], np.ndarray]:
        def scene(points: np.ndarray) -> np.ndarray:
            self.asked.append(points)
            return self.answer(points)

        return scene


def measure(predictor: Sees, data: Path) -> list[tuple[int, float, float]]:
    rows = measure_consistency(predictor, RGBDDataset(data), data, crop="none")
    return [tuple(row) for row in rows]


def test_an_instrument_changes_nothing(data: Path) -> None:
    assert measure(Sees(lambda points: 1 + points[:, 0] / 50), data) == [(number, 0, 0) for number in COMPANIONS]


def test_a_change_with_the_number_of_points_by_hand(data: Path) -> None:
    """log depth grows by 1 % per hundred points: known for every number of companions, equal at the reference's."""
    rows = measure(Sees(lambda points: np.full(len(points), 2 * np.exp(len(points) / 1e4))), data)
    for (number, mean, percentile), companions in zip(rows, COMPANIONS, strict=True):
        assert number == companions
        expected = abs(number - 240) / 1e4
        assert mean == pytest.approx(expected, abs=1e-12)
        assert percentile == pytest.approx(expected, abs=1e-12)


def test_the_same_pixels_are_asked_among_sets_that_share_nothing(data: Path) -> None:
    predictor = Sees(lambda points: np.ones(len(points)))
    measure(predictor, data)
    of_first = predictor.asked[: len(predictor.asked) // 2]
    assert [len(points) - NUM_PIXELS for points in of_first] == [
        240,
        0,
        *[48] * NUM_SETS,
        *[240] * NUM_SETS,
        *[1008] * NUM_SETS,
    ]
    for points in of_first:
        np.testing.assert_array_equal(points[:NUM_PIXELS], of_first[0][:NUM_PIXELS])
    others = np.concatenate([points[NUM_PIXELS:] for points in of_first])
    assert len(np.unique(np.concatenate((of_first[0][:NUM_PIXELS], others)), axis=0)) == NUM_PIXELS + len(others)


def test_what_moves_few_pixels_shows_in_the_percentile(data: Path) -> None:
    def answer(points: np.ndarray) -> np.ndarray:
        depth_m = np.ones(len(points))
        # One of the sixteen pixels jumps when it is asked alone with the others.
        depth_m[3] = 2.0 if len(points) == NUM_PIXELS else 1.0
        return depth_m

    (number, mean, percentile), *rest = measure(Sees(answer), data)
    assert (number, mean) == (0, pytest.approx(np.log(2) / 16))
    assert percentile == pytest.approx(np.log(2), rel=0.2)
    assert all(row[1:] == (0, 0) for row in rest)
