"""The neck against its formula."""

from __future__ import annotations

import numpy as np
import torch

from spd.model.neck import LayerNorm2d, ProjectionNeck


def _stages(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """For an image of 64×96."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((5, 16, 24), (6, 8, 12), (7, 4, 6), (9, 2, 3))
    return tuple(torch.randn(2, *size, generator=generator, dtype=dtype) for size in sizes)


def _neck() -> ProjectionNeck:
    torch.manual_seed(0)
    return ProjectionNeck((5, 6, 7, 9), (4, 6, 8, 12), num_heads=3, ffn_ratio=4, dropout=0.1).double().eval()


def test_layer_norm_normalises_every_cell_over_its_channels():
    norm = LayerNorm2d(6).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 6, dtype=torch.float64))
        norm.bias.copy_(torch.linspace(-1, 1, 6, dtype=torch.float64))
    features = _stages()[1]

    result = norm(features).detach().numpy()

    for image, row, column in np.ndindex(2, 8, 12):
        cell = features[image, :, row, column].numpy()
        normal = (cell - cell.mean()) / np.sqrt(cell.var() + norm.eps)
        expected = normal * np.linspace(0.5, 2, 6) + np.linspace(-1, 1, 6)
        np.testing.assert_allclose(result[image, :, row, column], expected, atol=1e-12)


def test_levels_are_projected_and_normalised_and_l4_attends_to_itself():
    neck, stages = _neck(), _stages()
    levels = neck(stages)
    assert [tuple(level.shape) for level in levels] == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 8, 4, 6), (2, 12, 2, 3)]
    projected = []
    for stage, (projection, norm) in zip(stages, neck.projections, strict=True):
        mixed = torch.einsum("bchw,dc->bdhw", stage, projection.weight[:, :, 0, 0])
        projected.append(norm(mixed + projection.bias[:, None, None]))
    for level, expected in zip(levels[:3], projected[:3], strict=True):
        torch.testing.assert_close(level, expected)
    torch.testing.assert_close(levels[3], neck.self_attention(projected[3]))
    assert not torch.allclose(levels[3], projected[3], atol=1e-3)
