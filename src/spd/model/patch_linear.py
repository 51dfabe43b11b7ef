"""Convolutions whose patches do not overlap, as linear layers: for a network that only answers, on a CPU."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from spd import native
from spd.model.packed_linear import PackedLinear


class PatchLinear(nn.Module):
    """A convolution of stride k with a kernel of k × k: a linear layer over patches, or over cells if k is one.

    Its map lies channel-last, as that it is given may.

    Args:
        source: such a convolution; a copy of its weights is kept, in the order in which a patch lies in memory.
        by_kernels: see :class:`PackedLinear`.
    """

    def __init__(self, source: nn.Conv2d, *, by_kernels: bool) -> None:
        super().__init__()
        assert is_of_patches(source), source
        self.side = source.kernel_size[0]
        flat = source.weight.detach().permute(0, 2, 3, 1).flatten(1)
        self.linear = PackedLinear.of(source, weight=flat, by_kernels=by_kernels)

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
    if layer.groups != 1 or layer.padding_mode != "zeros" or layer.in_channels < native.LANES:
        return False
    side = layer.kernel_size[0]
    return layer.kernel_size == layer.stride == (side, side) and (layer.padding, layer.dilation) == ((0, 0), (1, 1))
