"""Weights laid out beforehand against float64, and where the layer is a plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spd.fast.linear import PackedLinear, linear
from spd.fast.torch_internals import has_pointwise_linear

WIDTH, OUT = 24, 56
CASES = [(torch.float32, 2e-6), (torch.bfloat16, 0.02)]

pytestmark = pytest.mark.skipif(
    not has_pointwise_linear("cpu", torch.bfloat16), reason="no product of bfloat16 in oneDNN here"
)


def _layer(kind: str, dtype: torch.dtype) -> nn.Linear | nn.Conv2d:
    torch.manual_seed(2)
    layer = nn.Conv2d(WIDTH, OUT, 1) if kind == "convolution" else nn.Linear(WIDTH, OUT, bias=kind != "no bias")
    return layer.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), CASES)
@pytest.mark.parametrize("kind", ["linear", "no bias", "convolution"])
@pytest.mark.parametrize("shape", [(1, 37), (2, 3), (1, 0)])
def test_it_is_the_layer(kind: str, dtype: torch.dtype, tolerance: float, shape: tuple[int, int]) -> None:
    layer = _layer(kind, dtype)
    rows = torch.randn(*shape, WIDTH).to(dtype)
    exact = torch.einsum("bnc,wc->bnw", rows.double(), layer.weight.flatten(1).double())
    exact = exact if layer.bias is None else exact + layer.bias.double()
    packed = PackedLinear.from_module(layer)
    with torch.inference_mode():
        for found in (packed(rows), packed(rows)):
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=tolerance)
        if layer.bias is not None:
            gelu = exact * (1 + torch.erf(exact / 2**0.5)) / 2
            torch.testing.assert_close(linear(packed, rows, gelu=True).double(), gelu, atol=tolerance, rtol=tolerance)
            torch.testing.assert_close(linear(layer, rows, gelu=True).double(), gelu, atol=tolerance, rtol=tolerance)


def test_autocast_decides_the_precision() -> None:
    rounded, single = (
        PackedLinear.from_module(_layer("linear", torch.bfloat16)),
        PackedLinear.from_module(_layer("linear", torch.float32)),
    )
    rows = torch.randn(2, 5, WIDTH)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(rounded(rows), single(rows), atol=0.02, rtol=0.02)
        assert rounded(rows).dtype == single(rows).dtype == torch.bfloat16


def test_it_has_a_gradient_and_lays_out_nothing_for_it() -> None:
    layer = _layer("linear", torch.float32)
    packed = PackedLinear.from_module(layer)
    rows = torch.randn(2, 5, WIDTH, requires_grad=True)
    for plain, mine in zip(
        torch.autograd.grad(layer(rows).square().sum(), (rows, layer.weight)),
        torch.autograd.grad(packed(rows).square().sum(), (rows, packed.weight)),
        strict=True,
    ):
        assert torch.equal(plain, mine)
    assert packed._packed is None


def test_parameters_keep_their_names() -> None:
    layer = _layer("linear", torch.float32)
    assert list(PackedLinear.from_module(layer).state_dict()) == list(layer.state_dict())
