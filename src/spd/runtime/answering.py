"""A network for answering: its parameters held as the machine multiplies them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from spd import native
from spd.model.linear_gelu import is_fused
from spd.model.network import DepthNetwork
from spd.model.packed_linear import PackedLinear
from spd.model.patch_linear import PatchLinear, is_of_patches
from spd.model.response_norm import ResponseNormMlp
from spd.native.brgemm import multiplied_types


def with_bfloat16_weights(network: nn.Module) -> nn.Module:
    """A copy with the weights of its products in bfloat16, which autocast would make of them at every call.

    Those that a module names in ``float32_layers`` stay as they are: they enter sums too.
    """
    rounded = copy.deepcopy(network)
    kept = {id(getattr(module, name)) for module in rounded.modules() for name in getattr(module, "float32_layers", ())}
    for module in rounded.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and id(module) not in kept:
            module.to(torch.bfloat16)
    return rounded


def packed(network: nn.Module) -> nn.Module:
    """A copy around the same parameters, its linear layers as :class:`PackedLinear` where those are quicker: on a CPU.

    The second layout of their weights is made at their first call, and takes as much memory as the first. The kernels
    multiply for SPD's own networks only: another is run as PyTorch runs it, to be compared with.
    """
    own = isinstance(network, DepthNetwork) and native.at_hand()
    copied = copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if not isinstance(child, (nn.Linear, nn.Conv2d)) or not _is_quicker(child.weight, by_kernels=own):
                continue
            if type(child) is nn.Linear or (isinstance(module, ResponseNormMlp) and name in ("fc1", "fc2")):
                setattr(module, name, PackedLinear.of(child, by_kernels=own))
            elif own and isinstance(child, nn.Conv2d) and is_of_patches(child):
                setattr(module, name, PatchLinear(child, by_kernels=own))
    return copied


def _is_quicker(weight: torch.Tensor, *, by_kernels: bool) -> bool:
    if weight.device.type != "cpu":
        return False
    if weight.shape[0] == 1:  # A sum: there is nothing to lay out.
        return False
    if by_kernels and weight.dtype in multiplied_types():
        return True
    return weight.dtype == torch.bfloat16 and is_fused("cpu", torch.bfloat16)
