"""Deformable attention against the readable reference, against transformers, and against the plan's own arithmetic."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.config import ModelConfig
from spd.model.decoder import Decoder
from spd.model.deformable_attention import DeformableAttention, deformable_read, deformable_read_reference
from spd.model.value_table import ValueTable
from spd.variant import OffsetUnit

HEADS, LEVELS, POINTS = 3, 4, 2


def _maps(sizes: list[tuple[int, int]], batch: int, width: int, generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randn(batch, width, *size, generator=generator, dtype=torch.float64) for size in sizes]


def _weights(batch: int, queries: int, heads: int, levels: int, points: int, generator: torch.Generator):
    logits = torch.randn(batch, queries, heads, levels * points, generator=generator, dtype=torch.float64)
    return logits.softmax(-1).unflatten(-1, (levels, points))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    batch=st.integers(1, 2),
    queries=st.integers(1, 5),
    heads=st.integers(1, 3),
    points=st.integers(1, 3),
    spread=st.sampled_from([0.5, 3.0, 1000.0]),
    seed=st.integers(0, 1000),
)
def test_fast_equals_reference(sizes, batch, queries, heads, points, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = _maps(sizes, batch, heads * 2, generator)
    shape = (batch, queries, heads, len(sizes), points, 2)
    cells = 4 + spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = _weights(batch, queries, heads, len(sizes), points, generator)
    torch.testing.assert_close(
        deformable_read(ValueTable.of(maps), cells, weights),
        deformable_read_reference(maps, cells, weights),
        atol=1e-10,
        rtol=0,
    )


def test_reference_equals_a_bilinear_sum_by_hand():
    """Both operators share one bilinear read; here it is written out."""
    maps = [torch.arange(12.0, dtype=torch.float64).view(1, 1, 3, 4) ** 2]
    cells = torch.tensor([[[1.25, 0.5], [3.0, 2.0], [-7.0, 1.0], [9.0, 9.0]]], dtype=torch.float64)
    weights = torch.ones(1, 4, 1, 1, 1, dtype=torch.float64)
    mixed = 0.5 * (0.75 * 1 + 0.25 * 4) + 0.5 * (0.75 * 25 + 0.25 * 36)
    expected = torch.tensor([[[mixed], [121.0], [16.0], [121.0]]], dtype=torch.float64)
    cells = cells[:, :, None, None, None, :]
    torch.testing.assert_close(deformable_read_reference(maps, cells, weights), expected)
    torch.testing.assert_close(deformable_read(ValueTable.of(maps), cells, weights), expected)


def test_gradients_are_right():
    generator = torch.Generator().manual_seed(0)
    maps = _maps([(4, 6), (2, 3)], 2, 4, generator)
    # Away from the cells' centres and the border, where a bilinear read has a kink.
    cells = torch.rand(2, 3, 2, 2, 2, 2, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    cells[..., 0, :, :] += torch.randint(0, 3, cells[..., 0, :, :].shape, generator=generator)
    weights = _weights(2, 3, 2, 2, 2, generator)
    inputs = [tensor.requires_grad_() for tensor in (*maps, cells, weights)]
    assert torch.autograd.gradcheck(lambda v1, v2, c, w: deformable_read(ValueTable.of([v1, v2]), c, w), inputs)


def test_gradients_equal_those_of_the_reference_outside_the_map():
    generator = torch.Generator().manual_seed(0)
    maps = _maps([(4, 6), (2, 3)], 2, 4, generator)
    cells = torch.randn(2, 5, 2, 2, 2, 2, generator=generator, dtype=torch.float64) * 6
    inputs = [tensor.requires_grad_() for tensor in (*maps, cells, _weights(2, 5, 2, 2, 2, generator))]
    upstream = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    fast, slow = (
        torch.autograd.grad((read(maps, inputs[2], inputs[3]) * upstream).sum(), inputs)
        for read, maps in ((deformable_read, ValueTable.of(inputs[:2])), (deformable_read_reference, inputs[:2]))
    )
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_equals_the_operator_of_transformers_inside_the_map():
    """Deformable DETR pads with zeros and counts in [0, 1] of the map; inside it the two must agree."""
    pytest.importorskip("transformers")
    from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

    generator = torch.Generator().manual_seed(0)
    sizes = [(12, 17), (6, 9), (3, 5), (2, 3)]
    maps = _maps(sizes, 2, HEADS * 4, generator)
    span = torch.tensor([(width - 1, height - 1) for height, width in sizes], dtype=torch.float64)[:, None]
    cells = torch.rand(2, 11, HEADS, LEVELS, POINTS, 2, generator=generator, dtype=torch.float64) * span
    weights = _weights(2, 11, HEADS, LEVELS, POINTS, generator)
    side = torch.tensor([(width, height) for height, width in sizes], dtype=torch.float64)[:, None]

    theirs = MultiScaleDeformableAttention()(
        torch.cat([value.flatten(2).transpose(1, 2) for value in maps], dim=1).unflatten(-1, (HEADS, 4)),
        torch.tensor(sizes),
        sizes,
        torch.tensor([0, 204, 258, 273]),
        (cells + 0.5) / side,
        weights,
        64,
    )

    torch.testing.assert_close(deformable_read(ValueTable.of(maps), cells, weights), theirs, atol=1e-10, rtol=0)


def _module(unit: OffsetUnit, width: int = 12) -> DeformableAttention:
    torch.manual_seed(0)
    return DeformableAttention(width, HEADS, LEVELS, POINTS, unit).double()


def _captured_read(module: DeformableAttention, *inputs) -> torch.Tensor:
    """What the module's output projection is given: the heads' sums."""
    seen: list[torch.Tensor] = []
    handle = module.output.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    module(*inputs)
    handle.remove()
    return seen[0]


def test_tiny_samples_96_points_near_the_query_with_equal_weights_at_the_start():
    torch.manual_seed(0)
    layers = Decoder(ModelConfig.tiny()).deformable_layers
    assert len(layers) == 3
    for layer in layers:
        attention = layer.cross_attention
        hidden = F.layer_norm(torch.randn(500, 192), (192,))
        offsets = attention.sampling_offsets(hidden)
        assert offsets.shape == (500, 2 * 96)
        assert offsets.abs().max() < 1.0
        assert offsets.std() < 0.25
        assert attention.attention_weights(hidden).shape == (500, 96)
        assert torch.equal(attention.attention_weights(hidden), torch.zeros(500, 96))


def test_weights_of_a_head_sum_to_one_over_levels_and_points():
    """Maps that are one everywhere read one, whatever is sampled; that holds for every head by itself."""
    module = _module("cell")
    with torch.no_grad():
        module.attention_weights.weight.normal_(std=3)
    maps = [torch.ones(1, 12, *size, dtype=torch.float64) for size in ((8, 12), (4, 6), (2, 3), (1, 2))]
    hidden = torch.randn(1, 5, 12, dtype=torch.float64)
    read = _captured_read(module, hidden, torch.rand(1, 5, 4, 2, dtype=torch.float64), ValueTable.of(maps))
    torch.testing.assert_close(read, torch.ones_like(read))


def test_a_head_reads_its_own_channels():
    module = _module("cell")
    maps = [torch.zeros(1, 12, *size, dtype=torch.float64) for size in ((8, 12), (4, 6), (2, 3), (1, 2))]
    for value in maps:
        value[:, 4:8] = 1.0
    hidden = torch.randn(1, 5, 12, dtype=torch.float64)
    read = _captured_read(module, hidden, torch.rand(1, 5, 4, 2, dtype=torch.float64), ValueTable.of(maps))
    torch.testing.assert_close(read[0, 0], torch.tensor([0.0] * 4 + [1.0] * 4 + [0.0] * 4, dtype=torch.float64))


def test_offsets_in_cells_move_the_read_by_as_many_cells_on_every_level():
    module = _module("cell")
    with torch.no_grad():
        module.sampling_offsets.weight.zero_()
        module.sampling_offsets.bias.copy_(torch.tensor([1.5, -0.5]).repeat(HEADS * LEVELS * POINTS))
    sizes = [(16, 24), (12, 20), (8, 12), (8, 10)]
    reference = torch.tensor([[[[3.0, 4.0]] * 4]], dtype=torch.float64)
    hidden = torch.zeros(1, 1, 12, dtype=torch.float64)
    columns = [torch.arange(w, dtype=torch.float64).expand(1, 12, h, w) for h, w in sizes]
    rows = [torch.arange(h, dtype=torch.float64)[:, None].expand(1, 12, h, w) for h, w in sizes]
    for maps, expected in ((columns, 4.5), (rows, 3.5)):
        read = _captured_read(module, hidden, reference, ValueTable.of(maps))
        torch.testing.assert_close(read, torch.full_like(read, expected))


def test_normalised_offsets_equal_the_plans_arithmetic():
    """Plan 6.2.1, steps 1 to 5, with align_corners=True as it is written there."""
    module = _module("normalized")
    with torch.no_grad():
        module.sampling_offsets.weight.normal_(std=0.1)
        module.attention_weights.weight.normal_()
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    maps = _maps(sizes, 2, 12, torch.Generator().manual_seed(1))
    points = torch.rand(2, 9, 2, dtype=torch.float64) * torch.tensor([96.0, 64.0])
    hidden = torch.randn(2, 9, 12, dtype=torch.float64)

    with torch.no_grad():
        references = torch.stack([points / stride for stride in (4, 8, 16, 32)], dim=2)
        result = module(hidden, references, ValueTable.of(maps))
        deltas = module.sampling_offsets(hidden).view(2, 9, HEADS, LEVELS, POINTS, 2)
        weights = module.attention_weights(hidden).view(2, 9, HEADS, LEVELS * POINTS).softmax(-1)
        weights = weights.view(2, 9, HEADS, LEVELS, POINTS)
        out = torch.zeros(2, 9, 12, dtype=torch.float64)
        for level, (stride, (height, width)) in enumerate(zip((4, 8, 16, 32), sizes, strict=True)):
            reference = torch.stack(
                (2 * points[..., 0] / stride / (width - 1) - 1, 2 * points[..., 1] / stride / (height - 1) - 1), -1
            )
            for head in range(HEADS):
                for point in range(POINTS):
                    grid = (reference + deltas[:, :, head, level, point]).unsqueeze(1)
                    read = F.grid_sample(maps[level], grid, padding_mode="border", align_corners=True)
                    channels = slice(4 * head, 4 * head + 4)
                    out[..., channels] += weights[:, :, head, level, point, None] * read[:, channels, 0].mT
        expected = out @ module.output.weight.T + module.output.bias

    torch.testing.assert_close(result, expected, atol=1e-10, rtol=0)


def test_offsets_become_cells_in_float32():
    """Half of the 320 columns less one, 159.5, is 160 in bfloat16."""
    module = _module("normalized").bfloat16()
    with torch.no_grad():
        module.sampling_offsets.weight.zero_()
        module.sampling_offsets.bias.fill_(1.0)
    wide = [torch.zeros(1, 12, 2, 320, dtype=torch.bfloat16)] * 4
    offsets = module.offsets_in_cells(torch.zeros(1, 1, 12, dtype=torch.bfloat16), ValueTable.of(wide))
    assert offsets.dtype == torch.float32
    assert offsets[0, 0, 0, 0, 0].tolist() == [159.5, 0.5]


@pytest.mark.parametrize("unit", ["cell", "normalized"])
def test_levels_of_a_single_cell_are_read(unit: OffsetUnit):
    """The plan's own formula divides by W - 1 there."""
    module = _module(unit)
    maps = [torch.full((1, 12, 1, 1), 3.0, dtype=torch.float64)] * 4
    read = _captured_read(module, torch.randn(1, 2, 12).double(), torch.zeros(1, 2, 4, 2).double(), ValueTable.of(maps))
    torch.testing.assert_close(read, torch.full((1, 2, 12), 3.0, dtype=torch.float64))


