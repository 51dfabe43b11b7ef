"""From the encoder's four maps to L1...L4."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from spd.model.attention import MapTransformer, initialise_linear


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a channels-first map."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Every cell normalised by itself."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ProjectionNeck(nn.Module):
    """1×1 convolution and LayerNorm per level; two self-attention blocks on L4."""

    def __init__(
        self,
        encoder_channels: Sequence[int],
        neck_channels: Sequence[int],
        num_heads: int,
        ffn_ratio: int,
        dropout: float,
    ) -> None:
        super().__init__()
        projections = [nn.Conv2d(c_in, c, 1) for c_in, c in zip(encoder_channels, neck_channels, strict=True)]
        initialise_linear(*projections)
        self.projections = nn.ModuleList(
            nn.Sequential(projection, LayerNorm2d(projection.out_channels)) for projection in projections
        )
        self.self_attention = MapTransformer(neck_channels[3], num_heads, ffn_ratio, dropout)

    def forward(self, stages: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The encoder's maps to L1...L4, (B, neck_channels[l], H/s, W/s) each."""
        level1, level2, level3, level4 = (
            project(stage) for project, stage in zip(self.projections, stages, strict=True)
        )
        return level1, level2, level3, self.self_attention(level4)
