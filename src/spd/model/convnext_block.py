"""A block of ConvNeXt V2: timm's, with fewer passes over its maps when it answers on a CPU."""

from __future__ import annotations

from jaxtyping import Float
from timm.models.convnext import ConvNeXtBlock as TimmBlock
from torch import Tensor, nn

from spd import native
from spd.model.depthwise import DepthwiseConv2d
from spd.model.precision import product_dtype
from spd.model.response_norm import ResponseNormMlp


class ConvNeXtBlock(nn.Module):
    """x + mlp(norm(depthwise convolution of x)) (Woo et al. 2023, ConvNeXt V2).

    Args:
        source: of timm, whose feed-forward and convolution are this package's already; its parts become this module's,
            under the same names.
    """

    def __init__(self, source: TimmBlock) -> None:
        super().__init__()
        assert isinstance(source.conv_dw, DepthwiseConv2d)
        assert isinstance(source.mlp, ResponseNormMlp)
        assert isinstance(source.norm, nn.LayerNorm)
        self.conv_dw = source.conv_dw
        self.norm = source.norm
        self.mlp = source.mlp
        self.drop_path = source.drop_path

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """A map to a map of the same shape."""
        first = self.mlp.channels_first
        normed = self._normed(features)
        if isinstance(self.drop_path, nn.Identity) or not self.training:
            added = features if first else features.permute(0, 2, 3, 1)
            block = self.mlp(normed, added)
            return block if first else block.permute(0, 3, 1, 2)
        branch = self.drop_path(self.mlp(normed))
        return features + (branch if first else branch.permute(0, 3, 1, 2))

    def _normed(self, features: Float[Tensor, "B C H W"]) -> Tensor:
        """Convolved and normalised, in the layout of the feed-forward."""
        first = self.mlp.channels_first
        if not native.serves(features, features.shape[1]):
            convolved = self.conv_dw(features)
            return self.norm(convolved if first else convolved.permute(0, 2, 3, 1))
        convolution, norm = self.conv_dw, self.norm
        assert convolution.bias is not None
        rounded = features.to(product_dtype(features))
        cells = native.depthwise_norm(
            rounded.permute(0, 2, 3, 1), convolution.weight, convolution.bias, norm.weight, norm.bias, norm.eps
        )
        return cells.permute(0, 3, 1, 2) if first else cells


def replace_blocks(module: nn.Module) -> None:
    """Put a :class:`ConvNeXtBlock` in the place of every block of ConvNeXt V2 inside ``module``."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, TimmBlock) and _is_version_2(child):
                setattr(parent, name, ConvNeXtBlock(child))


def _is_version_2(block: TimmBlock) -> bool:
    """Its feed-forward normalises responses, and nothing else in it is out of the ordinary."""
    convolution = block.conv_dw
    return (
        isinstance(block.mlp, ResponseNormMlp)
        and isinstance(convolution, DepthwiseConv2d)
        and convolution.weight.shape[2:] == (7, 7)
        and convolution.bias is not None
        and isinstance(block.norm, nn.LayerNorm)
        and block.gamma is None
        and isinstance(block.shortcut, nn.Identity)
    )