def test_bfloat16_maps_are_read_at_float32_locations():
    """Cell 301.3 of a wide L1 has no bfloat16 of its own: rounded it would read 302."""
    maps = [torch.zeros(1, 1, 1, 400, dtype=torch.bfloat16)]
    maps[0][..., 302] = 1.0
    cells = torch.tensor([301.25, 0.0]).view(1, 1, 1, 1, 1, 2)
    read = deformable_read(ValueTable.of(maps), cells, torch.ones(1, 1, 1, 1, 1))
    assert read.dtype == torch.bfloat16
    assert read.item() == pytest.approx(0.25, abs=1e-3)


def test_a_table_gives_its_maps_back_without_a_copy():
    maps = _maps([(3, 4), (1, 2)], 2, 6, torch.Generator().manual_seed(0))
    table = ValueTable.of(maps)
    for value, back in zip(maps, table.maps(), strict=True):
        assert torch.equal(value, back)
    table.rows.zero_()
    assert all(back.abs().max() == 0 for back in table.maps())


def test_a_location_that_is_no_number_gives_no_number_and_reads_inside_the_table():
    maps = _maps([(3, 4), (1, 2)], 1, 6, torch.Generator().manual_seed(0))
    cells = torch.zeros(1, 2, 3, 2, 1, 2, dtype=torch.float64)
    cells[0, 0, 0, 0, 0, 0] = float("nan")
    read = deformable_read(ValueTable.of(maps), cells, torch.ones(1, 2, 3, 2, 1, dtype=torch.float64))
    assert read[0, 0, :2].isnan().all()
    assert read[0, 0, 2:].isfinite().all()
    assert read[0, 1].isfinite().all()
