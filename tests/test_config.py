"""Presets, validation, and the JSON form of a model's configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from spd.config import PRESETS, ModelConfig
from spd.train_config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from spd.variant import Variant


@pytest.mark.parametrize("name", PRESETS)
def test_json_comes_back(name: str) -> None:
    config = ModelConfig.preset(name, train_size=(128, 160))
    back = ModelConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert back.canonical_focal_length == pytest.approx(config.canonical_focal_length)
    assert back.to_json() == config.to_json()


FIRST_VERSION = {
    "encoder": "convnextv2_atto", "pretrained": False, "encoder_heads": 5, "neck_channels": [32, 64, 96, 192],
    "neck_heads": 6, "embed_dim": 96, "num_heads": 3, "num_points": 4, "num_deformable_layers": 3, "num_l3_layers": 2,
    "num_l4_layers": 2, "ffn_ratio": 4, "head_ratio": 2, "dropout": 0.0, "fourier_bands": 8,
    "fourier_lowest_octave": -1, "alignment": "corner", "offset_unit": "normalized", "canvas_write": "sum",
    "canvas_source": "normed", "interaction": "joint", "train_size": [64, 96], "focal_length": 90.0,
}  # fmt: skip
"""What a first version wrote: the switches among the sizes, one architecture, one depth range, nothing left out."""


def test_a_configuration_of_a_first_version_is_read() -> None:
    config = ModelConfig.from_json(FIRST_VERSION)
    assert config.variant == Variant(
        fourier_lowest_octave=-1,
        alignment="corner",
        offset_unit="normalized",
        canvas_write="sum",
        canvas_source="normed",
    )
    assert (config.architecture, config.depth_range, config.anchor_stride) == ("spd", (1e-3, 10.0), 32)
    later = {
        **FIRST_VERSION,
        "without": ["canvas"],
        "architecture": "spd",
        "depth_range": [0.1, 20.0],
        "anchor_stride": 16,
    }
    assert ModelConfig.from_json(later).variant.without == ("canvas",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown fields colour"),
        ({"variant": 3}, "variant must be a JSON object, got 3"),
        ({"variant": {"alignment": "centre"}}, "model config lacks the fields"),
    ],
)
def test_a_configuration_of_another_version_is_refused(change: dict[str, Any], message: str) -> None:
    values = {**ModelConfig.atto().to_json(), **change}
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_json(values)


def test_plan_v14_is_the_plan_to_the_letter() -> None:
    plan = ModelConfig.plan_v14()
    letter = plan.variant
    assert (letter.canvas_write, letter.alignment, letter.fourier_lowest_octave) == ("sum", "corner", 0)
    assert (letter.offset_unit, letter.canvas_source, letter.without) == ("normalized", "hidden", ())
    assert plan.interaction == "joint"
    assert ModelConfig.tiny().interaction == "anchored"
    assert ModelConfig.tiny().canvas_write == "bilinear"
    assert ModelConfig.tiny(interaction="joint").canvas_write == "mean"
    assert ModelConfig.tiny().variant.alignment is None


def test_focal_length_of_nyu_follows_the_size() -> None:
    # fx 518.8579 · 320 / 640 and fy 519.4696 · 256 / 480.
    assert ModelConfig.tiny().canonical_focal_length == pytest.approx(math.sqrt(259.42895 * 277.0504533))
    assert ModelConfig.tiny(train_size=(480, 640)).canonical_focal_length == pytest.approx(
        math.sqrt(518.8579 * 519.4696)
    )
    assert ModelConfig.tiny(focal_length=300.0).canonical_focal_length == 300.0
    assert ModelConfig.tiny().to_json()["focal_length"] == pytest.approx(268.095, abs=1e-3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ModelConfig(train_size=(250, 320)), r"multiples of 32, got \(250, 320\)"),
        (lambda: ModelConfig(train_size=(0, 320)), "multiples of 32"),
        (lambda: ModelConfig(num_heads=5), r"num_heads must divide embed_dim \(192\), got 5"),
        (lambda: ModelConfig(neck_channels=(64, 128, 256, 384)), r"neck_channels\[2\] must equal embed_dim"),
        (lambda: ModelConfig(dropout=1.0), "dropout must be in"),
        (lambda: ModelConfig(focal_length=-1.0), "focal_length must be a positive number"),
        (lambda: ModelConfig(depth_range=(0.0, 10.0)), "0 < MIN < MAX, got 0.0 10.0"),
        (lambda: ModelConfig(depth_range=(2.0, 1.0)), "0 < MIN < MAX, got 2.0 1.0"),
        (lambda: ModelConfig(depth_range=(1.0, math.inf)), "0 < MIN < MAX, got 1.0 inf"),
        (lambda: ModelConfig(depth_range=(1.0, math.nan)), "0 < MIN < MAX, got 1.0 nan"),
        (lambda: ModelConfig(num_points=0), "num_points must be at least 1, got 0"),
        (
            lambda: ModelConfig.preset("huge"),
            "preset must be one of lite, lite0, tiny, .*, got 'huge'",
        ),
        (lambda: DataConfig(batch_size=0), "batch_size must be at least 1"),
        (lambda: DataConfig(edge_fraction=1.5), "edge_fraction must be in"),
        (lambda: DataConfig(query_range=(64, 16)), "query_range must be"),
        (lambda: DataConfig(zoom=(0.0, 1.0)), "zoom must be"),
        (lambda: DataConfig(color_jitter=(0.2, 0.2, 0.2, 0.6)), "color_jitter must be"),
        (lambda: OptimizerConfig(learning_rate=0.0), "learning_rate must be positive"),
        (lambda: OptimizerConfig(final_lr_fraction=2.0), "final_lr_fraction must be in"),
        (lambda: LossConfig(silog_lambda=1.5), "silog_lambda must be in"),
        (lambda: TrainConfig(devices=3), "batch_size must be a multiple of devices, got 8 over 3"),
        (lambda: TrainConfig(seed=-1), "seed must be at least 0, got -1"),
    ],
)
def test_refusals(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_json_of_another_version_is_refused() -> None:
    values = ModelConfig.tiny().to_json()
    with pytest.raises(ValueError, match="unknown fields colour"):
        ModelConfig.from_json({**values, "colour": 1})
    del values["num_heads"]
    with pytest.raises(ValueError, match="lacks the fields num_heads"):
        ModelConfig.from_json(values)


def test_json_of_the_first_version_is_an_spd() -> None:
    values = ModelConfig.tiny().to_json()
    del values["architecture"]
    del values["depth_range"]
    assert ModelConfig.from_json(values).architecture == "spd"
    assert ModelConfig.from_json(values).depth_range == (0.001, 10.0)
    far = json.loads(json.dumps(ModelConfig.tiny(depth_range=(0.1, 80.0)).to_json()))
    assert ModelConfig.from_json(far).depth_range == (0.1, 80.0)
    baseline = ModelConfig.tiny(architecture="bilinear").to_json()
    assert ModelConfig.from_json(baseline).architecture == "bilinear"


def test_encoder_rate_depends_on_its_weights() -> None:
    assert TrainConfig().encoder_learning_rate == pytest.approx(1e-4)
    assert TrainConfig(model=ModelConfig(pretrained=True)).encoder_learning_rate == pytest.approx(1e-5)
    asked = TrainConfig(optimizer=OptimizerConfig(encoder_lr_factor=0.5), model=ModelConfig(pretrained=True))
    assert asked.encoder_learning_rate == pytest.approx(5e-5)
