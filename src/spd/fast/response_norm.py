"""ConvNeXt V2's feed-forward with global response normalisation: timm's, with fewer passes over its widest map.

The map between the two linear layers is the widest of the network, four times its channels. Normalisation multiplies
each channel of it by one number per image and adds another, so the second layer can take both into its own weights: the
map is read once for its norms and once by the product. Its gradient needs no pass either: that of the scale is the
gradient of the scaled weights, contracted with the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.activations import GELU
from timm.layers.grn import GlobalResponseNorm
from timm.layers.mlp import GlobalResponseNormMlp
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spd.coordinates import location_dtype
from spd.fast import operators
from spd.fast.linear import linear, packed_weight
from spd.fast.onednn_linear import tall_linear
from spd.fast.precision import cast, product_dtype


class ResponseNorm(nn.Module):
    """y = x · (1 + γ · n) + β with n = ‖x‖ / mean over channels of ‖x‖, the norm of a channel being over its map.

    The plain form (Woo et al. 2023, ConvNeXt V2, equations 1 to 4), with a sum of squares in the place of PyTorch's
    ``vector_norm``, which is slow on a CPU over the axes of a map.

    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = weight
        self.bias = bias

    @classmethod
    def from_module(cls, plain: GlobalResponseNorm) -> ResponseNorm:
        """With the parameters of timm's, in either of its layouts."""
        return cls(plain.weight, plain.bias, plain.eps)

    def forward(
        self, rows: Float[Tensor, "B N C"], squares: Float[Tensor, "B C"] | None = None
    ) -> Float[Tensor, "B N C"]:
        """The cells of each map as rows, and the sums of their squares where they are at hand."""
        if squares is None:
            squares = sum_of_squares(rows) if _is_answering() else rows.to(location_dtype(rows)).square().sum(1)
        scale = response(squares, self.weight, self.eps).scale
        return torch.addcmul(self.bias.to(rows.dtype), rows, scale.unsqueeze(1).to(rows.dtype))


class Response(NamedTuple):
    """How strongly each channel of each map answers."""

    norm: Float[Tensor, "B C"]
    mean: Float[Tensor, "B 1"]
    """Of the norms over the channels, with what keeps it from zero."""
    scale: Float[Tensor, "B C"]
    """1 + γ · norm / mean."""


def response(squares: Float[Tensor, "B C"], weight: Float[Tensor, "C"], eps: float) -> Response:
    """From the sums of squares over each map."""
    # A map of zeros has no direction: clamped, its gradient is zero and not infinite.
    norm = squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()
    mean = norm.mean(1, keepdim=True) + eps
    return Response(norm, mean, 1 + weight * norm / mean)


class FastResponseNormMlp(nn.Module):
    """W₂ · norm(GELU(W₁ x + b₁)) + b₂, the feed-forward of a ConvNeXt V2 block.

    Both of timm's layouts occur: ConvNeXt's small sizes run their feed-forward as 1×1 convolutions on (B, C, H, W), the
    others as linear layers on (B, H, W, C).
    """

    def __init__(
        self, fc1: nn.Linear | nn.Conv2d, act: nn.Module, grn: ResponseNorm, fc2: nn.Linear | nn.Conv2d
    ) -> None:
        super().__init__()
        self.channels_first = isinstance(fc1, nn.Conv2d)
        self.fc1 = fc1
        self.act = act
        # timm has a class of its own for it, and PyTorch's may be told to approximate.
        self.is_gelu = isinstance(act, (nn.GELU, GELU)) and getattr(act, "approximate", "none") == "none"
        self.grn = grn
        self.fc2 = fc2

    @classmethod
    def from_module(cls, plain: GlobalResponseNormMlp) -> FastResponseNormMlp:
        """With the parameters of timm's, under the same names."""
        return cls(plain.fc1, plain.act, ResponseNorm.from_module(plain.grn), plain.fc2)

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        """A map in the layout of the plain module to a map of the same shape, plus the residual."""
        cells, more = self._cells(features), None if residual is None else self._cells(residual).flatten(1, 2)
        rows = cells.flatten(1, 2)
        out = self._by_kernels(rows, more)
        if out is None:
            out = self._fc2(*self._fc1(rows))
            out = out if more is None else more + out
        out = out.unflatten(1, cells.shape[1:3])
        return out.permute(0, 3, 1, 2) if self.channels_first else out

    def _cells(self, features: Tensor) -> Float[Tensor, "B H W C"]:
        return features.permute(0, 2, 3, 1) if self.channels_first else features

    def _by_kernels(self, rows: Float[Tensor, "B N C"], residual: Tensor | None) -> Float[Tensor, "B N C"] | None:
        """The whole feed-forward in two passes over its widest map; None where the kernels do not answer."""
        if not self.is_gelu or (residual is not None and residual.dtype != product_dtype(rows)):
            return None
        weight1, weight2 = packed_weight(self.fc1, rows), packed_weight(self.fc2, rows)
        if weight1 is None or weight2 is None:
            return None
        dtype, grn, bias1, bias2 = weight1.dtype, self.grn, self.fc1.bias, self.fc2.bias
        assert bias1 is not None
        assert bias2 is not None
        wide, squares = operators.fc1(cast(rows, dtype), weight1, cast(bias1, dtype))
        return operators.fc2(wide, squares, grn.weight, grn.bias, grn.eps, weight2, cast(bias2, dtype), residual)

    def _fc1(self, rows: Float[Tensor, "B N C"]) -> tuple[Float[Tensor, "B N W"], Float[Tensor, "B W"] | None]:
        """GELU(W₁ x + b₁), and the sums of its squares where they come with it."""
        if not self.is_gelu:
            return self.act(F.linear(rows, _matrix(self.fc1), self.fc1.bias)), None
        if operators.is_supported(rows, len(self.fc1.weight)):
            wide = linear(self.fc1, rows)
            return wide, operators.gelu_with_squares_(wide)
        return linear(self.fc1, rows, gelu=True), None

    def _fc2(self, wide: Float[Tensor, "B N W"], squares: Float[Tensor, "B W"] | None) -> Float[Tensor, "B N C"]:
        weight, bias = _matrix(self.fc2), self.fc2.bias
        assert bias is not None
        # Weights of each image pay where it has more rows than they have. Compiled programs with a gradient keep the
        # plain form, which theirs is derived from.
        pays = wide.shape[1] >= weight.shape[0]
        if not pays or (torch.compiler.is_compiling() and torch.is_grad_enabled()):
            normed = self.grn(wide, squares)
            return self.fc2(normed) if isinstance(self.fc2, nn.Linear) else F.linear(normed, weight, bias)
        parameters = (self.grn.weight, self.grn.bias, weight, bias, self.grn.eps)
        if torch.is_grad_enabled():
            return _NormedLinear.apply(wide, *parameters)
        return _normed_linear(wide, *parameters, squares)[0]


