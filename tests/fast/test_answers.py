"""A model answers the same with the kernels and without."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from spd import SPD, ModelConfig
from spd.fast import operators, quicken
from spd.fast.operators.brgemm import multiplied_types
from spd.runtime.torch_runtime import TorchModel

pytestmark = pytest.mark.usefixtures("kernels")
PRODUCTS = {"attention", "linear", "fc2", "pack", "fc1"}
KERNELS = {*operators.__all__} - {
    *(
        "FEW_ROWS",
        "LANES",
        "is_available",
        "disabled",
        "is_product_supported",
        "is_supported_type",
        "is_supported",
        "weighted_rows_gradient",
        "inverted_residual",
    )
}
"""All but ``few_rows`` answer for a network as it is; that one for weights that are laid out beforehand."""


def _model(interaction: str) -> SPD:
    torch.manual_seed(0)
    model = SPD(ModelConfig.atto(interaction=interaction)).eval()
    for name, parameter in model.named_parameters():  # Much of it starts at zero, where errors would hide.
        if name.endswith(("bias", "grn.weight", "second.weight")):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _answers(model: SPD, images: torch.Tensor, points: torch.Tensor, context=nullcontext) -> torch.Tensor:
    with torch.inference_mode(), context():
        return model(images, points)


@pytest.mark.parametrize("interaction", ["joint", "anchored"])
def test_a_model_answers_the_same_with_and_without_them(interaction, monkeypatch: pytest.MonkeyPatch):
    # In training nothing is packed beforehand, and validation answers by the kernels too.
    model = quicken(_model(interaction), "train")
    images, points = torch.rand(2, 3, 90, 140), torch.rand(2, 7, 2) * 80
    called = _called_by_name(monkeypatch)
    plain = _answers(model, images, points, operators.disabled)
    assert not called
    found = _answers(model, images, points)
    assert called == KERNELS - {"few_rows"} - (set() if torch.float32 in multiplied_types() else PRODUCTS)
    assert plain.std() > 1e-3
    torch.testing.assert_close(found, plain, rtol=2e-5, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        plain, found = _answers(model, images, points, operators.disabled), _answers(model, images, points)
    torch.testing.assert_close(found, plain, rtol=0.02, atol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("interaction", ["joint", "anchored"])
def test_few_points_answer_as_without_them(interaction, precision, monkeypatch: pytest.MonkeyPatch):
    """Of weights as they lie, where more points take those that are laid out."""
    if getattr(torch, precision) not in multiplied_types():
        pytest.skip(f"the kernels do not multiply {precision} here")
    answering = TorchModel(_model(interaction), precision=precision)
    memory, points = answering.encode(torch.rand(1, 3, 90, 140)), torch.rand(1, 5, 2) * 80
    called = _called_by_name(monkeypatch)
    for number in (1, 4, 5):
        with operators.disabled():
            plain = answering.decode(memory, points[:, :number])
        assert not called
        found = answering.decode(memory, points[:, :number])
        assert ("few_rows" in called) == (number <= operators.FEW_ROWS)
        assert ("linear" in called) == (number > operators.FEW_ROWS)
        called.clear()
        torch.testing.assert_close(found, plain, rtol=2e-5 if precision == "float32" else 0.02, atol=0)


def _called_by_name(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The kernels that will have been called."""
    called: set[str] = set()
    for name in KERNELS:
        kernel = getattr(operators, name)
        monkeypatch.setattr(
            operators, name, lambda *a, _kernel=kernel, _name=name, **k: called.add(_name) or _kernel(*a, **k)
        )
    return called
