"""The kernel of EfficientNet-Lite's whole blocks against float64 convolutions of PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fast.support import PRECISIONS, THREADS, threads_set
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spd.fast import operators
from spd.fast.operators.brgemm import multiplied_types

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(autouse=True)
def products(kernels: None) -> None:
    if multiplied_types() != {torch.float32, torch.bfloat16}:
        pytest.skip("the kernels multiply float32 with AVX-512, and bfloat16 with what it adds for it or AMX")


class Block:
    """Random layers, and what they make of maps.

    Args:
        inner: channels of the maps.
        channels: between the products; None is those of the maps, which are then not widened.
        outer: channels of the result.
        kernel: side of that of the depthwise convolution.
        dtype: of the weights of the products.
    """

    def __init__(self, inner: int, channels: int | None, outer: int, kernel: int, dtype: torch.dtype) -> None:
        between = channels or inner
        self.widen = None if channels is None else (torch.randn(channels, inner) / inner**0.5 * 3).to(dtype)
        self.widen_bias = None if channels is None else torch.randn(channels).to(dtype)
        self.taps = torch.randn(kernel**2, between) * 0.3
        self.bias = torch.randn(between)
        self.narrow = (torch.randn(outer, between) / between**0.5).to(dtype)
        self.narrow_bias = torch.randn(outer).to(dtype)

    def exact(self, maps: Tensor, stride: int, skips: bool) -> Tensor:
        """TensorFlow's SAME of sides that the stride divides: k - s pixels of zeros, the smaller half before."""
        kernel = round(len(self.taps) ** 0.5)
        before, padding = (kernel - stride) // 2, kernel - stride
        wide = maps.double()
        if self.widen is not None and self.widen_bias is not None:
            wide = F.linear(wide, self.widen.double(), self.widen_bias.double())
        padded = F.pad(F.relu6(wide).permute(0, 3, 1, 2), (before, padding - before) * 2)
        weight = self.taps.double().t().reshape(-1, 1, kernel, kernel)
        middle = F.relu6(F.conv2d(padded, weight, self.bias.double(), stride, groups=len(self.bias)))
        narrow = F.linear(middle.permute(0, 2, 3, 1), self.narrow.double(), self.narrow_bias.double())
        return maps.double() + narrow if skips else narrow

    def by_kernel(self, maps: Tensor, stride: int, skips: bool) -> Tensor:
        widen = None if self.widen is None else operators.pack(self.widen)
        layers = (widen, self.widen_bias, self.taps, self.bias, operators.pack(self.narrow), self.narrow_bias)
        return operators.inverted_residual(maps, *layers, stride, skips=skips)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 3), height=st.integers(1, 12), width=st.integers(1, 80),
    inner=st.sampled_from([8, 16, 24, 40]), channels=st.sampled_from([None, 16, 40, 96, 208, 528]),
    outer=st.sampled_from([8, 24, 72, 208]), kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2]),
    dtype=PRECISIONS, threads=THREADS, seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_three_layers(batch, height, width, inner, channels, outer, kernel, stride, dtype, threads, seed):
    torch.manual_seed(seed)
    block = Block(inner, channels, outer, kernel, dtype)
    maps = (torch.randn(batch, stride * height, stride * width, inner) * 2).to(dtype)
    with threads_set(threads), torch.inference_mode():
        found = block.by_kernel(maps, stride, skips=False)
    assert found.dtype == dtype
    assert found.shape == (batch, height, width, outer)
    _assert_near(found, block.exact(maps, stride, skips=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_skipped_map_is_added(dtype: torch.dtype, threads: int):
    """Of images of which a thread has the end of one and the beginning of the next."""
    torch.manual_seed(0)
    block = Block(24, 144, 24, 5, dtype)
    maps = torch.randn(3, 30, 33, 24).to(dtype)
    with threads_set(threads), torch.inference_mode():
        found = block.by_kernel(maps, 1, skips=True)
    _assert_near(found, block.exact(maps, 1, skips=True))


def _assert_near(found: Tensor, expected: Tensor) -> None:
    """In bfloat16 the numbers between the layers and the result are rounded, to 2⁻⁹ of their size."""
    tolerance = 2e-5 if found.dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.double(), expected, atol=tolerance * expected.abs().max().item(), rtol=0)


def test_pytorch_s_counter_knows_its_products():
    block = Block(16, 96, 24, 5, torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        block.by_kernel(torch.randn(2, 8, 12, 16), 2, skips=False)
    assert counter.get_total_flops() == 2 * 2 * (8 * 12 * 16 * 96 + 4 * 6 * (25 * 96 + 96 * 24))
