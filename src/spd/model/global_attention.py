"""B3a and B3b: queries read every token of L3 or of L4 (plan 6.3, 6.4)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from spd.model.attention import RESIDUAL_GAIN, attend, initialise_linear, split_heads
from spd.model.packed_linear import linear


class GlobalAttention(nn.Module):
    """Cross-attention to keys and values that :class:`ImageMemory` already holds."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(embed_dim, embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        initialise_linear(self.query)
        initialise_linear(self.output, gain=RESIDUAL_GAIN)

    def forward(
        self,
        hidden: Float[Tensor, "B K D"],
        keys: Float[Tensor, "B M N d"],
        values: Float[Tensor, "B M N d"],
        *,
        added: Float[Tensor, "B K D"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """What each normalised query reads of the N tokens, projected, plus what is added."""
        query = split_heads(self.query(hidden), self.num_heads)
        read = attend(query, keys, values, dropout=self.dropout if self.training else 0.0)
        return linear(self.output, read, added=added)
