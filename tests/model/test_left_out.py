"""Parts that ``ModelConfig.without`` leaves out: they are gone, and nothing else is."""

from __future__ import annotations

import math

import pytest
import torch

from spd.config import ModelConfig
from spd.model.deformable_attention import ring_offsets
from spd.model.spd import SPD
from spd.model.value_table import ValueTable
from spd.variant import Variant

SIZE = (64, 96)


def build(*parts: str) -> SPD:
    torch.manual_seed(0)
    return SPD(ModelConfig.atto(train_size=SIZE, variant=Variant(without=parts), interaction="joint")).eval()


def spread(model: SPD) -> SPD:
    """Weights that start at zero or small get a size, so that what is left out would show."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def answers(model: SPD, points: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(2)
    with torch.inference_mode():
        return model(torch.rand(1, 3, *SIZE), points)


POINTS = torch.tensor([[[3.0, 5.0], [90.0, 60.0], [40.0, 20.0], [41.0, 20.0]]])


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("learned_offsets", ("sampling_offsets",)),
        ("query_attention", ("query_attention", "query_norm")),
        ("canvas", ("canvas",)),
        ("depth_scale", ("log_scale",)),
    ],
)
def test_only_the_weights_of_the_part_are_gone(part: str, names: tuple[str, ...]) -> None:
    whole, rest = build().state_dict(), build(part).state_dict()
    gone = whole.keys() - rest.keys()
    assert gone
    assert all(any(name in key for name in names) for key in gone)
    assert not [key for key in rest if any(name in key for name in names)]
    assert rest.keys() <= whole.keys()


def test_without_canvas_and_attention_points_do_not_see_each_other() -> None:
    model = spread(build("canvas", "query_attention"))
    together = answers(model, POINTS)
    alone = torch.cat([answers(model, POINTS[:, index : index + 1]) for index in range(4)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("part", ["canvas", "query_attention"])
def test_either_of_them_lets_points_see_each_other(part: str) -> None:
    model = spread(build(part))
    together = answers(model, POINTS)[:, :1]
    assert not torch.allclose(together, answers(model, POINTS[:, :1]), rtol=1e-4)


def test_fixed_offsets_are_a_ring_by_hand() -> None:
    ring = ring_offsets(num_heads=8, num_levels=2, num_points=3)
    assert ring.shape == (8, 2, 3, 2)
    # Head 1 of 8 looks to the lower right; its third point is three cells away on both axes.
    torch.testing.assert_close(ring[1, 0, 2], torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(ring[2, 1, 0], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
    assert ring[3, 0, 1].abs().max() == pytest.approx(2)
    assert math.isclose(ring[4, 0, 1, 0].item(), -2, abs_tol=1e-6)


def test_fixed_offsets_do_not_depend_on_the_query() -> None:
    attention = spread(build("learned_offsets")).decoder.deformable_layers[0].cross_attention
    offsets = attention.offsets_in_cells(torch.randn(2, 5, 96), ValueTable.of([torch.zeros(1, 96, 4, 6)] * 4))
    torch.testing.assert_close(offsets[1, 4], offsets[0, 0])
    torch.testing.assert_close(offsets[0, 0], ring_offsets(3, 4, 4))


def test_without_the_scale_log_depth_is_what_the_mlp_gives() -> None:
    scaled, plain = spread(build()), spread(build("depth_scale"))
    shared = {name: weight for name, weight in scaled.state_dict().items() if "log_scale" not in name}
    plain.load_state_dict(shared)
    factor = scaled.depth_head.log_scale.exp()
    assert factor != 1
    torch.testing.assert_close(answers(plain, POINTS).log() * factor, answers(scaled, POINTS).log())
