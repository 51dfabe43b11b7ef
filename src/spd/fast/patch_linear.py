"""Convolutions whose patches do not overlap, as linear layers: for a network that only answers, on a CPU."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from spd.fast import operators
from spd.fast.adopting import Adopting
from spd.fast.linear import PackedLinear, linear
from spd.model import memory as plain_memory


class FastPointwiseConv2d(Adopting, plain_memory.PointwiseConv2d):
    """:class:`spd.model.memory.PointwiseConv2d` as a linear layer, in training too: its map lies channel-last."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Every cell by itself."""
        return linear(self, input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchLinear(nn.Module):
    """A convolution of stride k with a kernel of k × k: a linear layer over patches, or over cells if k is one.

    Its map lies channel-last, as that it is given may.

    Args:
        linear: of the patches, in the order in which they lie in memory.
        side: k.
    """

    def __init__(self, linear: PackedLinear, side: int) -> None:
        super().__init__()
        self.linear = linear
        self.side = side

    @classmethod
    def from_module(cls, plain: nn.Conv2d, *, by_kernels: bool = True) -> PatchLinear:
        """With a copy of the weights of a convolution for which :func:`is_of_patches` holds."""
        assert is_of_patches(plain), plain
        weight = plain.weight.detach().permute(0, 2, 3, 1).flatten(1)
        return cls(PackedLinear.from_module(plain, weight=weight, by_kernels=by_kernels), plain.kernel_size[0])

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """(H, W) to (H / k, W / k), rounded down."""
        side, (height, width) = self.side, features.shape[2:]
        cells = features.permute(0, 2, 3, 1)
        if side > 1:
            cells = cells[:, : height // side * side, : width // side * side]
            patches = cells.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
            cells = patches.flatten(3)
        return self.linear(cells).permute(0, 3, 1, 2)


def is_of_patches(layer: nn.Conv2d) -> bool:
    """Whether a :class:`PatchLinear` can stand for ``layer``, and should: of three channels, patches take longer to lay
    out than to convolve.
    """
    if layer.groups != 1 or layer.padding_mode != "zeros" or layer.in_channels < operators.LANES:
        return False
    side = layer.kernel_size[0]
    return layer.kernel_size == layer.stride == (side, side) and (layer.padding, layer.dilation) == ((0, 0), (1, 1))
