"""SPD: the only place that assembles the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd.config import ModelConfig
from spd.coordinates import STRIDES
from spd.model.decoder import Decoder
from spd.model.depth_head import DepthHead
from spd.model.encoder import IMAGENET_MEAN, IMAGENET_STD, ConvNeXtEncoder
from spd.model.memory import ImageMemory, MemoryProjections
from spd.model.neck import ProjectionNeck


class SPD(nn.Module):
    """Sparse query-point depth: an image is encoded once, then any of its pixels can be asked for its depth.

    Weights are random; ``spd.load`` reads trained ones, and ``model.encoder.load_pretrained()`` those of timm.

    Example:
        >>> model = SPD(ModelConfig.atto(train_size=(64, 96))).eval()
        >>> memory = model.encode(torch.rand(1, 3, 64, 96))
        >>> model.decode(memory, torch.tensor([[[10.0, 20.0], [95.0, 63.0]]])).shape
        torch.Size([1, 2])
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvNeXtEncoder(config.encoder, config.encoder_heads, config.ffn_ratio, config.dropout)
        self.neck = ProjectionNeck(
            self.encoder.channels, config.neck_channels, config.neck_heads, config.ffn_ratio, config.dropout
        )
        self.memory_projections = MemoryProjections(
            config.neck_channels,
            config.embed_dim,
            config.num_heads,
            config.num_l3_layers,
            config.num_l4_layers,
        )
        self.decoder = Decoder(config)
        self.depth_head = DepthHead(config.embed_dim, config.head_ratio)
        # Constants of the encoder, not weights: they are not saved.
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> ImageMemory:
        """Everything that depends on the images alone.

        Args:
            images: RGB in [0, 1] of any size; padded right and bottom by replication to multiples of 32.
        """
        height, width = images.shape[-2:]
        padding = (0, -width % STRIDES[-1], 0, -height % STRIDES[-1])
        normalised = (images - self.pixel_mean) / self.pixel_std
        if any(padding):
            normalised = F.pad(normalised, padding, mode="replicate")
        levels = self.neck(self.encoder(normalised))
        return self.memory_projections(levels, (height, width))

    def decode_log_depth(
        self,
        memory: ImageMemory,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """:meth:`decode` without the last ``exp``: what the losses compare."""
        return self.depth_head(self.decoder(memory, query_points, query_mask))

    def decode(
        self,
        memory: ImageMemory,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """Depth in metres along the optical axis at every query point, float32.

        Args:
            memory: of :meth:`encode`, for the same B images.
            query_points: xy pixel indices of the images as they were given to :meth:`encode`. Only shapes are
                checked; a point outside reads the border.
            query_mask: False for padding: such points write nothing, are read by none, and their own answers mean
                nothing. None means that every point counts.
        """
        return self.decode_log_depth(memory, query_points, query_mask).exp()

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """``decode(encode(images), query_points, query_mask)``."""
        return self.decode(self.encode(images), query_points, query_mask)
