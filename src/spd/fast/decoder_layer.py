"""A decoder layer whose residuals are added in the products before them."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from spd.coordinates import BilinearReads
from spd.fast.adopting import Adopting
from spd.fast.attention import FastAttention, FastFeedForward, FastSelfAttention
from spd.fast.deformable_attention import FastDeformableAttention
from spd.model import decoder as plain
from spd.model.attention import KeyValue


class FastDecoderLayer(Adopting, plain.DecoderLayer):
    """:class:`spd.model.decoder.DecoderLayer`, around quick attention and a quick feed-forward."""

    cross_attention: FastDeformableAttention | FastAttention
    query_attention: FastSelfAttention | None
    ffn: FastFeedForward

    def cross_attend(
        self,
        hidden: Float[Tensor, "B K D"],
        source: tuple,
        canvas: Float[Tensor, "B D H W"],
        canvas_reads: BilinearReads,
    ) -> Float[Tensor, "B K D"]:
        """Cross-attention to the image, then the gated read of the canvas."""
        hidden = self.cross_attention(self.cross_norm(hidden), *source, residual=hidden)
        return hidden if self.canvas_access is None else self.canvas_access.read(hidden, canvas, canvas_reads)

    def self_attend(
        self,
        hidden: Float[Tensor, "B K D"],
        position: Float[Tensor, "B K D"],
        key_value: KeyValue | None = None,
        key_mask: Bool[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """Attention between queries, then the feed-forward."""
        if self.query_attention is not None:
            normed = self.query_norm(hidden)
            if key_value is None:
                key_value = self.query_attention.key_value(normed, position)
            hidden = self.query_attention(normed + position, key_value, key_mask, residual=hidden)
        return self.ffn(self.ffn_norm(hidden), hidden)
