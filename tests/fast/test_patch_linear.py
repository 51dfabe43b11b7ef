"""Linear layers over patches against the convolutions they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spd.fast.patch_linear import PatchLinear, is_of_patches


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_it_is_the_convolution(side: int, with_bias: bool, channels_last: bool) -> None:
    torch.manual_seed(side)
    source = nn.Conv2d(16, 24, side, stride=side, bias=with_bias)
    maps = torch.randn(2, 16, 13, 22)  # Sides that patches do not fill.
    bias = None if source.bias is None else source.bias.double()
    exact = F.conv2d(maps.double(), source.weight.double(), bias, stride=side)
    if channels_last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = PatchLinear.from_module(source, by_kernels=True)(maps)
        alone = PatchLinear.from_module(source, by_kernels=False)(maps)
    for result in (found, alone):
        torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(16, 24, 3, stride=2),
        nn.Conv2d(16, 24, 2, stride=2, padding=1),
        nn.Conv2d(16, 24, 2, stride=2, groups=2),
        nn.Conv2d(16, 24, (1, 2), stride=(1, 2)),
        nn.Conv2d(16, 24, 1, dilation=2),
        nn.Conv2d(3, 24, 4, stride=4),
    ],
)
def test_it_stands_for_no_other(other: nn.Conv2d) -> None:
    assert not is_of_patches(other)
