"""Multi-head attention, the feed-forward layer, and the pre-norm transformer block (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

RESIDUAL_GAIN = 0.2
"""Of layers that end a residual branch: about 1/√28 for the decoder's 28 branches, so that their sum starts no larger
than the state they are added to (as in GPT-2)."""


def initialise_linear(*layers: nn.Linear | nn.Conv2d, gain: float = 1.0) -> None:
    """Xavier-uniform matrices and zero biases, as in DETR: a layer keeps the variance of what it is given."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, gain=gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def split_heads(tokens: Float[Tensor, "B N D"], num_heads: int) -> Float[Tensor, "B M N d"]:
    """Channels to heads: D = M·d, head-major."""
    batch, length, width = tokens.shape
    return tokens.view(batch, length, num_heads, width // num_heads).transpose(1, 2)


def attend(
    query: Float[Tensor, "B M K d"],
    key: Float[Tensor, "B M N d"],
    value: Float[Tensor, "B M N d"],
    key_mask: Bool[Tensor, "B N"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B K D"]:
    """softmax(Q Kᵀ / √d) V with the heads merged again.

    Args:
        query: one row per asking token, heads split.
        key: one row per token that is read.
        value: what is read of it.
        key_mask: True for the keys that count; None means all do. A row with no key at all reads zero.
        dropout: on the attention weights.
    """
    mask = None if key_mask is None else key_mask[:, None, None, :]
    read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return read.transpose(1, 2).flatten(2)


class KeyValue(NamedTuple):
    """What N tokens offer to the queries that read them, heads split."""

    key: Float[Tensor, "B M N d"]
    value: Float[Tensor, "B M N d"]


class Attention(nn.Module):
    """Queries read keys and values that are projected already.

    In the decoder's global layers these are of the tokens of L3 or of L4 (``docs/architecture.md``, "Global layers").
    """

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
        tokens: Float[Tensor, "B K D"],
        key_value: KeyValue,
        key_mask: Bool[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """What each token reads, projected.

        Args:
            tokens: that ask, normalised.
            key_value: of the N tokens that are read.
            key_mask: False for padding, which nobody reads.
        """
        query = split_heads(self.query(tokens), self.num_heads)
        return self.output(attend(query, *key_value, key_mask, self.dropout if self.training else 0.0))


class SelfAttention(Attention):
    """Attention among tokens of one kind.

    A position is added to what queries and keys are made of, not to the values: values are pure content (as in DETR).
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__(embed_dim, num_heads, dropout)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        initialise_linear(self.key, self.value)

    def key_value(self, tokens: Float[Tensor, "B N D"], position: Float[Tensor, "B N D"] | None = None) -> KeyValue:
        """What tokens offer to those that read them.

        Args:
            tokens: normalised.
            position: of each; None means they have none.
        """
        placed = tokens if position is None else tokens + position
        key, value = self.key(placed), self.value(tokens)
        return KeyValue(split_heads(key, self.num_heads), split_heads(value, self.num_heads))


class FeedForward(nn.Sequential):
    """D → ratio·D → D with GELU."""

    def __init__(self, embed_dim: int, ratio: int) -> None:
        fc1 = nn.Linear(embed_dim, ratio * embed_dim)
        fc2 = nn.Linear(ratio * embed_dim, embed_dim)
        initialise_linear(fc1)
        initialise_linear(fc2, gain=RESIDUAL_GAIN)
        super().__init__(fc1, nn.GELU(), fc2)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward over a map's tokens.

    The blocks have no position of their own: the convolutions around them carry it.
    """

    def __init__(self, embed_dim: int, num_heads: int, ffn_ratio: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embed_dim)
        self.attention = SelfAttention(embed_dim, num_heads, dropout)
        self.ffn_norm = nn.LayerNorm(embed_dim)
        self.ffn = FeedForward(embed_dim, ffn_ratio)
        self.residual_dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """x + attention(LN x), then x + FFN(LN x)."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.residual_dropout(self.attention(normed, self.attention.key_value(normed)))
        return tokens + self.residual_dropout(self.ffn(self.ffn_norm(tokens)))


class MapTransformer(nn.Sequential):
    """Transformer blocks over the cells of a feature map."""

    def __init__(self, channels: int, num_heads: int, ffn_ratio: int, dropout: float, num_blocks: int = 2) -> None:
        if channels % num_heads:
            raise ValueError(f"the number of heads must divide the {channels} channels, got {num_heads}")
        super().__init__(*(TransformerBlock(channels, num_heads, ffn_ratio, dropout) for _ in range(num_blocks)))

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Same shape out as in; cells are tokens in row-major order."""
        height, width = input.shape[-2:]
        tokens = super().forward(input.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, (height, width))
