"""Depthwise convolution against PyTorch's own, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from spd.fast.depthwise import FastDepthwiseConv2d, is_depthwise


def _convolution(kernel: int, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 6, kernel, padding=kernel // 2, groups=6, bias=bias).double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("kernel", "size"), [(7, (5, 12)), (3, (4, 3)), (7, (2, 3))])
def test_it_is_the_convolution_and_so_are_its_gradients(
    kernel: int, size: tuple[int, int], channels_last: bool, bias: bool
):
    plain = _convolution(kernel, bias)
    ours = FastDepthwiseConv2d.from_module(copy.deepcopy(plain))
    features = torch.randn(2, 6, *size, dtype=torch.float64)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    features.requires_grad_()
    towards = torch.randn_like(features)
    torch.testing.assert_close(ours(features), plain(features), atol=1e-12, rtol=1e-12)
    expected = torch.autograd.grad(plain(features), (features, *plain.parameters()), towards)
    found = torch.autograd.grad(ours(features), (features, *ours.parameters()), towards)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-11, rtol=1e-11)


def test_without_gradients_and_exported_it_is_the_same():
    plain = _convolution(7)
    ours = FastDepthwiseConv2d.from_module(plain)
    features = torch.randn(1, 6, 9, 4, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(ours(features), plain(features))
    exported = torch.export.export(ours, (features,))
    torch.testing.assert_close(exported.module()(features), plain(features), atol=1e-12, rtol=1e-12)


def test_in_bfloat16_gradients_are_near_and_come_in_float32():
    plain = _convolution(7)
    single = FastDepthwiseConv2d.from_module(copy.deepcopy(plain).float())
    features = torch.randn(2, 6, 8, 11)
    with torch.autocast("cpu", torch.bfloat16):
        out = single(features)
        assert out.dtype == torch.bfloat16
    found = torch.autograd.grad(out.float().square().sum(), list(single.parameters()))
    expected = torch.autograd.grad(plain(features.double()).square().sum(), list(plain.parameters()))
    for mine, exact in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine.double() - exact).norm() < 0.02 * exact.norm()


def test_only_depthwise_convolutions_of_stride_one_have_a_quick_one():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 4, stride=4), _convolution(7), nn.Conv2d(6, 6, 3, stride=2, groups=6), nn.Conv2d(6, 6, 1)
    )
    assert [is_depthwise(layer) for layer in network] == [False, True, False, False]
    plain = network[1]
    assert isinstance(plain, nn.Conv2d)
    assert list(FastDepthwiseConv2d.from_module(plain).state_dict()) == list(plain.state_dict())
