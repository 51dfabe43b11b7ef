"""EfficientNet-Lite without a pass for the activation of its stem, which its first block makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from spd.fast.adopting import Adopting
from spd.fast.folded_residual import as_convolution
from spd.fast.inverted_residual import convolve
from spd.model import efficientnet_lite as plain


class FastEfficientNetLiteEncoder(Adopting, plain.EfficientNetLiteEncoder):
    """:class:`spd.model.efficientnet_lite.EfficientNetLiteEncoder` around quick blocks."""

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The stem belongs to the first."""
        convolution, norm = self.backbone.conv_stem, self.backbone.bn1
        assert isinstance(convolution, nn.Conv2d)
        batch_norm = norm if isinstance(norm, nn.BatchNorm2d) else None
        first, *others = self.groups()
        return (lambda images: first(convolve(convolution, batch_norm, images)), *others)

    def fold_stem(self) -> None:
        """Put the norm of the stem into its convolution: in a network that only answers."""
        convolution, norm = self.backbone.conv_stem, self.backbone.bn1
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        self.backbone.conv_stem = as_convolution(convolution, norm)
        self.backbone.bn1 = nn.Identity()  # type: ignore[assignment]
