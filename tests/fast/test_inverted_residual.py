"""EfficientNet-Lite's quick blocks against timm's own forward: in training, and folded for answering."""

from __future__ import annotations

import contextlib

import pytest
import torch
from tests.model.test_efficientnet_lite import LITE0, LITE2, lively, means, pair
from torch import nn

from spd import SPD, ModelConfig
from spd.coordinates import STRIDES
from spd.fast import operators, quicken
from spd.fast.folded_residual import FoldedResidual
from spd.fast.inverted_residual import FastInvertedResidual, folded
from spd.model.efficientnet_lite import EfficientNetLiteEncoder


def quick_encoder(encoder: EfficientNetLiteEncoder, purpose: str, precision: str = "float32") -> nn.Module:
    """Of a network around ``encoder``."""
    network = SPD(ModelConfig.lite0()).eval()
    network.encoder.backbone = encoder.backbone
    network.encoder.self_attention = None
    network.encoder.has_frozen_statistics = encoder.has_frozen_statistics
    return quicken(network, purpose, precision).encoder.train(encoder.training)


@pytest.mark.parametrize("name", [LITE0, LITE2])
@pytest.mark.parametrize("kernels", [True, False])
def test_the_features_are_those_of_timm(name: str, kernels: bool):
    encoder, independent = pair(name)
    quick = quick_encoder(encoder, "train")
    assert sum(isinstance(module, FastInvertedResidual) for module in quick.modules()) >= 15
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with contextlib.nullcontext() if kernels else operators.disabled():
        found = quick(images)
    for stage, stride, ours, theirs in zip(range(4), STRIDES, found, independent(images), strict=True):
        assert ours.shape == (2, encoder.channels[stage], 64 // stride, 96 // stride)
        torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", [LITE0, LITE2])
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folded_for_answering_the_features_are_those_of_timm(name: str, kernels: bool, dtype: torch.dtype):
    """Norms in the weights, a kernel for each block; the encoder is left as it was."""
    encoder, independent = pair(name)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    answering = quick_encoder(encoder, "answer", str(dtype).removeprefix("torch."))
    assert not any(isinstance(module, (FastInvertedResidual, nn.BatchNorm2d)) for module in answering.modules())
    assert sum(isinstance(module, FoldedResidual) for module in answering.modules()) >= 15
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    context = contextlib.nullcontext() if kernels else operators.disabled()
    with context, torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found = answering(images)
    # Rounding adds up over the layers, 2⁻⁹ or 2⁻²⁵ of a number in each.
    tolerance = 2e-5 if dtype == torch.float32 else 0.2
    for ours, theirs in zip(found, independent(images), strict=True):
        assert ours.dtype == dtype
        assert (ours - theirs).square().mean().sqrt() < tolerance * theirs.std()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_moving_statistics_are_those_of_timm():
    encoder, independent = pair(LITE0)
    encoder.train()
    independent.train()
    quick = quick_encoder(encoder, "train")
    images = torch.randn(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    before = means(encoder)
    for ours, theirs in zip(quick(images), independent(images), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)
    # The statistics are those of the plain encoder, which is saved.
    assert not any(torch.equal(old, new) for old, new in zip(before, means(encoder), strict=True))
    found = encoder.backbone.state_dict()
    for key, value in independent.state_dict().items():
        torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3)


def test_gradients_with_frozen_statistics_are_those_of_timm():
    """In float64: a value on the edge of ReLU6 may lie on its other side in float32."""
    encoder, independent = pair(LITE0)
    encoder.double()
    independent.double()
    encoder.freeze_statistics()
    encoder.train()
    quick = quick_encoder(encoder, "train")
    images = torch.randn(2, 3, 32, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for features in (quick(images), independent(images)):
        sum((of.cos() * torch.linspace(-1, 1, of.numel()).view(of.shape)).mean() for of in features).backward()
    ours = dict(encoder.backbone.named_parameters())
    for name, parameter in independent.named_parameters():
        found = ours[name].grad
        assert found is not None, name
        assert parameter.grad is not None, name
        torch.testing.assert_close(found, parameter.grad, atol=1e-10, rtol=1e-8, msg=name)


def test_folding_a_norm_changes_nothing():
    convolution = nn.Conv2d(3, 5, 3, bias=False).double()
    norm = nn.BatchNorm2d(5).double().eval()
    lively(norm)
    images = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    weight, bias = folded(convolution, norm)
    found = torch.nn.functional.conv2d(images, weight, bias)
    torch.testing.assert_close(found, norm(convolution(images)), atol=1e-12, rtol=1e-12)
