"""The decoder: seven layers of one kind, cross → canvas → queries → feed-forward (plan 6.2.2, 6.3, 6.4)."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spd.config import ModelConfig
from spd.coordinates import CANVAS_LEVEL, STRIDES, location_dtype, nearest_cell, pixels_to_cells
from spd.model.attention import FeedForward
from spd.model.deformable_attention import DeformableAttention
from spd.model.global_attention import GlobalAttention
from spd.model.memory import ImageMemory
from spd.model.query_attention import QueryAttention
from spd.model.query_seed import QuerySeed
from spd.model.spatial_canvas import CanvasAccess, SpatialCanvas


class DecoderLayer(nn.Module):
    """One layer around any cross-attention; all seven are of this class.

    Args:
        cross_attention: called with the normalised queries and whatever ``source`` the layer is given.
        config: widths, heads and what is written to the canvas.
    """

    def __init__(self, cross_attention: DeformableAttention | GlobalAttention, config: ModelConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = cross_attention
        self.canvas_access = None if "canvas" in config.without else CanvasAccess(width, config.canvas_source)
        self.query_attention = None
        if "query_attention" not in config.without:
            self.query_norm = nn.LayerNorm(width)
            self.query_attention = QueryAttention(width, config.num_heads, config.dropout)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = FeedForward(width, config.ffn_ratio)

    def forward(
        self,
        hidden: Float[Tensor, "B K D"],
        source: tuple,
        canvas: Float[Tensor, "B D H W"],
        shared_canvas: SpatialCanvas | None,
        canvas_points: Float[Tensor, "B K 2"],
        canvas_cells: Int[Tensor, "B K"],
        position: Float[Tensor, "B K D"],
        query_mask: Bool[Tensor, "B K"] | None,
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B D H W"]]:
        """The queries and the canvas after this layer.

        Args:
            hidden: queries.
            source: what the cross-attention reads.
            canvas: F⁽ⁿ⁻¹⁾.
            shared_canvas: the modules that all layers share; None where there is no canvas.
            canvas_points: the queries in the canvas' cells, where they read.
            canvas_cells: the cell that each query writes to.
            position: added to queries and keys of the attention between queries.
            query_mask: False for padding.
        """
        hidden = hidden + self.cross_attention(self.cross_norm(hidden), *source)
        if self.canvas_access is not None and shared_canvas is not None:
            hidden = self.canvas_access.read(hidden, canvas, canvas_points)
            canvas = shared_canvas.write(canvas, canvas_cells, self.canvas_access.to_write(hidden), query_mask)
        if self.query_attention is not None:
            hidden = hidden + self.query_attention(self.query_norm(hidden), position, query_mask)
        return hidden + self.ffn(self.ffn_norm(hidden)), canvas


class Decoder(nn.Module):
    """Seed, three deformable layers, two over L3, two over L4, and the last read of the canvas."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.seed = QuerySeed(
            config.neck_channels, config.embed_dim, config.fourier_bands, config.fourier_lowest_octave
        )
        self.deformable_layers = nn.ModuleList(
            DecoderLayer(
                DeformableAttention(
                    config.embed_dim,
                    config.num_heads,
                    len(STRIDES),
                    config.num_points,
                    config.offset_unit,
                    learned_offsets="learned_offsets" not in config.without,
                ),
                config,
            )
            for _ in range(config.num_deformable_layers)
        )
        self.l3_layers = self._global_layers(config.num_l3_layers)
        self.l4_layers = self._global_layers(config.num_l4_layers)
        self.canvas = None if "canvas" in config.without else SpatialCanvas(config.embed_dim, config.canvas_write)

    def layers(self) -> list[DecoderLayer]:
        """All layers in the order in which a query passes them."""
        stacks = (self.deformable_layers, self.l3_layers, self.l4_layers)
        return [layer for stack in stacks for layer in stack if isinstance(layer, DecoderLayer)]

    def _global_layers(self, number: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            DecoderLayer(GlobalAttention(config.embed_dim, config.num_heads, config.dropout), config)
            for _ in range(number)
        )

    def forward(
        self,
        memory: ImageMemory,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """The queries' last states, with the evolved canvas read into them."""
        alignment = self.config.alignment
        query_points = query_points.to(location_dtype(memory.levels[0]))
        reference_points = tuple(pixels_to_cells(query_points, stride, alignment) for stride in STRIDES)
        canvas = memory.levels[CANVAS_LEVEL]
        canvas = canvas.to(location_dtype(canvas))
        canvas_points = reference_points[CANVAS_LEVEL]
        canvas_cells = nearest_cell(canvas_points, canvas.shape[-2], canvas.shape[-1], alignment)
        hidden, position = self.seed(memory.levels, reference_points, query_points, memory.image_size)
        for layer, source in self._layers_with_sources(memory, reference_points):
            hidden, canvas = layer(
                hidden, source, canvas, self.canvas, canvas_points, canvas_cells, position, query_mask
            )
        return hidden if self.canvas is None else self.canvas.read_final(canvas, canvas_points, hidden)

    def _layers_with_sources(self, memory: ImageMemory, reference_points: tuple[Tensor, ...]):
        for layer in self.deformable_layers:
            yield layer, (reference_points, memory.value_maps)
        yield from zip(self.l3_layers, zip(memory.l3_keys, memory.l3_values, strict=True), strict=True)
        yield from zip(self.l4_layers, zip(memory.l4_keys, memory.l4_values, strict=True), strict=True)
