"""A block of ConvNeXt V2: timm's, with fewer passes over its maps when it answers on a CPU."""

from __future__ import annotations

from jaxtyping import Float
from timm.layers.mlp import GlobalResponseNormMlp
from timm.models.convnext import ConvNeXtBlock as TimmBlock
from torch import Tensor, nn

from spd.fast import operators
from spd.fast.depthwise import FastDepthwiseConv2d, is_depthwise
from spd.fast.precision import product_dtype
from spd.fast.response_norm import FastResponseNormMlp


class FastConvNeXtBlock(nn.Module):
    """x + mlp(norm(depthwise convolution of x)) (Woo et al. 2023, ConvNeXt V2)."""

    def __init__(
        self, conv_dw: FastDepthwiseConv2d, norm: nn.LayerNorm, mlp: FastResponseNormMlp, drop_path: nn.Module
    ) -> None:
        super().__init__()
        self.conv_dw = conv_dw
        self.norm = norm
        self.mlp = mlp
        self.drop_path = drop_path

    @classmethod
    def from_module(cls, plain: TimmBlock) -> FastConvNeXtBlock:
        """With the parts of a block for which :func:`is_version_2` holds, under the same names."""
        assert isinstance(plain.conv_dw, nn.Conv2d)
        assert isinstance(plain.mlp, GlobalResponseNormMlp)
        assert isinstance(plain.norm, nn.LayerNorm)
        convolution, mlp = FastDepthwiseConv2d.from_module(plain.conv_dw), FastResponseNormMlp.from_module(plain.mlp)
        return cls(convolution, plain.norm, mlp, plain.drop_path)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """A map to a map of the same shape."""
        first = self.mlp.channels_first
        normed = self._normed(features)
        if isinstance(self.drop_path, nn.Identity) or not self.training:
            residual = features if first else features.permute(0, 2, 3, 1)
            block = self.mlp(normed, residual)
            return block if first else block.permute(0, 3, 1, 2)
        branch = self.drop_path(self.mlp(normed))
        return features + (branch if first else branch.permute(0, 3, 1, 2))

    def _normed(self, features: Float[Tensor, "B C H W"]) -> Tensor:
        """Convolved and normalised, in the layout of the feed-forward."""
        first = self.mlp.channels_first
        if not operators.is_supported(features, features.shape[1]):
            convolved = self.conv_dw(features)
            return self.norm(convolved if first else convolved.permute(0, 2, 3, 1))
        convolution, norm = self.conv_dw, self.norm
        assert convolution.bias is not None
        rounded = features.to(product_dtype(features))
        cells = operators.depthwise_norm(
            rounded.permute(0, 2, 3, 1), convolution.weight, convolution.bias, norm.weight, norm.bias, norm.eps
        )
        return cells.permute(0, 3, 1, 2) if first else cells


def is_version_2(block: TimmBlock) -> bool:
    """Whether its feed-forward normalises responses, and nothing else in it is out of the ordinary."""
    convolution = block.conv_dw
    return (
        isinstance(block.mlp, GlobalResponseNormMlp)
        and isinstance(convolution, nn.Conv2d)
        and is_depthwise(convolution)
        and convolution.kernel_size == (7, 7)
        and convolution.bias is not None
        and isinstance(block.norm, nn.LayerNorm)
        and block.gamma is None
        and isinstance(block.shortcut, nn.Identity)
    )
