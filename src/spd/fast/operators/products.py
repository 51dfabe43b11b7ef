"""The kernels of linear layers as PyTorch operators.

Weights are packed first, but for a few rows: laid out as the products read them. A compiler whose weights are constants
packs them once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from spd.fast.operators.calls import LANES, OPERATORS, call, call_product, run

FEW_ROWS = 4
"""With more, packed weights are quicker than those that are read as they lie."""

OPERATORS.define("pack(Tensor weight) -> Tensor")
OPERATORS.define("linear(Tensor rows, Tensor packed, Tensor? bias, Tensor? residual, bool gelu) -> Tensor")
OPERATORS.define("few_rows(Tensor rows, Tensor weight, Tensor? bias, Tensor? residual, bool gelu) -> Tensor")
OPERATORS.define("fc1(Tensor rows, Tensor packed, Tensor bias) -> (Tensor, Tensor)")
OPERATORS.define(
    "fc2(Tensor rows, Tensor squares, Tensor gamma, Tensor beta, float eps, Tensor packed, Tensor bias, "
    "Tensor? residual) -> Tensor"
)


def pack(weight: Float[Tensor, "W C"]) -> Float[Tensor, "W C"]:
    """The weights of a linear layer in the order in which its product reads them.

    Args:
        weight: float32 or bfloat16, both sides multiples of eight.
    """
    return run("pack", _pack, weight)


def linear(
    rows: Float[Tensor, "*N C"],
    packed: Float[Tensor, "W C"],
    bias: Float[Tensor, "W"] | None = None,
    residual: Float[Tensor, "*N W"] | None = None,
    *,
    gelu: bool = False,
) -> Float[Tensor, "*N W"]:
    """W x + b, its GELU if asked, plus the residual; sums in float32.

    Args:
        rows: of the same type as all that follows.
        packed: of :func:`pack`.
        bias: None is zero.
        residual: likewise.
        gelu: exact, as that of :func:`spd.fast.operators.gelu_with_squares_`.
    """
    return run("linear", _linear, rows, packed, bias, residual, gelu)


def few_rows(
    rows: Float[Tensor, "*N C"],
    weight: Float[Tensor, "W C"],
    bias: Float[Tensor, "W"] | None = None,
    residual: Float[Tensor, "*N W"] | None = None,
    *,
    gelu: bool = False,
) -> Float[Tensor, "*N W"]:
    """:func:`linear` of weights as they are: quicker for a few rows, which wait for the weights alone.

    Args:
        rows: of the same type as all that follows.
        weight: both sides multiples of eight.
        bias: None is zero.
        residual: likewise.
        gelu: as of :func:`linear`.
    """
    return run("few_rows", _few_rows, rows, weight, bias, residual, gelu)


def fc1(
    rows: Float[Tensor, "B N C"], packed: Float[Tensor, "W C"], bias: Float[Tensor, "W"]
) -> tuple[Float[Tensor, "B N W"], Float[Tensor, "B W"]]:
    """GELU(W x + b), and the sums of its squares over the rows of each image, in float32."""
    return run("fc1", _fc1, rows, packed, bias)


def fc2(
    rows: Float[Tensor, "B N W"],
    squares: Float[Tensor, "B W"],
    gamma: Float[Tensor, "W"],
    beta: Float[Tensor, "W"],
    eps: float,
    packed: Float[Tensor, "C W"],
    bias: Float[Tensor, "C"],
    residual: Float[Tensor, "B N C"] | None = None,
) -> Float[Tensor, "B N C"]:
    """A linear layer of normalised responses: W (x · (1 + γ · n) + β) + b, plus the residual.

    n is √squares over its mean over the channels (Woo et al. 2023, ConvNeXt V2, equations 1 to 4). It is multiplied
    into the weights, in float32.

    Args:
        rows: x.
        squares: of :func:`fc1`, in float32.
        gamma: float32.
        beta: float32.
        eps: added to the mean.
        packed: of :func:`pack`.
        bias: b.
        residual: None is zero.
    """
    return run("fc2", _fc2, rows, squares, gamma, beta, eps, packed, bias, residual)


@torch.library.impl(OPERATORS, "pack", "CPU")
def _pack(weight: Tensor) -> Tensor:
    assert weight.shape[0] % LANES == weight.shape[1] % LANES == 0, weight.shape
    weight = weight.contiguous()
    packed = torch.empty_like(weight)
    call("pack", weight, packed, *weight.shape)
    return packed


@torch.library.register_fake("spd::pack")
def _pack_shape(weight: Tensor) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@torch.library.impl(OPERATORS, "linear", "CPU")
def _linear(rows: Tensor, packed: Tensor, bias: Tensor | None, residual: Tensor | None, gelu: bool) -> Tensor:
    rows, residual, out = _checked(rows, packed, bias, residual)
    columns, inner = packed.shape
    if rows.numel():
        call_product("linear", rows, packed, bias, residual, out, rows.numel() // inner, inner, columns, int(gelu))
    return out


@torch.library.impl(OPERATORS, "few_rows", "CPU")
def _few_rows(rows: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, gelu: bool) -> Tensor:
    columns, inner = weight.shape
    assert columns % LANES == inner % LANES == 0, weight.shape
    rows, residual, out = _checked(rows, weight, bias, residual)
    call("few_rows", rows, weight.contiguous(), bias, residual, out, rows.numel() // inner, inner, columns, int(gelu))
    return out


@torch.library.register_fake("spd::few_rows")
@torch.library.register_fake("spd::linear")
def _linear_shape(rows: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return rows.new_empty(*rows.shape[:-1], len(weight))


@torch.library.impl(OPERATORS, "fc1", "CPU")
def _fc1(rows: Tensor, packed: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    rows = rows.contiguous()
    _check(rows, packed, bias)
    out, squares = _fc1_shape(rows, packed, bias)
    call_product("fc1", rows, packed, bias, out, squares, *rows.shape, len(packed))
    return out, squares


@torch.library.register_fake("spd::fc1")
def _fc1_shape(rows: Tensor, packed: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    squares = rows.new_empty(rows.shape[0], len(packed), dtype=torch.float32)
    return rows.new_empty(*rows.shape[:2], len(packed)), squares


@torch.library.impl(OPERATORS, "fc2", "CPU")
def _fc2(
    rows: Tensor,
    squares: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    packed: Tensor,
    bias: Tensor,
    residual: Tensor | None,
) -> Tensor:
    rows = rows.contiguous()
    out = rows.new_empty(*rows.shape[:2], len(packed))
    _check(rows, packed, bias, residual)
    floats = [tensor.float().contiguous() for tensor in (squares, gamma, beta)]
    if residual is not None:
        assert residual.shape == out.shape, (residual.shape, out.shape)
        residual = residual.contiguous()
    call_product("fc2", rows, *floats, float(eps), packed, bias, residual, out, *rows.shape, len(packed))
    return out


@torch.library.register_fake("spd::fc2")
def _fc2_shape(
    rows: Tensor, squares: Tensor, gamma: Tensor, beta: Tensor, eps: float, packed: Tensor, *_: Any
) -> Tensor:
    return rows.new_empty(*rows.shape[:2], len(packed))


@register_flop_formula([torch.ops.spd.linear, torch.ops.spd.few_rows, torch.ops.spd.fc1])
def _linear_flops(rows: Sequence[int], packed: Sequence[int], *_: Any, **__: Any) -> int:
    """Two for a multiplication and addition, as PyTorch counts its own; arguments are shapes."""
    return 2 * math.prod(rows) * packed[0]


@register_flop_formula(torch.ops.spd.fc2)
def _fc2_flops(rows: Sequence[int], *arguments: Any, **_: Any) -> int:
    """Likewise."""
    return _linear_flops(rows, arguments[4])


def _checked(
    rows: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows and residual as the kernels read them, and where the result goes."""
    _check(rows, weight, bias, residual)
    out = _linear_shape(rows, weight)
    assert residual is None or residual.shape == out.shape, (residual.shape, out.shape)
    return rows.contiguous(), None if residual is None else residual.contiguous(), out


def _check(rows: Tensor, packed: Tensor, *others: Tensor | None) -> None:
    """The kernels read memory by these; a compiler or a caller that mixes types would have them read other numbers."""
    dtype = rows.dtype
    assert rows.shape[-1] == packed.shape[1], (rows.shape, packed.shape)
    assert packed.dtype == dtype, (packed.dtype, dtype)
    for tensor in others:
        assert tensor is None or tensor.dtype == dtype, (tensor.dtype, dtype)
