"""ConvNeXt V2's feed-forward against timm's, in both of its layouts, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers.mlp import GlobalResponseNormMlp
from torch import Tensor, nn

from spd.fast.response_norm import FastResponseNormMlp, ResponseNorm, sum_of_squares

CHANNELS, WIDTH = 5, 11
FEW, MANY = (1, 3), (7, 4)
"""Maps with fewer cells than channels, whose cells are scaled, and with more, where the weights are."""


def _timm(use_conv: bool) -> GlobalResponseNormMlp:
    torch.manual_seed(3)
    mlp = GlobalResponseNormMlp(CHANNELS, WIDTH, use_conv=use_conv).double()
    for parameter in (mlp.grn.weight, mlp.grn.bias):  # timm starts them at zero, where nothing is normalised.
        nn.init.normal_(parameter)
    return mlp


def _map(use_conv: bool, size: tuple[int, int], batch: int = 3) -> Tensor:
    cells = torch.randn(batch, *size, CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return cells.permute(0, 3, 1, 2) if use_conv else cells


@pytest.mark.parametrize("size", [FEW, MANY])
@pytest.mark.parametrize("use_conv", [True, False])
def test_it_is_timm_s_and_so_are_its_gradients(use_conv: bool, size: tuple[int, int]):
    theirs = _timm(use_conv)
    ours = FastResponseNormMlp.from_module(copy.deepcopy(theirs))
    features = _map(use_conv, size).requires_grad_()
    towards = torch.randn(features.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    torch.testing.assert_close(ours(features), theirs(features), atol=1e-12, rtol=1e-12)
    expected = torch.autograd.grad(theirs(features), (features, *theirs.parameters()), towards)
    found = torch.autograd.grad(ours(features), (features, *ours.parameters()), towards)
    for name, mine, other in zip(
        ("features", *dict(theirs.named_parameters())), found, expected, strict=True
    ):  # The same parameters under the same names, in the same order.
        torch.testing.assert_close(mine, other, atol=1e-11, rtol=1e-11, msg=name)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("use_conv", [True, False])
def test_answering_changes_neither_the_result_nor_the_input(use_conv: bool):
    theirs = _timm(use_conv)
    ours = FastResponseNormMlp.from_module(copy.deepcopy(theirs))
    features = _map(use_conv, MANY)
    before = features.clone()
    with torch.inference_mode():
        torch.testing.assert_close(ours(features), theirs(features), atol=1e-12, rtol=1e-12)
    assert torch.equal(features, before)


def test_gradients_are_those_of_differences():
    mlp = FastResponseNormMlp.from_module(_timm(use_conv=False))
    features = _map(False, MANY, batch=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: mlp(x), (features, *mlp.parameters()), atol=1e-7)


def test_images_do_not_see_each_other():
    mlp = FastResponseNormMlp.from_module(_timm(use_conv=False))
    features = _map(False, MANY)
    torch.testing.assert_close(mlp(features)[1:2], mlp(features[1:2]), atol=1e-12, rtol=1e-12)


def test_bfloat16_training_is_near_float64():
    mlp = FastResponseNormMlp.from_module(_timm(use_conv=True))
    features = _map(True, MANY)
    expected = torch.autograd.grad(mlp(features).square().sum(), list(mlp.parameters()))
    single = copy.deepcopy(mlp).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = single(features.float()).float().square().sum()
    found = torch.autograd.grad(loss, list(single.parameters()))
    for mine, exact in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine.double() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("size", [FEW, MANY])
def test_a_map_of_zeros_has_finite_gradients(size: tuple[int, int]):
    mlp = FastResponseNormMlp.from_module(_timm(use_conv=True))
    with torch.no_grad():
        mlp.fc1.bias.zero_()  # GELU(0) is 0: all that is normalised is zero.
    features = torch.zeros(1, CHANNELS, *size, dtype=torch.float64, requires_grad=True)
    gradients = torch.autograd.grad(mlp(features).sum(), (features, *mlp.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_plain_form_is_what_a_compiler_sees():
    mlp = FastResponseNormMlp.from_module(_timm(use_conv=True))
    features = _map(True, MANY)
    exported = torch.export.export(mlp, (features,))
    targets = [str(node.target) for node in exported.graph.nodes]
    assert any("gelu" in target for target in targets)
    assert not any("gelu_" in target.split(".")[1] for target in targets if target.startswith("aten."))
    torch.testing.assert_close(exported.module()(features), mlp(features), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", [1, 13, 700])
def test_squares_are_summed_whatever_their_mean(number: int, dtype: torch.dtype):
    rows = torch.randn(2, number, 5) * torch.tensor([1.0, 1e-3, 3.0, 0.0, 2.0]) + torch.tensor([0.0, 1.0, -9, 0, 40])
    rows = rows.to(dtype)
    before = rows.clone()
    for layout in (rows, rows.transpose(1, 2).contiguous().transpose(1, 2)):
        found = sum_of_squares(layout)
        assert found.dtype == torch.promote_types(dtype, torch.float32)
        torch.testing.assert_close(found.double(), rows.double().square().sum(1), atol=1e-9, rtol=2e-6)
    assert torch.equal(rows, before)


def test_response_norm_is_timm_s():
    source = _timm(use_conv=False).grn
    rows = torch.randn(2, 6, WIDTH, dtype=torch.float64)
    expected = source(rows.view(2, 2, 3, WIDTH)).view_as(rows)
    torch.testing.assert_close(ResponseNorm.from_module(source)(rows), expected, atol=1e-12, rtol=1e-12)
