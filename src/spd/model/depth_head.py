"""From a query's last state to its log depth; and the dense heads that help training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd.coordinates import location_dtype
from spd.model.attention import initialise_linear

INITIAL_DEPTH_M = 2.5
"""About the median depth of NYU Depth V2: where predictions start."""


class DepthHead(nn.Module):
    """log depth = MLP(h) · exp(s) with a learnable s.

    The scale lets the optimiser widen the range of the output in one parameter: log 10 m is 2.3, and a small MLP
    reaches it slowly.
    """

    float32_layers = ("output",)
    """Of a bfloat16 copy: a rounded weight would bend every answer."""

    def __init__(self, embed_dim: int, ratio: int, *, learned_scale: bool = True) -> None:
        super().__init__()
        self.hidden = nn.Linear(embed_dim, ratio * embed_dim)
        self.output = nn.Linear(ratio * embed_dim, 1)
        if learned_scale:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.zeros(()), persistent=False)
        initialise_linear(self.hidden)
        # Small weights on top of the bias: the first predictions lie around 2.5 m.
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.constant_(self.output.bias, math.log(INITIAL_DEPTH_M))

    def forward(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B K"]:
        """Log depth in log metres, float32 at least."""
        return self.scaled(F.gelu(self.hidden(hidden)))

    def scaled(self, wide: Float[Tensor, "B K W"]) -> Float[Tensor, "B K"]:
        """The last layer of the MLP, and its scale."""
        # Written out, since autocast would round a linear layer's answer: around a log depth of 1 bfloat16 has steps
        # of 0.4 to 0.8 %, and thousands of points would share a hundred depths.
        dtype = location_dtype(wide)
        raw = (wide.to(dtype) * self.output.weight[0].to(dtype)).sum(-1) + self.output.bias.to(dtype)
        return raw * self.log_scale.exp()


class DenseAuxiliaryHeads(nn.Module):
    """A 1×1 convolution to log depth on L2 and on L3; trained with the model, never saved with it."""

    def __init__(self, l2_channels: int, l3_channels: int) -> None:
        super().__init__()
        self.l2 = nn.Conv2d(l2_channels, 1, 1)
        self.l3 = nn.Conv2d(l3_channels, 1, 1)
        for head in (self.l2, self.l3):
            assert head.bias is not None
            nn.init.normal_(head.weight, std=0.02)
            nn.init.constant_(head.bias, math.log(INITIAL_DEPTH_M))

    def forward(
        self, levels: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> tuple[Float[Tensor, "B H2 W2"], Float[Tensor, "B H3 W3"]]:
        """Log depth in every cell of L2 and of L3."""
        return self.l2(levels[1]).squeeze(1).float(), self.l3(levels[2]).squeeze(1).float()
