"""A query's first state, from the four levels at its pixel and where that pixel is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spd.coordinates import BilinearReads, read_cells
from spd.model.attention import initialise_linear
from spd.weighted_rows import WeightedRows


class FourierCode(nn.Module):
    """sin and cos of 2π·2^l·u/W and 2π·2^l·v/H for ``bands`` octaves l from ``lowest_octave`` on.

    Ordered sin u, cos u, sin v, cos v, the octaves innermost: 4·bands numbers, 32 in the plan. Computed in float32
    at least: the highest octave's phase reaches 2π·128.
    """

    def __init__(self, bands: int, lowest_octave: int) -> None:
        super().__init__()
        self.bands = bands
        self.lowest_octave = lowest_octave

    def forward(self, query_points: Float[Tensor, "B K 2"], image_size: tuple[int, int]) -> Float[Tensor, "B K F"]:
        """xy pixel indices of unpadded images of ``image_size`` (height, width) to their codes."""
        height, width = image_size
        position = torch.stack((query_points[..., 0] / width, query_points[..., 1] / height), dim=-1)
        # Made in the precision of the points, which may be float64, and on their device, which may not know float64.
        octaves = torch.arange(self.bands, dtype=query_points.dtype, device=query_points.device) + self.lowest_octave
        phase = position.unsqueeze(-1) * (2 * math.pi * octaves.exp2())
        return torch.stack((phase.sin(), phase.cos()), dim=-2).flatten(2)


class QuerySeed(nn.Module):
    """h⁰ = LN(W [L1(q); L2(q); L3(q); L4(q); code(q)]) and the position that query attention adds."""

    def __init__(
        self, neck_channels: Sequence[int], embed_dim: int, fourier_bands: int, fourier_lowest_octave: int
    ) -> None:
        super().__init__()
        self.sum_rows = WeightedRows()
        self.code = FourierCode(fourier_bands, fourier_lowest_octave)
        code_size = 4 * fourier_bands
        self.project = nn.Linear(sum(neck_channels) + code_size, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.position = nn.Linear(code_size, embed_dim)
        initialise_linear(self.project, self.position)

    def forward(
        self,
        levels: Sequence[Tensor],
        reads: Sequence[BilinearReads],
        query_points: Float[Tensor, "B K 2"],
        image_size: tuple[int, int],
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K D"]]:
        """Seeds and positions, both (B, K, D).

        Args:
            levels: L1...L4, (B, C_l, H_l, W_l) each.
            reads: where the queries read each level.
            query_points: the queries in pixels.
            image_size: (height, width) before padding.
        """
        code = self.code(query_points, image_size).to(levels[0].dtype)
        centre = [read_cells(level, at_query, self.sum_rows) for level, at_query in zip(levels, reads, strict=True)]
        return self.norm(self.project(torch.cat((*centre, code), dim=-1))), self.position(code)
