"""Everything that is computed once per image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from spd.coordinates import CANVAS_LEVEL
from spd.model.attention import initialise_linear, split_heads
from spd.model.value_table import ValueTable


class ImageMemory(NamedTuple):
    """What :meth:`SPD.decode` needs of a batch of images, and nothing more.

    All maps belong to the images padded to multiples of 32, so H and W below are the padded sides.
    """

    levels: tuple[Tensor, Tensor, Tensor, Tensor]
    """L1...L4: (B, C_l, H / s_l, W / s_l) for the strides 4, 8, 16, 32."""
    values: ValueTable
    """What deformable attention reads: four maps (B, D, H / s_l, W / s_l), the third L3 itself, as one table."""
    l3_keys: tuple[Tensor, ...]
    """One per L3 layer: (B, M, N3, d) with N3 = H/16 · W/16 in row-major order."""
    l3_values: tuple[Tensor, ...]
    l4_keys: tuple[Tensor, ...]
    """One per L4 layer: (B, M, N4, d) with N4 = H/32 · W/32."""
    l4_values: tuple[Tensor, ...]
    image_size: tuple[int, int]
    """(height, width) of the images before padding."""
    canvases: tuple[Tensor, ...] = ()
    """Anchored only: F⁽⁰⁾...F⁽⁷⁾ as the anchors left them, (B, D, H/16, W/16) each; the first is L3."""
    anchor_keys: tuple[Tensor, ...] = ()
    """Anchored only: one per decoder layer, (B, M, A, d) for A anchors in row-major order."""
    anchor_values: tuple[Tensor, ...] = ()

    def with_anchors(
        self, canvases: tuple[Tensor, ...], anchor_keys: tuple[Tensor, ...], anchor_values: tuple[Tensor, ...]
    ) -> ImageMemory:
        """The same with what the anchors left. (Not ``_replace``, which compilers do not follow everywhere.)"""
        plain = (self.levels, self.values, self.l3_keys, self.l3_values, self.l4_keys, self.l4_values)
        return ImageMemory(*plain, self.image_size, canvases, anchor_keys, anchor_values)


class PointwiseConv2d(nn.Conv2d):
    """A 1×1 convolution: a linear layer of every cell."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)


class KeyValueProjections(nn.Module):
    """Keys and values of one level for each of the layers that read it; without biases, as the plan counts them."""

    def __init__(self, channels: int, embed_dim: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.keys = nn.ModuleList(nn.Linear(channels, embed_dim, bias=False) for _ in range(num_layers))
        self.values = nn.ModuleList(nn.Linear(channels, embed_dim, bias=False) for _ in range(num_layers))
        initialise_linear(*self.keys, *self.values)  # type: ignore[arg-type]

    def forward(self, level: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(B, C, H, W) to keys and values per layer, (B, M, H·W, d) each."""
        tokens = level.flatten(2).transpose(1, 2)
        keys = tuple(split_heads(project(tokens), self.num_heads) for project in self.keys)
        values = tuple(split_heads(project(tokens), self.num_heads) for project in self.values)
        return keys, values


class MemoryProjections(nn.Module):
    """L1...L4 to :class:`ImageMemory`: value maps, and keys and values of the global layers."""

    def __init__(
        self,
        neck_channels: tuple[int, int, int, int],
        embed_dim: int,
        num_heads: int,
        num_l3_layers: int,
        num_l4_layers: int,
    ) -> None:
        super().__init__()
        value_maps = [
            nn.Identity() if level == CANVAS_LEVEL else PointwiseConv2d(channels, embed_dim)
            for level, channels in enumerate(neck_channels)
        ]
        initialise_linear(*(layer for layer in value_maps if isinstance(layer, nn.Conv2d)))
        self.value_maps = nn.ModuleList(value_maps)
        self.l3 = KeyValueProjections(neck_channels[2], embed_dim, num_heads, num_l3_layers)
        self.l4 = KeyValueProjections(neck_channels[3], embed_dim, num_heads, num_l4_layers)

    def forward(self, levels: tuple[Tensor, Tensor, Tensor, Tensor], image_size: tuple[int, int]) -> ImageMemory:
        """Assemble the memory of images that were ``image_size`` before padding."""
        values = ValueTable.of([project(level) for project, level in zip(self.value_maps, levels, strict=True)])
        l3_keys, l3_values = self.l3(levels[2])
        l4_keys, l4_values = self.l4(levels[3])
        return ImageMemory(levels, values, l3_keys, l3_values, l4_keys, l4_values, image_size)
