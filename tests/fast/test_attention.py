"""Attention for training in bfloat16, where it is written out, against float64."""

from __future__ import annotations

import torch

from spd.fast.attention import attend


def test_training_in_bfloat16_is_near_float64_in_answers_and_gradients():
    """There attention is written out, since the fused kernel's way back is slow on a CPU."""
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(2, 3, n, 8, generator=generator, dtype=torch.float64).requires_grad_() for n in (5, 9, 9)]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    towards = torch.randn(2, 5, 24, generator=generator, dtype=torch.float64)
    scores = exact[0] @ exact[1].transpose(2, 3) / 8**0.5
    expected = (scores.softmax(-1) @ exact[2]).transpose(1, 2).flatten(2)
    found = attend(*rounded)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).abs().max() < 0.03
    of_expected = torch.autograd.grad(expected, exact, towards)
    of_found = torch.autograd.grad(found, rounded, towards.bfloat16())
    for mine, theirs in zip(of_found, of_expected, strict=True):
        assert (mine.double() - theirs).norm() < 0.03 * theirs.norm()
    with torch.no_grad():
        torch.testing.assert_close(attend(*rounded), found.detach(), atol=0.02, rtol=0.02)
