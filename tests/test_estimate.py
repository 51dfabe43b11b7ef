"""Intervals: their factors against the definition, their levels, and what a scene answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spd.checkpoint import load_weights, save
from spd.config import ModelConfig
from spd.estimate import LEVELS, Estimate, IntervalFactors
from spd.model.spd import SPD
from spd.predictor import Predictor, SureDepthPredictor
from spd.runtime.loading import load

CONFIG = ModelConfig.atto(train_size=(64, 96), log_std=True)
FACTORS = IntervalFactors(levels=(0.5, 0.8, 0.95), factors=(0.6, 1.3, 2.4), fitted_on=({"data": "nyu"},))
POINTS = [(0, 0), (149, 99), (70.5, 20)]


@pytest.fixture(scope="module")
def model() -> SPD:
    torch.manual_seed(0)
    model = SPD(CONFIG).eval()
    model.intervals = FACTORS
    return model


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)


def test_fitted_factors_hold_as_many_as_they_say() -> None:
    rng = np.random.default_rng(0)
    ratios = np.abs(rng.standard_t(3, 20_000))
    factors = IntervalFactors.fit(ratios, np.ones(20_000))
    assert factors.levels == LEVELS
    for level in LEVELS:
        assert (ratios <= factors.factor(level)).mean() == pytest.approx(level, abs=1e-4)
    fresh = np.abs(rng.standard_t(3, 20_000))
    assert (fresh <= factors.factor(0.8)).mean() == pytest.approx(0.8, abs=0.01)


def test_a_point_counts_by_its_weight() -> None:
    """Eight points of one image count as much as one of another."""
    ratios = np.array([1.0] * 8 + [2.0])
    weights = np.array([0.125] * 8 + [1.0])
    assert IntervalFactors.fit(ratios, weights).factor(0.5) == 1.0
    assert IntervalFactors.fit(ratios, weights).factor(0.68) == 2.0
    assert IntervalFactors.fit(ratios, np.ones(9)).factor(0.8) == 1.0


def test_a_level_between_two_lies_on_the_line_in_the_tail() -> None:
    def tail(level: float) -> float:
        return -np.log(1 - level)

    share = (tail(0.7) - tail(0.5)) / (tail(0.8) - tail(0.5))
    assert FACTORS.factor(0.7) == pytest.approx(0.6 + share * 0.7)
    assert FACTORS.factor(0.2) == pytest.approx(0.6 * tail(0.2) / tail(0.5))
    # Of a Laplace distribution the factor of a level is exactly its tail.
    laplace = IntervalFactors(levels=(0.5, 0.95), factors=(tail(0.5), tail(0.95)))
    assert laplace.factor(0.8) == pytest.approx(tail(0.8))


@pytest.mark.parametrize("level", [0.0, 0.951, 1.0, -1.0, float("nan")])
def test_levels_that_nothing_was_fitted_for_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be"):
        Estimate(depth_m=np.ones(1, np.float32), log_std=np.ones(1, np.float32), factors=FACTORS).interval(level)


def test_an_interval_lies_around_its_depth() -> None:
    estimate = Estimate(depth_m=np.float32([2.0, 0.5]), log_std=np.float32([0.1, 0.4]), factors=FACTORS)
    low_m, high_m = estimate.interval(0.8)
    np.testing.assert_allclose(np.log(estimate.depth_m / low_m), 1.3 * estimate.log_std, rtol=1e-5)
    np.testing.assert_allclose(low_m * high_m, estimate.depth_m**2, rtol=1e-5)
    assert (low_m > 0).all()
    np.testing.assert_allclose(estimate.depth_std_m, [0.2, 0.2], rtol=1e-6)
    wider_low_m, wider_high_m = estimate.interval(0.9)
    assert (wider_low_m < low_m).all()
    assert (wider_high_m > high_m).all()


@pytest.mark.parametrize(
    ("levels", "factors", "message"),
    [
        ((0.5,), (1.0, 2.0), "one length"),
        ((), (), "one length"),
        ((0.8, 0.5), (1.0, 2.0), "must rise"),
        ((0.5, 1.0), (1.0, 2.0), "must rise"),
        ((0.5, 0.8), (2.0, 1.0), "not fall"),
        ((0.5,), (0.0,), "positive"),
        ((0.5,), (float("inf"),), "finite"),
    ],
)
def test_factors_that_are_none_are_refused(levels: tuple, factors: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntervalFactors(levels=levels, factors=factors)


def test_a_scene_estimates_what_it_answers(model: SPD, image: np.ndarray) -> None:
    predictor = Predictor.from_model(model)
    assert isinstance(predictor.model, SureDepthPredictor)
    scene = predictor.encode(image, intrinsics=(180.0, 180.0, 75.0, 50.0))
    estimate = scene.estimate(POINTS)
    np.testing.assert_array_equal(estimate.depth_m, scene(POINTS))
    assert estimate.factors == FACTORS
    # The camera scales depth, and no ratio.
    plain = predictor.estimate(image, POINTS)
    np.testing.assert_array_equal(plain.log_std, estimate.log_std)
    assert abs(plain.depth_m / estimate.depth_m - 1).min() > 0.01
    one_by_one = np.concatenate([scene.estimate([point]).log_std for point in POINTS])
    np.testing.assert_allclose(one_by_one, estimate.log_std, rtol=1e-4)


def test_no_points_have_no_estimate(model: SPD, image: np.ndarray) -> None:
    estimate = Predictor.from_model(model).estimate(image, [])
    assert estimate.depth_m.shape == estimate.log_std.shape == (0,)
    assert estimate.interval(0.8)[0].shape == (0,)


def test_many_points_come_in_their_order(model: SPD, image: np.ndarray) -> None:
    scene = Predictor.from_model(model).encode(image)
    points = np.random.default_rng(1).uniform(0, 99, (4100, 2))
    estimate = scene.estimate(points)
    np.testing.assert_allclose(estimate.log_std[-3:], scene.estimate(points[-3:]).log_std, rtol=1e-4)
    assert estimate.log_std.shape == (4100,)


def test_a_model_without_it_says_so(image: np.ndarray) -> None:
    predictor = Predictor.from_model(SPD(ModelConfig.atto(train_size=(64, 96))))
    with pytest.raises(ValueError, match="does not say how sure it is; one that is trained with"):
        predictor.estimate(image, POINTS)


def test_intervals_that_were_never_fitted_are_refused(image: np.ndarray) -> None:
    estimate = Predictor.from_model(SPD(CONFIG)).estimate(image, POINTS)
    with pytest.raises(ValueError, match="not fitted"):
        estimate.interval(0.8)


def test_a_checkpoint_keeps_scale_and_factors(model: SPD, image: np.ndarray, tmp_path: Path) -> None:
    save(model, tmp_path / "checkpoint")
    loaded, given = load(tmp_path / "checkpoint"), Predictor.from_model(model)
    np.testing.assert_allclose(loaded.estimate(image, POINTS).log_std, given.estimate(image, POINTS).log_std, rtol=1e-4)
    assert loaded.intervals == FACTORS


def test_damaged_factors_are_refused_with_their_file(model: SPD, tmp_path: Path) -> None:
    save(model, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"factors": [', '"factors": [-1,'))
    with pytest.raises(ValueError, match=r"config\.json: levels and factors"):
        load(tmp_path)


@pytest.mark.parametrize("now", [True, False])
def test_weights_start_a_training_whichever_says_how_sure_it_is(now: bool, tmp_path: Path) -> None:
    before = SPD(ModelConfig.atto(train_size=(64, 96), log_std=not now))
    save(before, tmp_path)
    network = SPD(ModelConfig.atto(train_size=(64, 96), log_std=now))
    load_weights(network, tmp_path)
    images, points = torch.rand(1, 3, 64, 96), torch.rand(1, 5, 2) * 60
    with torch.inference_mode():
        assert torch.equal(network.eval()(images, points), before.eval()(images, points))
