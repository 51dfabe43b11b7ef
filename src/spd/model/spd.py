"""SPD: the only place that assembles the network."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from spd.config import Architecture, ModelConfig
from spd.coordinates import STRIDES, location_dtype
from spd.model.decoder import Decoder
from spd.model.depth_head import DepthHead
from spd.model.memory import ImageMemory, MemoryProjections
from spd.model.neck import ProjectionNeck
from spd.model.network import DepthNetwork
from spd.model.scale_head import ScaleHead


class SPD(DepthNetwork):
    """Sparse query-point depth: an image is encoded once, then any of its pixels can be asked for its depth.

    Weights are random; ``spd.load`` reads trained ones, and ``model.encoder.load_pretrained()`` those of timm.

    Example:
        >>> import torch
        >>> model = SPD(ModelConfig.atto(train_size=(64, 96))).eval()
        >>> memory = model.encode(torch.rand(1, 3, 64, 96))
        >>> model.decode(memory, torch.tensor([[[10.0, 20.0], [95.0, 63.0]]])).shape
        torch.Size([1, 2])
    """

    architecture: ClassVar[Architecture] = "spd"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        config = self.config
        self.encoder.add_self_attention(config.encoder_heads, config.ffn_ratio, config.dropout)
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
        self.depth_head = DepthHead(
            config.embed_dim, config.head_ratio, learned_scale="depth_scale" not in config.variant.without
        )
        self.scale_head = ScaleHead(config.embed_dim, config.neck_channels[3]) if config.log_std else None

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> ImageMemory:
        """Everything that depends on the images alone; of an anchored model, its anchors too.

        Args:
            images: RGB in [0, 1] of any size; padded right and bottom by replication to multiples of 32.
        """
        memory = self._remember(images)
        if self.config.interaction == "joint":
            return memory
        return self.decoder.place_anchors(memory, finish=False)[0]

    def encode_with_anchors(self, images: Float[Tensor, "B 3 H W"]) -> tuple[ImageMemory, Float[Tensor, "B A"] | None]:
        """:meth:`encode`, and what training compares at the anchors: their log depth, None of a joint model.

        ``spd.coordinates.anchor_points`` says where the anchors are.
        """
        memory = self._remember(images)
        if self.config.interaction == "joint":
            return memory, None
        memory, anchors = self.decoder.place_anchors(memory, finish=True)
        return memory, self.depth_head(anchors)

    def _remember(self, images: Float[Tensor, "B 3 H W"]) -> ImageMemory:
        levels = self.neck(self.encoder(self.normalise(images, STRIDES[-1])))
        return self.memory_projections(levels, (images.shape[-2], images.shape[-1]))

    def decode_states(
        self,
        memory: ImageMemory,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """The queries' last states, with the evolved canvas read into them."""
        return self.decoder(memory, query_points, query_mask)

    def context(self, memory: ImageMemory) -> Float[Tensor, "B C"]:
        """L4 averaged over the image."""
        level = memory.levels[3]
        return level.to(location_dtype(level)).mean((-2, -1))
