"""The spatial canvas: a map at L3's resolution that the queries read, write and smooth in every layer (plan 6.5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spd.config import CanvasSource, CanvasWrite
from spd.coordinates import read_bilinear
from spd.model.attention import RESIDUAL_GAIN, initialise_linear


def write_to_cells(
    canvas: Float[Tensor, "B D H W"],
    cell_index: Int[Tensor, "B K"],
    written: Float[Tensor, "B K D"],
    query_mask: Bool[Tensor, "B K"] | None,
    reduction: CanvasWrite,
) -> Float[Tensor, "B D H W"]:
    """The canvas plus, in each cell, the mean or the sum of what was written to it.

    The mean is sum / max(count, 1): a cell that nobody writes to keeps its value, and what a cell receives does not
    grow with the number of queries. Sums and counts are in the canvas' precision, float32 at least.

    Args:
        canvas: the map.
        cell_index: row-major index of the cell that each query writes to.
        written: what it writes.
        query_mask: False for queries that do not write; None means all do.
        reduction: ``mean`` or ``sum``.
    """
    batch, width = canvas.shape[:2]
    num_cells = canvas.shape[2] * canvas.shape[3]
    written = written.to(canvas.dtype)
    if query_mask is not None:
        written = written.masked_fill(~query_mask.unsqueeze(-1), 0.0)
    index = cell_index.unsqueeze(-1).expand(-1, -1, width)
    total = canvas.new_zeros(batch, num_cells, width).scatter_add(1, index, written)
    if reduction == "mean":
        ones = torch.ones_like(written[..., 0]) if query_mask is None else query_mask.to(canvas.dtype)
        count = canvas.new_zeros(batch, num_cells).scatter_add(1, cell_index, ones)
        total = total / count.clamp(min=1).unsqueeze(-1)
    return canvas + total.transpose(1, 2).unflatten(2, canvas.shape[2:])


class CanvasSmoother(nn.Module):
    """F + DW3×3(GELU(DW3×3(F))): what was written spreads to the neighbours."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(embed_dim, embed_dim, 3, padding=1, groups=embed_dim)
        self.second = nn.Conv2d(embed_dim, embed_dim, 3, padding=1, groups=embed_dim)
        self.activation = nn.GELU()
        self._initialise()

    def _initialise(self) -> None:
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        # The residual branch starts at zero, so smoothing starts as the identity.
        nn.init.zeros_(self.second.weight)
        for convolution in (self.first, self.second):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, canvas: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Same shape out as in, in the canvas' precision."""
        return canvas + self.second(self.activation(self.first(canvas))).to(canvas.dtype)


class SpatialCanvas(nn.Module):
    """What all layers share: the projection of what is written, the smoothing, and the last read."""

    def __init__(self, embed_dim: int, reduction: CanvasWrite) -> None:
        super().__init__()
        self.reduction: CanvasWrite = reduction
        self.write_projection = nn.Linear(embed_dim, embed_dim, bias=False)
        self.smooth = CanvasSmoother(embed_dim)
        self.final_projection = nn.Linear(embed_dim, embed_dim, bias=False)
        initialise_linear(self.write_projection, self.final_projection, gain=RESIDUAL_GAIN)

    def write(
        self,
        canvas: Float[Tensor, "B D H W"],
        cell_index: Int[Tensor, "B K"],
        hidden: Float[Tensor, "B K D"],
        query_mask: Bool[Tensor, "B K"] | None,
    ) -> Float[Tensor, "B D H W"]:
        """F⁽ⁿ⁻¹⁾ to F⁽ⁿ⁾: write the queries' states, then smooth."""
        written = self.write_projection(hidden)
        return self.smooth(write_to_cells(canvas, cell_index, written, query_mask, self.reduction))

    def read_final(
        self,
        canvas: Float[Tensor, "B D H W"],
        reference_points: Float[Tensor, "B K 2"],
        hidden: Float[Tensor, "B K D"],
    ) -> Float[Tensor, "B K D"]:
        """h + W_final · F⁽⁷⁾(q), what the depth head sees (plan 6.5.3)."""
        return hidden + self.final_projection(read_bilinear(canvas, reference_points).to(hidden.dtype))


class CanvasAccess(nn.Module):
    """What each layer has of its own: the gate, and the projection of what is read.

    h ← h + sigmoid(w · LN(h)) · W_read · F(q); then ``source`` says whether h or LN(h) is what gets written.
    """

    def __init__(self, embed_dim: int, source: CanvasSource) -> None:
        super().__init__()
        self.source: CanvasSource = source
        self.norm = nn.LayerNorm(embed_dim)
        self.gate = nn.Linear(embed_dim, 1)
        self.read_projection = nn.Linear(embed_dim, embed_dim, bias=False)
        # Zero gate weights: every query starts half open, whatever its state.
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        initialise_linear(self.read_projection, gain=RESIDUAL_GAIN)

    def read(
        self,
        hidden: Float[Tensor, "B K D"],
        canvas: Float[Tensor, "B D H W"],
        reference_points: Float[Tensor, "B K 2"],
    ) -> Float[Tensor, "B K D"]:
        """Queries with their gated read of the canvas added; ``reference_points`` are in the canvas' cells."""
        gate = self.gate(self.norm(hidden)).sigmoid()
        read = read_bilinear(canvas, reference_points).to(hidden.dtype)
        return hidden + gate * self.read_projection(read)

    def to_write(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        """What of the queries' states goes to the canvas."""
        return self.norm(hidden) if self.source == "normed" else hidden
