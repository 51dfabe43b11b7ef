"""What the models that answer share: SPD, the baselines, and both as other engines run them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class DepthPredictor(Protocol):
    """A model that encodes images once and then answers for any of their pixels.

    SPD is one; so is a dense model, whose memory is its depth map. Nothing about an image is kept on the model.
    """

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """Images, float32 RGB in [0, 1], to whatever :meth:`decode` needs of them."""
        ...

    def decode(self, memory: Any, query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """Depth in metres along the optical axis at xy pixel indices of the encoded images, float32."""
        ...


@runtime_checkable
class SureDepthPredictor(DepthPredictor, Protocol):
    """A depth predictor that can also say how sure it is of each answer."""

    def decode_with_std(self, memory: Any, query_points: Float[Tensor, "B K 2"]) -> tuple[Tensor, Tensor]:
        """:meth:`decode`, and the standard deviation of its logarithm: (B, K) each, float32."""
        ...
