"""A network as graphs hold it: batch norms in the convolutions before them, and sums of rows that engines know."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from spd.weighted_rows import WeightedRows


class GatheredRows(WeightedRows):
    """:class:`spd.weighted_rows.WeightedRows` for engines, which have no ``embedding_bag``."""

    def forward(
        self, table: Float[Tensor, "R C"], rows: Int[Tensor, "N S"], weights: Float[Tensor, "N S"]
    ) -> Float[Tensor, "N C"]:
        """See :func:`spd.weighted_rows.weighted_rows`."""
        return torch.matmul(weights.to(table.dtype).unsqueeze(1), F.embedding(rows, table)).squeeze(1)


def exportable(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode with the same answers, without batch norms and ``embedding_bag``."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        _fold_batch_norms(module)
        for name, child in module.named_children():
            if type(child) is WeightedRows:
                setattr(module, name, GatheredRows())
    return copied


def _fold_batch_norms(parent: nn.Module) -> None:
    """Of each convolution that a batch norm follows among the parts of ``parent``, as timm names them in order."""
    before: nn.Module | None = None
    for name, child in list(parent.named_children()):
        if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            assert child.running_mean is not None
            assert child.running_var is not None
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias
            )
            # timm's batch norm ends with an activation.
            setattr(parent, name, getattr(child, "act", nn.Identity()))
        before = child
