"""Attention between the queries of an image (plan 6.2.2; Mask2Former's decoder layer)."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd.model.attention import RESIDUAL_GAIN, attend, initialise_linear, split_heads
from spd.model.packed_linear import linear


class PlacedRows(NamedTuple):
    """Rows that meet in attention, normalised."""

    content: Float[Tensor, "B N D"]
    placed: Float[Tensor, "B N D"]
    """With the position added: what queries and keys are made of."""


class QueryAttention(nn.Module):
    """Attention with the position added to queries and keys, not to values: values are pure content."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        initialise_linear(self.query, self.key, self.value)
        initialise_linear(self.output, gain=RESIDUAL_GAIN)

    def keys_and_values(self, rows: PlacedRows) -> tuple[Float[Tensor, "B M N d"], Float[Tensor, "B M N d"]]:
        """What rows offer to those that read them."""
        keys = split_heads(self.key(rows.placed), self.num_heads)
        return keys, split_heads(self.value(rows.content), self.num_heads)

    def forward(
        self,
        placed: Float[Tensor, "B K D"],
        keys: Float[Tensor, "B M N d"],
        values: Float[Tensor, "B M N d"],
        key_mask: Bool[Tensor, "B N"] | None = None,
        *,
        added: Float[Tensor, "B K D"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """What each query reads of N rows, projected; masked rows are read by none.

        Args:
            placed: of the queries' :class:`PlacedRows`.
            keys: of :meth:`keys_and_values`: the queries' own where they attend to each other, or the anchors'.
            values: likewise.
            key_mask: False for padding.
            added: to what is returned.
        """
        query = split_heads(self.query(placed), self.num_heads)
        read = attend(query, keys, values, key_mask, self.dropout if self.training else 0.0)
        return linear(self.output, read, added=added)
