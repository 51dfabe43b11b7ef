"""Bilinear + MLP, the simplest network for query points: L1 read at the point, then SPD's depth head (plan 8)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd.checkpoint import load_network
from spd.config import Architecture, ModelConfig
from spd.coordinates import STRIDES, location_dtype, pixels_to_cells, read_bilinear
from spd.inputs import choose_device
from spd.model.attention import initialise_linear
from spd.model.depth_head import DepthHead
from spd.model.neck import LayerNorm2d
from spd.model.network import DepthNetwork
from spd.model.scale_head import ScaleHead
from spd.predictor import Predictor
from spd.weighted_rows import WeightedRows


class BilinearMLP(DepthNetwork):
    """log depth = head(L1 at the point): no other level, no position, and no point sees another.

    L1 is what SPD calls so: the output of the encoder's first stage, projected. The later stages come after it and
    cannot change it, so they are not built. A cell of L1 therefore sees its surroundings only, 2·6 + 1 = 13 cells or
    52 pixels for the two 7×7 convolutions of atto's first stage (76 pixels for tiny's three), and of the rest of the
    image the response norms of ConvNeXt V2. The difference to SPD is all that SPD adds: context, and the decoder.

    Example:
        >>> model = BilinearMLP(ModelConfig.atto(architecture="bilinear", train_size=(64, 96))).eval()
        >>> memory = model.encode(torch.rand(1, 3, 64, 96))
        >>> model.decode(memory, torch.tensor([[[10.0, 20.0], [95.0, 63.0]]])).shape
        torch.Size([1, 2])
    """

    architecture: ClassVar[Architecture] = "bilinear"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, num_stages=1)
        channels = config.neck_channels[0]
        projection = nn.Conv2d(self.encoder.channels[0], channels, 1)
        initialise_linear(projection)
        self.projection = nn.Sequential(projection, LayerNorm2d(channels))
        self.depth_head = DepthHead(channels, config.head_ratio)
        self.sum_rows = WeightedRows()
        self.scale_head = ScaleHead(channels, channels) if config.log_std else None

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H1 W1"]:
        """L1 of the images, RGB in [0, 1] of any size; padded right and bottom by replication to multiples of 4."""
        (features,) = self.encoder(self.normalise(images, STRIDES[0]))
        return self.projection(features)

    def decode_states(
        self,
        memory: Float[Tensor, "B C H1 W1"],
        query_points: Float[Tensor, "B K 2"],
        query_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """L1 at the points; none depends on another, so the mask changes nothing."""
        cells = pixels_to_cells(query_points, STRIDES[0], self.config.alignment)
        return read_bilinear(memory, cells, self.sum_rows)

    def context(self, memory: Float[Tensor, "B C H1 W1"]) -> Float[Tensor, "B C"]:
        """L1 averaged over the image."""
        return memory.to(location_dtype(memory)).mean((-2, -1))


def load(folder: str | Path, *, device: str | torch.device | None = None) -> Predictor:
    """The predictor of a checkpoint that ``spd train --model bilinear`` wrote.

    Args:
        folder: the checkpoint's folder, or ``owner/name`` of a repository on the Hugging Face hub.
        device: where to run; None is the first CUDA device where there is one, else the CPU.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another version or architecture, or there is no such
            device.
    """
    return Predictor.from_model(load_network(folder, BilinearMLP, choose_device(device)))
