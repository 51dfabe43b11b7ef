"""The fused layer against float64, and where it must not be used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spd.fast import onednn_linear as module
from spd.fast.onednn_linear import linear_gelu, tall_linear

GENERATOR = torch.Generator().manual_seed(0)
# More rows than outputs: fused in float32 too.
ROWS = torch.randn(2, 37, 24, generator=GENERATOR)
WEIGHT, BIAS = torch.randn(56, 24, generator=GENERATOR) / 5, torch.randn(56, generator=GENERATOR)


def _exact(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU by its definition, x times the standard normal's distribution function."""
    wide = torch.einsum("bnc,wc->bnw", rows.double(), weight.double()) + bias.double()
    return wide * (1 + torch.erf(wide / 2**0.5)) / 2


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 0.02)]
)
def test_it_is_gelu_of_a_linear_layer(
    monkeypatch: pytest.MonkeyPatch, fused: bool, dtype: torch.dtype, tolerance: float
) -> None:
    if not fused:
        monkeypatch.setattr(module, "has_pointwise_linear", lambda *_: False)
    arguments = [tensor.to(dtype) for tensor in (ROWS, WEIGHT, BIAS)]
    with torch.inference_mode():
        found = linear_gelu(*arguments)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), _exact(*arguments), atol=tolerance, rtol=tolerance)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_itis_fused_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.dtype] = []
    assert module.has_pointwise_linear("cpu", torch.float32)
    monkeypatch.setattr(module, "has_pointwise_linear", lambda _, dtype: asked.append(dtype))
    with torch.inference_mode():
        linear_gelu(ROWS, WEIGHT, BIAS)
        linear_gelu(ROWS[:, :10], WEIGHT, BIAS)  # Fewer rows than outputs.
        linear_gelu(ROWS[:, :10].bfloat16(), WEIGHT.bfloat16(), BIAS.bfloat16())
    linear_gelu(ROWS, WEIGHT, BIAS)
    assert asked == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_it_takes_any_layout(layout: str) -> None:
    rows = ROWS if layout == "rows" else ROWS.transpose(1, 2).contiguous().transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            linear_gelu(rows, WEIGHT, BIAS).double(), _exact(ROWS, WEIGHT, BIAS), atol=2e-6, rtol=2e-6
        )


def test_autocast_decides_the_precision() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = linear_gelu(ROWS, WEIGHT, BIAS)
        before = linear_gelu(ROWS, WEIGHT.bfloat16(), BIAS.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, before)


def test_gradients_are_those_of_the_formula() -> None:
    ours, exact = ([tensor.double().requires_grad_() for tensor in (ROWS, WEIGHT, BIAS)] for _ in range(2))
    linear_gelu(*ours).square().sum().backward()
    _exact(*exact).square().sum().backward()
    for mine, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-10, rtol=1e-10)


def test_it_is_exported_as_plain_operators() -> None:
    class Layer(torch.nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return linear_gelu(rows, WEIGHT, BIAS)

    with torch.no_grad():
        targets = [str(node.target) for node in torch.export.export(Layer(), (ROWS,)).graph.nodes]
    assert any("gelu" in target for target in targets)
    assert not any("mkldnn" in target for target in targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:, :10]])
def test_without_gelu_it_is_the_linear_layer(rows: torch.Tensor, dtype: torch.dtype):
    exact = rows.to(dtype).double() @ WEIGHT.to(dtype).double().T + BIAS.to(dtype).double()
    with torch.inference_mode():
        found = tall_linear(rows.to(dtype), WEIGHT.to(dtype), BIAS.to(dtype))
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


def test_without_gelu_it_has_a_gradient():
    weight = WEIGHT.clone().requires_grad_()
    tall_linear(ROWS, weight, BIAS).sum().backward()
    torch.testing.assert_close(weight.grad, ROWS.flatten(0, -2).sum(0).expand_as(weight))
