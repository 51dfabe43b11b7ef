"""Multi-head attention on PyTorch's fused kernel, the feed-forward layer, and the pre-norm transformer block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd import native
from spd.model.packed_linear import linear

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
    if key_mask is None and not dropout and _is_served(query, key, value):
        return native.attention(query, key, value)
    if key_mask is None and not dropout and _trains_in_bfloat16(query):
        weights = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3)).softmax(-1)
        read = torch.matmul(weights, value)
    else:
        mask = None if key_mask is None else key_mask[:, None, None, :]
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return read.transpose(1, 2).flatten(2)


def _is_served(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """By the kernels; those for a single query are without products."""
    if not key.shape[2] or not query.dtype == key.dtype == value.dtype:
        return False
    if query.shape[2] == 1:
        return native.serves(query, query.shape[3])
    return native.multiplies(query, query.shape[3], query.dtype)


def _trains_in_bfloat16(query: Tensor) -> bool:
    """Whether the fused kernel is slow: on a CPU its way back in bfloat16 takes twice as long as plain products."""
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()


class FeedForward(nn.Sequential):
    """D → ratio·D → D with GELU."""

    def __init__(self, embed_dim: int, ratio: int) -> None:
        widen = nn.Linear(embed_dim, ratio * embed_dim)
        narrow = nn.Linear(ratio * embed_dim, embed_dim)
        initialise_linear(widen)
        initialise_linear(narrow, gain=RESIDUAL_GAIN)
        super().__init__(widen, nn.GELU(), narrow)

    def forward(
        self, input: Float[Tensor, "*N D"], added: Float[Tensor, "*N D"] | None = None
    ) -> Float[Tensor, "*N D"]:
        """Of ``input``, plus what is added."""
        widen, _, narrow = self
        assert isinstance(widen, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        return linear(narrow, linear(widen, input, gelu=True), added=added)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the tokens of a map."""

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

    def forward(
        self, tokens: Float[Tensor, "B N D"], added: Float[Tensor, "B N D"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Every token reads every token; plus what is added."""
        query, key, value = (
            split_heads(project(tokens), self.num_heads) for project in (self.query, self.key, self.value)
        )
        read = attend(query, key, value, dropout=self.dropout if self.training else 0.0)
        return linear(self.output, read, added=added)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward over a map's tokens (plan 4.1, 4.3).

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
        if not self.training:
            tokens = self.attention(self.attention_norm(tokens), tokens)
            return self.ffn(self.ffn_norm(tokens), tokens)
        tokens = tokens + self.residual_dropout(self.attention(self.attention_norm(tokens)))
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
