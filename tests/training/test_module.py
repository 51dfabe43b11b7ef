"""The optimiser's groups and schedule, and what the probe reads off the decoder."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spd.config import ModelConfig
from spd.coordinates import STRIDES, anchor_points
from spd.data.batches import TrainingBatch
from spd.train_config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from spd.training.diagnostics import DecoderProbe
from spd.training.module import (
    SPDModule,
    StepLosses,
    learning_rate_factor,
    parameter_groups,
    validation_figures,
)

SMALL = ModelConfig.atto(train_size=(64, 96))


@pytest.fixture(scope="module")
def module() -> SPDModule:
    torch.manual_seed(0)
    return SPDModule(TrainConfig(model=SMALL, data=DataConfig(batch_size=2)))


def test_every_parameter_is_in_one_group(module: SPDModule) -> None:
    groups = parameter_groups(module, module.config)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in module.parameters())
    assert len(grouped) == len(set(grouped))


def test_every_parameter_of_the_baseline_is_in_one_group() -> None:
    config = TrainConfig(model=replace(SMALL, architecture="bilinear"), data=DataConfig(batch_size=2))
    module = SPDModule(config)
    grouped = [id(parameter) for group in parameter_groups(module, config) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in module.model.parameters())
    assert module.auxiliary_heads is None
    pretrained = replace(config, model=replace(config.model, pretrained=True))
    slow = [g["params"] for g in parameter_groups(module, pretrained) if g["lr"] == pytest.approx(1e-5)]
    assert {id(p) for group in slow for p in group} == {id(p) for p in module.model.encoder.backbone.parameters()}


def test_low_rate_is_exactly_for_timm(module: SPDModule) -> None:
    config = replace(module.config, model=replace(SMALL, pretrained=True))
    slow = {id(p) for g in parameter_groups(module, config) if g["lr"] == pytest.approx(1e-5) for p in g["params"]}
    assert slow == {id(parameter) for parameter in module.model.encoder.backbone.parameters()}
    assert not slow & {id(parameter) for parameter in module.model.encoder.self_attention.parameters()}


def test_random_encoder_learns_at_the_full_rate(module: SPDModule) -> None:
    assert {group["lr"] for group in parameter_groups(module, module.config)} == {1e-4}


def test_only_matrices_decay(module: SPDModule) -> None:
    for group in parameter_groups(module, module.config):
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.01 if parameter.ndim >= 2 else 0.0)


def test_schedule_ends_at_the_same_fraction_for_every_group() -> None:
    optimizer = OptimizerConfig()
    factors = [learning_rate_factor(step, 200, 20, optimizer.final_lr_fraction) for step in range(200)]
    assert factors[0] == pytest.approx(1 / 20)
    assert max(factors) == 1.0
    assert factors[-1] == pytest.approx(0.01)
    assert all(a <= b for a, b in itertools.pairwise(factors[:20]))
    assert all(a >= b for a, b in itertools.pairwise(factors[20:]))
    # Half way down the cosine lies the mean of its ends.
    assert learning_rate_factor(20 + 90, 201, 20, 0.01) == pytest.approx(0.505)


@pytest.mark.parametrize("anchor_weight", [0.0, 0.25])
def test_relative_error_joins_the_loss_of_points_and_anchors(
    monkeypatch: pytest.MonkeyPatch, anchor_weight: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 7, 2, generator=generator) * 60
    depth_m = torch.linspace(1, 3, 96).expand(2, 64, 96).contiguous()
    batch = TrainingBatch(
        images=torch.rand(2, 3, 64, 96, generator=generator),
        depth_m=depth_m,
        query_points=points,
        query_depth_m=torch.rand(2, 7, generator=generator).add(0.5),
        query_mask=torch.ones(2, 7, dtype=torch.bool),
        indices=torch.arange(2),
        data_sets=torch.zeros(2, dtype=torch.long),
        depth_scale=torch.ones(2),
    )
    losses: dict[float, StepLosses] = {}
    for weight in (0.0, 0.5):
        torch.manual_seed(0)
        loss = LossConfig(relative_weight=weight, anchor_weight=anchor_weight)
        module = SPDModule(TrainConfig(model=SMALL, data=DataConfig(batch_size=2), loss=loss)).eval()
        monkeypatch.setattr(module, "_log_step", lambda parts, _, weight=weight: losses.update({weight: parts}))
        module.training_step(batch, 0)
    with torch.no_grad():
        predicted = module.model(batch.images, points, batch.query_mask)
    relative = ((predicted - batch.query_depth_m).abs() / batch.query_depth_m).mean()
    without, with_it = losses[0.0], losses[0.5]
    assert "relative" not in without.others
    assert with_it.silog == without.silog
    torch.testing.assert_close(with_it.others["relative"], relative)
    anchors = with_it.others["anchors"] - without.others["anchors"]
    with torch.no_grad():
        _, log_depth_m = module.model.encode_with_anchors(batch.images)
    assert log_depth_m is not None
    # Depth rises evenly from the left to the right: an anchor's is that between two columns.
    at_anchors = torch.from_numpy(np.interp(anchor_points((64, 96), 32)[:, 0], np.arange(96), depth_m[0, 0])).float()
    torch.testing.assert_close(anchors, 0.5 * (log_depth_m.exp() / at_anchors - 1).abs().mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(with_it.total - without.total, 0.5 * relative + anchor_weight * anchors)


def test_probe_reads_what_the_formulas_give(module: SPDModule) -> None:
    decoder = module.model.decoder
    images, points = torch.rand(2, 3, 64, 96), torch.rand(2, 7, 2) * 60
    with torch.no_grad():
        for layer in decoder.deformable_layers:
            # Every sample exactly 3 cells right of and 4 below its query: 5 cells away.
            layer.cross_attention.sampling_offsets.weight.zero_()
            layer.cross_attention.sampling_offsets.bias.view(-1, 2).copy_(torch.tensor([3.0, 4.0]))
        decoder.l3_layers[0].canvas_access.gate.bias.fill_(2.0)
        probe = DecoderProbe(decoder)
        module.model(images, points)  # Anchors write to the canvas while the image is encoded.
        figures = probe.close()
    for level, stride in enumerate(STRIDES, start=1):
        assert figures[f"offset_px/level_{level}"].item() == pytest.approx(5 * stride, rel=1e-5)
    assert figures["gate/layer_1"].item() == pytest.approx(0.5)
    assert figures["gate/layer_4"].item() == pytest.approx(1 / (1 + math.exp(-2)))
    assert sorted(name for name in figures if name.startswith("canvas_std")) == [
        f"canvas_std/layer_{n}" for n in range(1, 8)
    ]
    assert not any(m._forward_hooks for m in module.modules())


def test_validation_figures_of_one_image() -> None:
    """By hand: raw errors 1/1, 0/2, 4/4; scaled by 2/2 = 1 they stay, and by the median of another they do not."""
    figures = validation_figures(np.array([2.0, 2.0, 8.0]), np.array([1.0, 2.0, 4.0]))
    assert figures["abs_rel"] == pytest.approx((1 + 0 + 1) / 3)
    assert figures["rmse"] == pytest.approx(((1 + 0 + 16) / 3) ** 0.5)
    assert figures["delta1"] == pytest.approx(1 / 3)
    assert figures["abs_rel_aligned"] == pytest.approx((1 + 0 + 1) / 3)
    halved = validation_figures(np.array([3.0, 6.0, 12.0]), np.array([1.0, 2.0, 4.0]))
    assert halved["abs_rel"] == pytest.approx(2.0)
    assert halved["abs_rel_aligned"] == pytest.approx(0.0)


def test_batch_norms_are_frozen_where_weights_know_their_statistics() -> None:
    lite = ModelConfig.lite0(train_size=(64, 96))
    for config, frozen in (
        (TrainConfig(model=lite), False),
        (TrainConfig(model=lite, init="somewhere"), True),
        (TrainConfig(model=replace(lite, pretrained=True)), True),
        (TrainConfig(model=replace(lite, pretrained=True), optimizer=OptimizerConfig(batch_norm="trained")), False),
        (TrainConfig(model=lite, optimizer=OptimizerConfig(batch_norm="frozen")), True),
    ):
        norms = SPDModule(config).model.encoder.batch_norms()
        assert norms
        assert {norm.training for norm in norms} == {not frozen}


def test_batch_norms_of_an_encoder_without_any_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_norm frozen is for encoders with batch norms, got convnextv2"):
        SPDModule(TrainConfig(model=SMALL, optimizer=OptimizerConfig(batch_norm="frozen")))
