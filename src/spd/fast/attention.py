"""Attention, feed-forward and transformer blocks by the kernels, each residual added in the product before it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spd.fast import operators
from spd.fast.adopting import Adopting
from spd.fast.linear import linear
from spd.model import attention as plain
from spd.model.attention import KeyValue, split_heads


def attend(
    query: Float[Tensor, "B M K d"],
    key: Float[Tensor, "B M N d"],
    value: Float[Tensor, "B M N d"],
    key_mask: Bool[Tensor, "B N"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B K D"]:
    """See :func:`spd.model.attention.attend`."""
    if key_mask is None and not dropout:
        if _is_supported(query, key, value):
            return operators.attention(query, key, value)
        if _trains_in_bfloat16(query):
            weights = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3)).softmax(-1)
            return torch.matmul(weights, value).transpose(1, 2).flatten(2)
    return plain.attend(query, key, value, key_mask, dropout)


def _is_supported(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """By the kernels; those for a single query are without products."""
    if not key.shape[2] or not query.dtype == key.dtype == value.dtype:
        return False
    if query.shape[2] == 1:
        return operators.is_supported(query, query.shape[3])
    return operators.is_product_supported(query, query.shape[3], query.dtype)


def _trains_in_bfloat16(query: Tensor) -> bool:
    """Whether the fused kernel is slow: on a CPU its way back in bfloat16 takes twice as long as plain products."""
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()


class FastAttention(Adopting, plain.Attention):
    """:class:`spd.model.attention.Attention` by the kernels."""

    def forward(
        self,
        tokens: Float[Tensor, "B K D"],
        key_value: KeyValue,
        key_mask: Bool[Tensor, "B N"] | None = None,
        residual: Float[Tensor, "B K D"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """What each token reads, projected, plus the residual."""
        query = split_heads(self.query(tokens), self.num_heads)
        read = attend(query, *key_value, key_mask, self.dropout if self.training else 0.0)
        return linear(self.output, read, residual=residual)


class FastSelfAttention(FastAttention, plain.SelfAttention):
    """:class:`spd.model.attention.SelfAttention` by the kernels."""


class FastFeedForward(Adopting, plain.FeedForward):
    """:class:`spd.model.attention.FeedForward` with GELU and the residual in its products."""

    def forward(
        self, input: Float[Tensor, "*N D"], residual: Float[Tensor, "*N D"] | None = None
    ) -> Float[Tensor, "*N D"]:
        """Of ``input``, plus the residual."""
        fc1, _, fc2 = self
        assert isinstance(fc1, nn.Linear)
        assert isinstance(fc2, nn.Linear)
        return linear(fc2, linear(fc1, input, gelu=True), residual=residual)


class FastTransformerBlock(Adopting, plain.TransformerBlock):
    """:class:`spd.model.attention.TransformerBlock`, whose residuals cost no pass when it answers."""

    attention: FastSelfAttention
    ffn: FastFeedForward

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """x + attention(LN x), then x + FFN(LN x)."""
        normed = self.attention_norm(tokens)
        key_value = self.attention.key_value(normed)
        if self.training:
            tokens = tokens + self.residual_dropout(self.attention(normed, key_value))
            return tokens + self.residual_dropout(self.ffn(self.ffn_norm(tokens)))
        tokens = self.attention(normed, key_value, residual=tokens)
        return self.ffn(self.ffn_norm(tokens), tokens)
