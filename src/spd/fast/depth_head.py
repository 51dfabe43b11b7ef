"""The depth head with GELU in its product."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from spd.fast.adopting import Adopting
from spd.fast.linear import linear
from spd.model import depth_head as plain


class FastDepthHead(Adopting, plain.DepthHead):
    """:class:`spd.model.depth_head.DepthHead` by the kernels."""

    def forward(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B K"]:
        """Log depth in log metres, float32 at least."""
        return self.scaled(linear(self.hidden, hidden, gelu=True))
