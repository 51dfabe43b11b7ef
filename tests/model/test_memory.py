"""The memory against hand-written sums."""

from __future__ import annotations

import torch

from spd.model.memory import ImageMemory, MemoryProjections

CHANNELS = (4, 6, 12, 10)
WIDTH, HEADS = 12, 3


def _memory() -> tuple[MemoryProjections, ImageMemory]:
    """Of two images of 60×90, padded to 64×96."""
    torch.manual_seed(0)
    projections = MemoryProjections(CHANNELS, WIDTH, HEADS, num_l3_layers=2, num_l4_layers=1).double()
    sizes = ((16, 24), (8, 12), (4, 6), (2, 3))
    level1, level2, level3, level4 = (
        torch.randn(2, channels, *size, dtype=torch.float64) for channels, size in zip(CHANNELS, sizes, strict=True)
    )
    return projections, projections((level1, level2, level3, level4), (60, 90))


def test_value_maps_are_projections_and_the_third_is_l3_itself():
    projections, memory = _memory()
    assert memory.values.sizes == ((16, 24), (8, 12), (4, 6), (2, 3))
    assert memory.values.rows.shape == (2, 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3, WIDTH)
    maps = memory.values.maps()
    for level in (0, 1, 3):
        convolution = projections.value_maps[level]
        expected = torch.einsum("bchw,dc->bdhw", memory.levels[level], convolution.weight[:, :, 0, 0])
        torch.testing.assert_close(maps[level], expected + convolution.bias[:, None, None])
    assert torch.equal(maps[2], memory.levels[2])


def test_keys_and_values_are_projections_of_each_cell_with_heads_apart():
    projections, memory = _memory()
    assert (len(memory.l3_keys), len(memory.l3_values), len(memory.l4_keys), len(memory.l4_values)) == (2, 2, 1, 1)
    for level, (source, keys, values) in {
        2: (projections.l3, memory.l3_keys, memory.l3_values),
        3: (projections.l4, memory.l4_keys, memory.l4_values),
    }.items():
        features = memory.levels[level]
        for layer, tokens in [*zip(source.keys, keys, strict=True), *zip(source.values, values, strict=True)]:
            weight = layer.weight.view(HEADS, WIDTH // HEADS, CHANNELS[level])
            expected = torch.einsum("bchw,mdc->bmhwd", features, weight).flatten(2, 3)
            assert tokens.shape == (2, HEADS, features.shape[2] * features.shape[3], WIDTH // HEADS)
            torch.testing.assert_close(tokens, expected)


def test_memory_keeps_the_size_before_padding():
    assert _memory()[1].image_size == (60, 90)


def test_layers_have_projections_of_their_own():
    _, memory = _memory()
    assert not torch.allclose(memory.l3_keys[0], memory.l3_keys[1])
    assert not torch.allclose(memory.l3_keys[0], memory.l3_values[0])
