"""The kernel of EfficientNet-Lite's blocks and its gradient against float64 convolutions of PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spd.fast.operators.calls import is_available
from spd.fast.operators.relu6_depthwise import relu6_depthwise

pytestmark = pytest.mark.skipif(not is_available(), reason="there is no C++ compiler for the kernels")


def reference(maps: Tensor, taps: Tensor, bias: Tensor, stride: int) -> Tensor:
    """TensorFlow's SAME of even sides: k - s pixels of zeros, the smaller half before."""
    kernel = round(len(taps) ** 0.5)
    padding = kernel - stride
    clamped = F.pad(F.relu6(maps).permute(0, 3, 1, 2), (padding // 2, padding - padding // 2) * 2)
    weight = taps.t().reshape(-1, 1, kernel, kernel)
    return F.relu6(F.conv2d(clamped, weight, bias, stride, groups=len(bias))).permute(0, 2, 3, 1)


def inputs(seed: int, size: tuple[int, int, int, int], kernel: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Values on both sides of both bends, and none near them: rounding moves none across."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.empty(size).uniform_(-2, 8, generator=generator)
    for bend in (0.0, 6.0):
        near = (maps - bend).abs() < 0.05
        maps = torch.where(near, maps + 0.2, maps)
    taps = torch.randn(kernel * kernel, size[-1], generator=generator) * 0.2
    bias = torch.randn(size[-1], generator=generator)
    return maps.to(dtype), taps, bias


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "height": st.integers(1, 5),
        "width": st.integers(1, 9),
        "channels": st.sampled_from((8, 16, 24, 48)),
        "kernel": st.sampled_from((3, 5)),
        "stride": st.sampled_from((1, 2)),
        "threads": st.sampled_from((1, 2, 3)),
        "seed": st.integers(0, 10_000),
    }
)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, dtype=st.sampled_from((torch.float32, torch.bfloat16)))
def test_it_is_a_convolution_between_two_clamps(shape: dict[str, int], dtype: torch.dtype):
    stride = shape["stride"]
    size = (shape["batch"], stride * shape["height"], stride * shape["width"], shape["channels"])
    maps, taps, bias = inputs(shape["seed"], size, shape["kernel"], dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(shape["threads"])
    try:
        found = relu6_depthwise(maps, taps, bias, stride)
    finally:
        torch.set_num_threads(before)
    expected = reference(maps.double(), taps.double(), bias.double(), stride)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2**-8 * 6
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, dtype=st.sampled_from((torch.float32, torch.bfloat16)))
def test_its_gradient_is_that_of_the_convolution(shape: dict[str, int], dtype: torch.dtype):
    stride = shape["stride"]
    size = (shape["batch"], stride * shape["height"], stride * shape["width"], shape["channels"])
    maps, taps, bias = inputs(shape["seed"], size, shape["kernel"], dtype)
    double = [value.double().requires_grad_() for value in (maps, taps, bias)]
    expected_out = reference(*double, stride)
    # Where rounding takes the result onto a bend, the kernel sees no slope: nothing comes in there.
    rounded = expected_out.detach().to(dtype).double()
    free = (rounded > 0.01) & (rounded < 5.95)
    towards = torch.randn(expected_out.shape, generator=torch.Generator().manual_seed(1)).to(dtype) * free
    expected = torch.autograd.grad(expected_out, double, towards.double())

    mine = [value.clone().requires_grad_() for value in (maps, taps, bias)]
    found = torch.autograd.grad(relu6_depthwise(*mine, stride), mine, towards)

    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    for name, ours, theirs in zip(("maps", "taps", "bias"), found, expected, strict=True):
        scale = max(theirs.abs().max().item(), 1.0)
        torch.testing.assert_close(ours.double() / scale, theirs / scale, atol=tolerance, rtol=0, msg=name)


def test_maps_that_lie_otherwise_in_memory_give_the_same():
    maps, taps, bias = inputs(0, (2, 4, 6, 16), 3, torch.float32)
    permuted = maps.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert not permuted.is_contiguous()
    assert torch.equal(relu6_depthwise(permuted, taps, bias, 1), relu6_depthwise(maps, taps, bias, 1))


def test_pytorch_s_counter_knows_its_products():
    maps, taps, bias = inputs(0, (2, 4, 6, 16), 5, torch.float32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        relu6_depthwise(maps, taps, bias, 2)
    assert counter.get_total_flops() == 2 * (2 * 2 * 3 * 16) * 25