def _normed_linear(
    rows: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    squares: Tensor | None = None,
) -> tuple[Float[Tensor, "B N C"], Response]:
    """y = (x · s + β) Wᵀ + b with s the scale of x's own response, as x (W · s)ᵀ + (W β + b)."""
    found = response(sum_of_squares(rows) if squares is None else squares, gamma, eps)
    # Weights and scale in the precision of the map, as autocast rounds weights and the plain form its scale: a copy
    # in bfloat16 answers the same, and nothing as large as the weights is made in float32 on the way.
    weight, bias = weight.to(rows.dtype), bias.to(rows.dtype)
    scaled = weight * found.scale.unsqueeze(1).to(rows.dtype)
    shift = torch.addmv(bias, weight, beta.to(rows.dtype))
    if len(rows) == 1:
        return tall_linear(rows, scaled[0], shift), found
    return torch.baddbmm(shift, rows, scaled.transpose(1, 2)), found


class _NormedLinear(torch.autograd.Function):
    """:func:`_normed_linear` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        result, found = _normed_linear(rows, gamma, beta, weight, bias, eps)
        ctx.save_for_backward(rows, gamma, beta, weight, *found)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, gamma, beta, weight, norm, mean, scale = ctx.saved_tensors
        # Per image, the gradient of its scaled weights; all that follows is as small as the weights.
        of_scaled = torch.bmm(grad.transpose(1, 2), rows).to(norm.dtype)
        total = grad.sum((0, 1), dtype=norm.dtype)
        of_weight = torch.addr((of_scaled * scale.unsqueeze(1)).sum(0), total, beta)
        of_beta = total @ weight
        of_scale = (of_scaled * weight).sum(1)
        of_gamma = (of_scale * norm / mean).sum(0)
        of_relative = of_scale * gamma
        common = (of_relative * norm).sum(1, keepdim=True) / (mean.square() * norm.shape[1])
        # d norm / d x is x / norm.
        through_norm = (of_relative / mean - common) / norm
        through_norm = torch.where(norm > torch.finfo(norm.dtype).tiny ** 0.5, through_norm, 0.0)
        of_rows = rows * through_norm.unsqueeze(1).to(rows.dtype)
        of_rows.baddbmm_(grad, (weight * scale.unsqueeze(1)).to(rows.dtype))
        return of_rows, of_gamma, of_beta, of_weight, total, None


def sum_of_squares(rows: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
    """Σ over the rows of x², in float32 at least.

    On a CPU from the mean and the variance that batch normalisation keeps: its kernel reads bfloat16, sums in float32
    and writes nothing, where squaring writes a map in float32.
    """
    dtype = location_dtype(rows)
    # Compiled, the squares of a map in bfloat16 are summed as they are made; one in float32 would be made and summed in
    # one loop over its columns, which is slower than this.
    compiled = torch.compiler.is_compiling() and dtype != rows.dtype
    if rows.device.type != "cpu" or compiled:
        return rows.to(dtype).square().sum(1)
    # Their type is that of the sums; they themselves are never read.
    running = rows.new_zeros(rows.shape[2], dtype=dtype)
    moments = [
        # One image as (1, C, N, 1), the channels last in memory.
        torch.batch_norm_update_stats(image.t()[None, :, :, None], running, running, 0.0)
        for image in rows.contiguous()
    ]
    return torch.stack([mean.square().add_(variance) for mean, variance in moments]).mul_(rows.shape[1])


def _is_answering() -> bool:
    """Without a gradient, and not for a compiler, which has fusions of its own."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _matrix(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """The weights of a linear layer or of a 1×1 convolution, (out, in)."""
    return layer.weight.flatten(1)
