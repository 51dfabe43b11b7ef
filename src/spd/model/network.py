"""What the networks that are trained here share, whatever lies between their encoder and their head."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd.config import Architecture, ModelConfig
from spd.estimate import IntervalFactors
from spd.model.depth_head import DepthHead
from spd.model.encoder import Encoder
from spd.model.encoders import create_encoder
from spd.model.scale_head import ScaleHead


class SureDepth(NamedTuple):
    """Depth with its spread."""

    depth_m: Float[Tensor, "B K"]
    """Metres along the optical axis, float32."""
    log_std: Float[Tensor, "B K"]
    """Standard deviation of the log depth, float32."""


class DepthNetwork(nn.Module, ABC):
    """Images are encoded once, then any of their pixels can be asked for their depth.

    A network is one that training, checkpoints and ``Predictor`` can handle: it is determined by its ``config``, its
    weights from timm are those of ``encoder``, and it answers in log depth.

    Raises:
        ValueError: ``config`` is that of another architecture.
    """

    architecture: ClassVar[Architecture]
    """What ``config.architecture`` says of this class."""

    encoder: Encoder
    depth_head: DepthHead
    scale_head: ScaleHead | None
    """Of a configuration with ``log_std``."""
    intervals: IntervalFactors | None
    """What validation data asked for, kept beside the weights; None where nobody has fitted them."""
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig, num_stages: int = 4) -> None:
        super().__init__()
        if config.architecture != self.architecture:
            raise ValueError(
                f"{type(self).__name__} is of the architecture {self.architecture}, got a configuration of "
                f"{config.architecture}"
            )
        encoder = create_encoder(config.encoder, num_stages)
        self.config = config.with_alignment(encoder.alignment)
        self.encoder = encoder
        self.intervals = None
        # Constants of the encoder, not weights: they are not saved.
        self.register_buffer("pixel_mean", torch.tensor(encoder.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(encoder.pixel_std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """Everything that depends on the images alone, RGB in [0, 1] of any size."""

    @abstractmethod
    def decode_states(
        self,
        memory: Any,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """The queries' last states, of which the heads make their answers."""

    @abstractmethod
    def context(self, memory: Any) -> Float[Tensor, "B C"]:
        """Mean features of each image, from which its novelty is measured."""

    def decode_log_depth(
        self,
        memory: Any,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """:meth:`decode` without the last ``exp``: what the losses compare."""
        return self.depth_head(self.decode_states(memory, query_points, query_mask))

    def encode_with_anchors(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Any, Float[Tensor, "B A"] | None]:
        """:meth:`encode`, and the log depth at the anchors of a network that has any."""
        return self.encode(images), None

    def decode(
        self,
        memory: Any,
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

    def decode_with_std(
        self,
        memory: Any,
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> SureDepth:
        """:meth:`decode`, whose depth does not change by a bit, and the standard deviation of its logarithm.

        Raises:
            ValueError: the network has no such output.
        """
        if self.scale_head is None:
            raise ValueError(
                "this model does not answer how sure it is; one that is trained with --model.log-std true does"
            )
        states = self.decode_states(memory, query_points, query_mask)
        log_scale = self.scale_head(states, self.context(memory))
        # The variance of a Laplace distribution is 2 b².
        return SureDepth(self.depth_head(states).exp(), math.sqrt(2) * log_scale.exp())

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """``decode(encode(images), query_points, query_mask)``."""
        return self.decode(self.encode(images), query_points, query_mask)

    def normalise(self, images: Float[Tensor, "B 3 H W"], stride: int) -> Tensor:
        """As the encoder was trained, padded right and bottom by replication to multiples of ``stride``."""
        height, width = images.shape[-2:]
        padding = (0, -width % stride, 0, -height % stride)
        normalised = (images - self.pixel_mean) / self.pixel_std
        return F.pad(normalised, padding, mode="replicate") if any(padding) else normalised
