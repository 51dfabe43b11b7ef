"""From a query's last state to how sure its depth is: the scale of a Laplace distribution of log depth."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd.coordinates import location_dtype
from spd.model.attention import initialise_linear

WIDTH = 64
"""Of the hidden layer: 16 give a slightly worse likelihood on validation data, 128 the same."""
INITIAL_SCALE = 0.15
SCALE_RANGE = (0.005, 3.0)
"""Of b: from half a percent, finer than any sensor, to a factor of 20."""


class ScaleHead(nn.Module):
    """log b = MLP(h, novelty of the image), b the scale of a Laplace distribution of log depth around the answer.

    A query's state says what is hard within an image that is like those of training. Of an image that is like none of
    them it says too little, so the head is also told how far the image's mean features lie from those of training, as
    Mahalanobis' distance d: log(1 + d²/C). Before :meth:`learn_contexts` that is 0 for every image.

    Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018, for the distance.
    """

    context_mean: Tensor
    context_whitening: Tensor

    def __init__(self, embed_dim: int, context_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(embed_dim, WIDTH)
        self.novelty = nn.Linear(1, WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, 1)
        self.register_buffer("context_mean", torch.zeros(context_channels))
        self.register_buffer("context_whitening", torch.zeros(context_channels, context_channels))
        initialise_linear(self.hidden)
        nn.init.zeros_(self.novelty.weight)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.constant_(self.output.bias, math.log(INITIAL_SCALE))

    def forward(self, hidden: Float[Tensor, "B K D"], context: Float[Tensor, "B C"]) -> Float[Tensor, "B K"]:
        """Log b, float32 at least.

        Args:
            hidden: the queries' last states.
            context: mean features of the images; see :meth:`learn_contexts`.
        """
        wide = F.gelu(self.hidden(hidden) + self.novelty(self.novelty_of(context)).unsqueeze(1))
        dtype = location_dtype(wide)
        raw = (wide.to(dtype) * self.output.weight[0].to(dtype)).sum(-1) + self.output.bias.to(dtype)
        return raw.clamp(math.log(SCALE_RANGE[0]), math.log(SCALE_RANGE[1]))

    def novelty_of(self, context: Float[Tensor, "B C"]) -> Float[Tensor, "B 1"]:
        """log(1 + d²/C); about .4 for images like those of training, 1 to 2 for plain walls and noise."""
        whitened = F.linear(context - self.context_mean, self.context_whitening)
        return whitened.square().mean(1, keepdim=True).log1p()

    @torch.no_grad()
    def learn_contexts(self, contexts: Float[Tensor, "N C"], shrinkage: float = 0.05) -> None:
        """Take the mean and the covariance of the contexts of training images, from which novelty is measured.

        Args:
            contexts: of undistorted training images.
            shrinkage: part of the mean variance that is added to every variance: few images leave directions in which
                they happen to agree.
        """
        contexts = contexts.double()
        mean = contexts.mean(0)
        centred = contexts - mean
        covariance = centred.T @ centred / max(1, len(contexts) - 1)
        ridge = shrinkage * covariance.diagonal().mean() + torch.finfo(torch.float32).eps
        values, vectors = torch.linalg.eigh(covariance)
        whitening = (vectors * (values.clamp(min=0) + ridge).rsqrt()) @ vectors.T
        self.context_mean.copy_(mean)
        self.context_whitening.copy_(whitening)
