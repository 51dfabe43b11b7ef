"""The spatial canvas: a map at L3's resolution that the queries read, write and smooth in every layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spd.coordinates import (
    BilinearReads,
    as_table,
    first_rows,
    nearest_cell,
    read_cells,
    surrounding_cells,
)
from spd.model.attention import RESIDUAL_GAIN, initialise_linear
from spd.variant import Alignment, CanvasSource, CanvasWrite
from spd.weighted_rows import WeightedRows


class CanvasPlaces(NamedTuple):
    """Where queries write and how much of it arrives: computed once per question, the same in every layer."""

    rows: Int[Tensor, "B K C"]
    """The C cells that each query writes to, as rows of the table that holds the cells of all images."""
    shares: Float[Tensor, "B K C"]
    """How much of what a query writes is added to each."""
    query_mask: Bool[Tensor, "B K"] | None
    """False for queries that do not write, whatever they hold; None means all do."""


def canvas_places(
    canvas_points: Float[Tensor, "B K 2"],
    height: int,
    width: int,
    reduction: CanvasWrite,
    alignment: Alignment,
    query_mask: Bool[Tensor, "B K"] | None = None,
) -> CanvasPlaces:
    """The cell that covers each query's pixel; for ``bilinear`` the four around it, by the weights of a bilinear read.

    Args:
        canvas_points: the queries in the canvas' cells.
        height: rows of the canvas.
        width: columns of the canvas.
        reduction: as of :func:`shared_places`.
        alignment: which pixel a cell's index stands for.
        query_mask: False for queries that do not write; None means all do.
    """
    if reduction == "bilinear":
        index, weight = surrounding_cells(canvas_points, height, width)
    else:
        index = nearest_cell(canvas_points, height, width, alignment).unsqueeze(-1)
        weight = canvas_points.new_ones(index.shape)
    return shared_places(index, weight, height * width, reduction, query_mask)


def shared_places(
    cell_index: Int[Tensor, "B K C"],
    weight: Float[Tensor, "B K C"],
    num_cells: int,
    reduction: CanvasWrite,
    query_mask: Bool[Tensor, "B K"] | None = None,
) -> CanvasPlaces:
    """What each cell adds: the mean by weight of what is written to it, or the sum.

    The mean keeps a cell that nobody writes to, does not grow with the number of queries, and favours no cell for where
    it lies among them.

    Args:
        cell_index: row-major index of the cells that each query writes to.
        weight: of the query in each.
        num_cells: of the canvas.
        reduction: ``sum``, or ``mean`` and ``bilinear``, which differ in their places only.
        query_mask: False for queries that do not write; None means all do.
    """
    if query_mask is not None:
        weight = weight * query_mask.unsqueeze(-1)
    rows = cell_index + first_rows(weight, num_cells)[:, None, None]
    if reduction != "sum":
        received = weight.new_zeros(weight.shape[0] * num_cells).index_add(0, rows.flatten(), weight.flatten())[rows]
        weight = weight / torch.where(received > 0, received, 1.0)
    return CanvasPlaces(rows, weight, query_mask)


def write_to_cells(
    canvas: Float[Tensor, "B D H W"], places: CanvasPlaces, written: Float[Tensor, "B K D"]
) -> Float[Tensor, "B D H W"]:
    """The canvas plus, in each cell, its shares of what was written; in the canvas' precision, float32 at least.

    Args:
        canvas: the map; left as it is.
        places: the cells that each query writes to.
        written: what it writes.
    """
    written = unmasked(written, places).to(canvas.dtype)
    shares = written.unsqueeze(2) * places.shares.to(canvas.dtype).unsqueeze(-1)
    # Gathered apart: of sums into the canvas itself, PyTorch 2.14 compiles ones that write over a canvas that is kept.
    received = torch.zeros_like(as_table(canvas)).index_add_(0, places.rows.flatten(), shares.flatten(0, 2))
    return canvas + received.view(canvas.shape[0], *canvas.shape[2:], -1).permute(0, 3, 1, 2)


def unmasked(written: Float[Tensor, "B K D"], places: CanvasPlaces) -> Float[Tensor, "B K D"]:
    """Zeros where nothing is written, whatever the query holds: 0 · inf is no number."""
    if places.query_mask is None:
        return written
    return written.masked_fill(~places.query_mask.unsqueeze(-1), 0.0)


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

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.write_projection = nn.Linear(embed_dim, embed_dim, bias=False)
        self.smooth = CanvasSmoother(embed_dim)
        self.final_projection = nn.Linear(embed_dim, embed_dim, bias=False)
        self.sum_rows = WeightedRows()
        initialise_linear(self.write_projection, self.final_projection, gain=RESIDUAL_GAIN)

    def write(
        self,
        canvas: Float[Tensor, "B D H W"],
        places: CanvasPlaces,
        hidden: Float[Tensor, "B K D"],
    ) -> Float[Tensor, "B D H W"]:
        """F⁽ⁿ⁻¹⁾ to F⁽ⁿ⁾: write the queries' states, then smooth."""
        return self.smooth(write_to_cells(canvas, places, self.write_projection(hidden)))

    def read_final(
        self,
        canvas: Float[Tensor, "B D H W"],
        reads: BilinearReads,
        hidden: Float[Tensor, "B K D"],
    ) -> Float[Tensor, "B K D"]:
        """h + W_final · F⁽⁷⁾(q), what the depth head sees."""
        return hidden + self.final_projection(read_cells(canvas, reads, self.sum_rows).to(hidden.dtype))


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
        self.sum_rows = WeightedRows()
        # Zero gate weights: every query starts half open, whatever its state.
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        initialise_linear(self.read_projection, gain=RESIDUAL_GAIN)

    def read(
        self,
        hidden: Float[Tensor, "B K D"],
        canvas: Float[Tensor, "B D H W"],
        reads: BilinearReads,
    ) -> Float[Tensor, "B K D"]:
        """Queries with their gated read of the canvas added."""
        gate = self.gate_logit(hidden).sigmoid()
        read = read_cells(canvas, reads, self.sum_rows).to(hidden.dtype)
        return hidden + gate.to(hidden.dtype) * self.read_projection(read)

    def gate_logit(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B K 1"]:
        """How far each query's gate is open, before the sigmoid."""
        return self.gate(self.norm(hidden))

    def to_write(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        """What of the queries' states goes to the canvas."""
        return self.norm(hidden) if self.source == "normed" else hidden
