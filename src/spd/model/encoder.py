"""What every encoder offers: feature maps of strides 4, 8, 16 and 32 from a network of timm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from spd.messages import first_line
from spd.model.attention import MapTransformer
from spd.variant import Alignment

ATTENDED_STAGE = 3
"""The stage whose output passes self-attention before the next one."""

PixelStatistics = tuple[float, float, float]


class PretrainedWeights(NamedTuple):
    """Where weights came from, to be told to the user."""

    name: str
    """As timm or the package that holds them calls them."""
    licence: str


class Encoder(nn.Module, ABC):
    """Up to four stages of a network of timm: images to feature maps of strides 4, 8, 16 and 32.

    An encoder may have self-attention on the map of stage 3. That map then sees the whole image, and stage 4 inherits
    it (:meth:`add_self_attention`).

    Args:
        backbone: timm's network, without what follows its last feature map.
        channels: of the stages' maps.
    """

    family: ClassVar[str]
    """What messages call the networks that it takes."""
    pixel_mean: ClassVar[PixelStatistics]
    """RGB in [0, 1] minus this, over :attr:`pixel_std`, is what the weights of timm were trained with."""
    pixel_std: ClassVar[PixelStatistics]
    alignment: ClassVar[Alignment]
    """Which pixel the centre of a cell stands for (``docs/coordinates.md``)."""

    def __init__(self, backbone: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = tuple(channels)
        self.self_attention: MapTransformer | None = None
        self.has_frozen_statistics = False
        """Whether batch norms keep their statistics in training too (:meth:`freeze_statistics`)."""

    @classmethod
    @abstractmethod
    def accepts(cls, name: str) -> bool:
        """Whether a network of that name belongs to this family."""

    @abstractmethod
    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """What makes each map out of the one before; the first begins with the normalised images."""

    @abstractmethod
    def load_pretrained(self) -> PretrainedWeights:
        """Copy published ImageNet weights into the backbone.

        Raises:
            ValueError: the weights cannot be had.
        """

    def batch_norms(self) -> list[nn.BatchNorm2d]:
        """The layers whose statistics training may hold; none in most families."""
        return [module for module in self.backbone.modules() if isinstance(module, nn.BatchNorm2d)]

    def freeze_statistics(self) -> None:
        """Let batch norms keep their statistics from now on, in training too."""
        self.has_frozen_statistics = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        """As every module, but for frozen statistics."""
        super().train(mode)
        if self.has_frozen_statistics:
            for norm in self.batch_norms():
                norm.eval()
        return self

    def add_self_attention(self, num_heads: int, ffn_ratio: int, dropout: float) -> None:
        """Two blocks of self-attention on the output of stage 3.

        Args:
            num_heads: divides the channels of stage 3.
            ffn_ratio: width of the feed-forward layers over that of the map.
            dropout: of attention weights and residual branches.
        """
        self.self_attention = MapTransformer(self.channels[ATTENDED_STAGE - 1], num_heads, ffn_ratio, dropout)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Normalised images, H and W multiples of the last stride, to the stages' maps, (B, C, H/s, W/s) each."""
        # Convolutions are quickest, and what follows reads the channels of a cell, where the channels lie innermost.
        features = images.contiguous(memory_format=torch.channels_last)
        maps = []
        for number, stage in enumerate(self.stages(), start=1):
            features = stage(features)
            if number == ATTENDED_STAGE and self.self_attention is not None:
                features = self.self_attention(features)
            maps.append(features)
        return tuple(maps)


def create_backbone(name: str, family: str) -> Any:
    """timm's network of that name with random weights, without a classifier.

    Raises:
        ValueError: timm has none.
    """
    try:
        return timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise ValueError(f"encoder must be {family} of timm, got {name!r}: {first_line(error)}") from error
