from __future__ import annotations

import torch

from spd.exporting import is_exporting


class Told(torch.nn.Module):
    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers + 1 if is_exporting() else numbers - 1


def test_an_export_is_told_from_a_compiler_and_from_neither() -> None:
    numbers = torch.zeros(3)
    assert Told()(numbers).tolist() == [-1.0] * 3
    assert torch.compile(Told(), backend="eager")(numbers).tolist() == [-1.0] * 3
    for strict in (False, True):
        exported = torch.export.export(Told(), (numbers,), strict=strict)
        assert exported.module()(numbers).tolist() == [1.0] * 3
