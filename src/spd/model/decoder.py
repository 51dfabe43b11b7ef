"""The decoder: seven layers of one kind, cross → canvas → queries → feed-forward.

Joint queries are those of plan v14: all write to one canvas and attend to each other. Anchored queries read a
canvas that only a fixed grid of anchors has written to, and attend to the anchors alone; what the anchors hold depends
on the image alone and is part of its memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd.config import ModelConfig
from spd.coordinates import (
    CANVAS_LEVEL,
    STRIDES,
    BilinearReads,
    anchor_points,
    level_reads,
    location_dtype,
    pixels_to_levels,
)
from spd.model.attention import Attention, FeedForward, KeyValue, SelfAttention
from spd.model.deformable_attention import DeformableAttention
from spd.model.memory import ImageMemory
from spd.model.query_seed import QuerySeed
from spd.model.spatial_canvas import CanvasAccess, CanvasPlaces, SpatialCanvas, canvas_places


class DecoderLayer(nn.Module):
    """One layer around any cross-attention; all seven are of this class.

    Args:
        cross_attention: called with the normalised queries and whatever ``source`` the layer is given.
        config: widths, heads and what is written to the canvas.
    """

    def __init__(self, cross_attention: DeformableAttention | Attention, config: ModelConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = cross_attention
        self.canvas_access = (
            None if "canvas" in config.variant.without else CanvasAccess(width, config.variant.canvas_source)
        )
        self.query_attention = None
        if "query_attention" not in config.variant.without:
            self.query_norm = nn.LayerNorm(width)
            self.query_attention = SelfAttention(width, config.num_heads, config.dropout)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = FeedForward(width, config.ffn_ratio)

    def forward(
        self,
        hidden: Float[Tensor, "B K D"],
        source: tuple,
        canvas: Float[Tensor, "B D H W"],
        shared_canvas: SpatialCanvas | None,
        canvas_reads: BilinearReads,
        places: CanvasPlaces,
        position: Float[Tensor, "B K D"],
        query_mask: Bool[Tensor, "B K"] | None,
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B D H W"]]:
        """Joint queries and their canvas after this layer.

        Args:
            hidden: queries.
            source: what the cross-attention reads.
            canvas: F⁽ⁿ⁻¹⁾.
            shared_canvas: the modules that all layers share; None where there is no canvas.
            canvas_reads: where the queries read the canvas.
            places: the cells that each query writes to.
            position: added to queries and keys of the attention between queries.
            query_mask: False for padding.
        """
        hidden = self.cross_attend(hidden, source, canvas, canvas_reads)
        canvas = self.write(hidden, canvas, shared_canvas, places)
        return self.self_attend(hidden, position, key_mask=query_mask), canvas

    def cross_attend(
        self,
        hidden: Float[Tensor, "B K D"],
        source: tuple,
        canvas: Float[Tensor, "B D H W"],
        canvas_reads: BilinearReads,
    ) -> Float[Tensor, "B K D"]:
        """Cross-attention to the image, then the gated read of the canvas."""
        hidden = hidden + self.cross_attention(self.cross_norm(hidden), *source)
        return hidden if self.canvas_access is None else self.canvas_access.read(hidden, canvas, canvas_reads)

    def write(
        self,
        hidden: Float[Tensor, "B K D"],
        canvas: Float[Tensor, "B D H W"],
        shared_canvas: SpatialCanvas | None,
        places: CanvasPlaces,
    ) -> Float[Tensor, "B D H W"]:
        """F⁽ⁿ⁻¹⁾ to F⁽ⁿ⁾."""
        if self.canvas_access is None or shared_canvas is None:
            return canvas
        return shared_canvas.write(canvas, places, self.canvas_access.to_write(hidden))

    def key_value(self, hidden: Float[Tensor, "B N D"], position: Float[Tensor, "B N D"]) -> KeyValue | None:
        """What these queries offer to those that attend to them; None in a model without such attention."""
        if self.query_attention is None:
            return None
        return self.query_attention.key_value(self.query_norm(hidden), position)

    def self_attend(
        self,
        hidden: Float[Tensor, "B K D"],
        position: Float[Tensor, "B K D"],
        key_value: KeyValue | None = None,
        key_mask: Bool[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """Attention between queries, then the feed-forward.

        Args:
            hidden: queries.
            position: of each.
            key_value: of the queries that are read, the anchors say; None means that these read each other.
            key_mask: False for padding.
        """
        if self.query_attention is not None:
            normed = self.query_norm(hidden)
            if key_value is None:
                key_value = self.query_attention.key_value(normed, position)
            hidden = hidden + self.query_attention(normed + position, key_value, key_mask)
        return hidden + self.ffn(self.ffn_norm(hidden))


class Start(NamedTuple):
    """Queries before the first layer, and where they are."""

    hidden: Float[Tensor, "B K D"]
    position: Float[Tensor, "B K D"]
    reference_points: Float[Tensor, "B K L 2"]
    """xy in the cells of each level."""
    canvas_reads: BilinearReads
    """The same cells in every layer."""


class Decoder(nn.Module):
    """Seed, three deformable layers, two over L3, two over L4, and the last read of the canvas."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.seed = QuerySeed(
            config.neck_channels, config.embed_dim, config.fourier_bands, config.variant.fourier_lowest_octave
        )
        self.deformable_layers = nn.ModuleList(
            DecoderLayer(
                DeformableAttention(
                    config.embed_dim,
                    config.num_heads,
                    len(STRIDES),
                    config.num_points,
                    config.variant.offset_unit,
                    learned_offsets="learned_offsets" not in config.variant.without,
                ),
                config,
            )
            for _ in range(config.num_deformable_layers)
        )
        self.l3_layers = self._global_layers(config.num_l3_layers)
        self.l4_layers = self._global_layers(config.num_l4_layers)
        self.canvas = None if "canvas" in config.variant.without else SpatialCanvas(config.embed_dim)

    def layers(self) -> list[DecoderLayer]:
        """All layers in the order in which a query passes them."""
        stacks = (self.deformable_layers, self.l3_layers, self.l4_layers)
        return [layer for stack in stacks for layer in stack if isinstance(layer, DecoderLayer)]

    def _global_layers(self, number: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            DecoderLayer(Attention(config.embed_dim, config.num_heads, config.dropout), config) for _ in range(number)
        )

    def forward(
        self,
        memory: ImageMemory,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """The queries' last states, with the evolved canvas read into them."""
        if self.config.interaction == "anchored":
            return self._anchored(memory, query_points)
        start = self._start(memory, query_points)
        canvas = _first_canvas(memory)
        places = self._places(start, canvas, query_mask)
        hidden = start.hidden
        for layer, source in self._layers_with_sources(memory, start.reference_points):
            hidden, canvas = layer(
                hidden, source, canvas, self.canvas, start.canvas_reads, places, start.position, query_mask
            )
        return self._read_final(canvas, start, hidden)

    def place_anchors(self, memory: ImageMemory, *, finish: bool) -> tuple[ImageMemory, Float[Tensor, "B A D"] | None]:
        """The memory with the anchors' canvases, keys and values; and, to train them, the anchors' last states.

        Queries see of an anchor what it writes, and its keys and values, in each layer. The last layer's attention and
        feed-forward and the last read of the canvas are for the anchor's own depth, so they run only to ``finish``.

        Args:
            memory: of images, without anchors.
            finish: whether the anchors' last states are wanted.
        """
        grid = anchor_points(memory.image_size, self.config.anchor_stride, memory.levels[0].device)
        start = self._start(memory, grid.expand(memory.levels[0].shape[0], -1, -1))
        hidden, canvases = start.hidden, [_first_canvas(memory)]
        places = self._places(start, canvases[0])
        key_values: list[KeyValue] = []
        num_layers = len(self.layers())
        for number, (layer, source) in enumerate(self._layers_with_sources(memory, start.reference_points), start=1):
            hidden = layer.cross_attend(hidden, source, canvases[-1], start.canvas_reads)
            canvases.append(layer.write(hidden, canvases[-1], self.canvas, places))
            key_value = layer.key_value(hidden, start.position)
            if key_value is not None:
                key_values.append(key_value)
            if number < num_layers or finish:
                hidden = layer.self_attend(hidden, start.position, key_value)
        keys, values = zip(*key_values, strict=True) if key_values else ((), ())
        anchored = memory.with_anchors(tuple(canvases), keys, values)
        return anchored, self._read_final(canvases[-1], start, hidden) if finish else None

    def _anchored(self, memory: ImageMemory, query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K D"]:
        """Queries among the anchors: none sees another, so masks mean nothing and any part may be asked alone."""
        start = self._start(memory, query_points)
        hidden = start.hidden
        # A model without attention between queries has no keys of anchors.
        anchors = [KeyValue(*of_layer) for of_layer in zip(memory.anchor_keys, memory.anchor_values, strict=True)]
        layers = self._layers_with_sources(memory, start.reference_points)
        canvases = memory.canvases[:-1]
        for (layer, source), canvas, key_value in zip(layers, canvases, anchors or [None] * len(canvases), strict=True):
            hidden = layer.cross_attend(hidden, source, canvas, start.canvas_reads)
            hidden = layer.self_attend(hidden, start.position, key_value)
        return self._read_final(memory.canvases[-1], start, hidden)

    def _start(self, memory: ImageMemory, query_points: Float[Tensor, "B K 2"]) -> Start:
        query_points = query_points.to(location_dtype(memory.levels[0]))
        reference_points = pixels_to_levels(query_points, self.config.alignment)
        reads = level_reads(reference_points, [(level.shape[-2], level.shape[-1]) for level in memory.levels])
        hidden, position = self.seed(memory.levels, reads, query_points, memory.image_size)
        return Start(hidden, position, reference_points, reads[CANVAS_LEVEL])

    def _places(
        self, start: Start, canvas: Float[Tensor, "B D H W"], query_mask: Bool[Tensor, "B K"] | None = None
    ) -> CanvasPlaces:
        height, width = canvas.shape[-2:]
        config = self.config
        points = start.reference_points[:, :, CANVAS_LEVEL]
        return canvas_places(points, height, width, config.canvas_write, config.alignment, query_mask)

    def _read_final(
        self, canvas: Float[Tensor, "B D H W"], start: Start, hidden: Float[Tensor, "B K D"]
    ) -> Float[Tensor, "B K D"]:
        return hidden if self.canvas is None else self.canvas.read_final(canvas, start.canvas_reads, hidden)

    def _layers_with_sources(
        self, memory: ImageMemory, reference_points: Float[Tensor, "B K L 2"]
    ) -> Iterator[tuple[DecoderLayer, tuple]]:
        sources: list[tuple] = [(reference_points, memory.values)] * len(self.deformable_layers)
        sources += [(KeyValue(*of_layer),) for of_layer in zip(memory.l3_keys, memory.l3_values, strict=True)]
        sources += [(KeyValue(*of_layer),) for of_layer in zip(memory.l4_keys, memory.l4_values, strict=True)]
        return zip(self.layers(), sources, strict=True)


def _first_canvas(memory: ImageMemory) -> Float[Tensor, "B D H W"]:
    """F⁽⁰⁾ = L3, in the precision in which sums are kept."""
    level = memory.levels[CANVAS_LEVEL]
    return level.to(location_dtype(level))
