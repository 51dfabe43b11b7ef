"""Where predictions start, the head's formula, and the dense heads."""

from __future__ import annotations

import math

import pytest
import torch

from spd.model.depth_head import DenseAuxiliaryHeads, DepthHead
from spd.model.spd import SPD


def test_head_starts_at_two_and_a_half_metres():
    torch.manual_seed(0)
    head = DepthHead(192, ratio=2)
    assert head.log_scale.item() == 0.0
    assert head.output.bias.item() == pytest.approx(math.log(2.5))
    assert head.hidden.weight.shape == (384, 192)
    assert sum(parameter.numel() for parameter in head.parameters()) == 74_498
    depth = head(torch.randn(1, 2000, 192)).exp()
    assert depth.median().item() == pytest.approx(2.5, rel=0.05)
    assert 1.0 < depth.min() < depth.max() < 6.0


def test_a_fresh_model_answers_about_two_and_a_half_metres(atto: SPD):
    with torch.no_grad():
        depth = atto(torch.rand(1, 3, 64, 96), torch.rand(1, 300, 2) * torch.tensor([95.0, 63.0]))
    assert depth.median().item() == pytest.approx(2.5, rel=0.2)
    assert 1.0 < depth.min() < depth.max() < 6.0


def test_head_equals_its_formula():
    torch.manual_seed(0)
    head = DepthHead(6, ratio=2).double()
    with torch.no_grad():
        head.log_scale.fill_(0.4)
        head.output.weight.normal_()
        head.hidden.bias.normal_()
    hidden = torch.randn(2, 3, 6, dtype=torch.float64)
    wide = hidden @ head.hidden.weight.T + head.hidden.bias
    raw = (wide * 0.5 * (1 + torch.erf(wide / 2**0.5))) @ head.output.weight[0] + head.output.bias
    torch.testing.assert_close(head(hidden), raw * math.exp(0.4))


def test_log_depth_is_float32_for_bfloat16_features():
    assert DepthHead(6, ratio=2).bfloat16()(torch.randn(1, 3, 6).bfloat16()).dtype == torch.float32


def test_dense_heads_answer_in_every_cell_of_l2_and_l3():
    torch.manual_seed(0)
    heads = DenseAuxiliaryHeads(128, 192)
    assert sum(parameter.numel() for parameter in heads.parameters()) == 129 + 193
    shapes = ((64, 16, 24), (128, 8, 12), (192, 4, 6), (384, 2, 3))
    level1, level2, level3, level4 = (torch.randn(2, *shape) for shape in shapes)
    log_depth2, log_depth3 = heads((level1, level2, level3, level4))
    assert log_depth2.shape == (2, 8, 12)
    assert log_depth3.shape == (2, 4, 6)
    assert log_depth2.exp().median().item() == pytest.approx(2.5, rel=0.1)
    expected = level2[1, :, 5, 7] @ heads.l2.weight[0, :, 0, 0] + heads.l2.bias[0]
    torch.testing.assert_close(log_depth2[1, 5, 7], expected)
    expected = level3[0, :, 2, 4] @ heads.l3.weight[0, :, 0, 0] + heads.l3.bias[0]
    torch.testing.assert_close(log_depth3[0, 2, 4], expected)


def test_dense_heads_are_no_part_of_the_model(atto: SPD):
    assert not any(isinstance(module, DenseAuxiliaryHeads) for module in atto.modules())
