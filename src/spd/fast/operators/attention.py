"""The kernel of attention as a PyTorch operator."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from spd.fast.operators.calls import LANES, OPERATORS, call, call_product, run

OPERATORS.define("attention(Tensor query, Tensor key, Tensor value) -> Tensor")


def attention(
    query: Float[Tensor, "B M K d"], key: Float[Tensor, "B M N d"], value: Float[Tensor, "B M N d"]
) -> Float[Tensor, "B K D"]:
    """softmax(Q Kᵀ / √d) V with the heads merged, D = M·d head-major; softmax in float32.

    Args:
        query: float32 or bfloat16 like the others; d a multiple of eight. A single one asks without products,
            on machines that have none too.
        key: at least one.
        value: one for each key.
    """
    return run("attention", _attention, query, key, value)


@torch.library.impl(OPERATORS, "attention", "CPU")
def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    batch, heads, queries, width = query.shape
    keys = key.shape[2]
    assert query.dtype == key.dtype == value.dtype, (query.dtype, key.dtype, value.dtype)
    assert width % LANES == 0, query.shape
    assert key.shape == value.shape == (batch, heads, keys, width), (query.shape, key.shape, value.shape)
    assert keys > 0
    query, key, value = _laid(query), _laid(key), _laid(value)
    out = query.new_empty(batch, queries, heads * width)
    strides = _Strides(*query.stride()[:3], *key.stride()[:3], *value.stride()[:3])
    if queries == 1:
        call("one_query", query, key, value, out, strides, batch, heads, keys, width)
    elif out.numel():
        call_product("attention", query, key, value, out, strides, batch, heads, queries, keys, width)
    return out


_Strides = ctypes.c_int64 * 9


def _laid(heads: Tensor) -> Tensor:
    """With every row in one piece that begins where a pair of numbers may."""
    image, head, row, inner = heads.stride()
    return heads if inner == 1 and not (image | head | row) & 1 else heads.contiguous()


@torch.library.register_fake("spd::attention")
def _attention_shape(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    batch, heads, queries, width = query.shape
    return query.new_empty(batch, queries, heads * width)


@register_flop_formula(torch.ops.spd.attention)
def _attention_flops(query: Sequence[int], key: Sequence[int], *_: Any, **__: Any) -> int:
    """Likewise, of both products."""
    return 4 * math.prod(query) * key[2]
