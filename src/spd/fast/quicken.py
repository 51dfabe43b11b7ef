"""From a plain network to a quick one: the one place that swaps modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import torch
from timm.models._efficientnet_blocks import DepthwiseSeparableConv
from timm.models._efficientnet_blocks import InvertedResidual as TimmInvertedResidual
from timm.models.convnext import ConvNeXtBlock as TimmConvNeXtBlock
from torch import nn

from spd import weighted_rows
from spd.engines import Precision
from spd.fast import operators
from spd.fast.attention import FastAttention, FastFeedForward, FastSelfAttention, FastTransformerBlock
from spd.fast.canvas import FastCanvasAccess, FastSpatialCanvas
from spd.fast.convnext_block import FastConvNeXtBlock, is_version_2
from spd.fast.decoder_layer import FastDecoderLayer
from spd.fast.deformable_attention import FastDeformableAttention
from spd.fast.depth_head import FastDepthHead
from spd.fast.depthwise import FastDepthwiseConv2d, is_depthwise
from spd.fast.efficientnet_lite import FastEfficientNetLiteEncoder
from spd.fast.folded_residual import FoldedResidual
from spd.fast.inverted_residual import FastInvertedResidual
from spd.fast.library import is_switched_off
from spd.fast.linear import PackedLinear
from spd.fast.operators.brgemm import multiplied_types
from spd.fast.patch_linear import FastPointwiseConv2d, PatchLinear, is_of_patches
from spd.fast.response_norm import FastResponseNormMlp
from spd.fast.torch_internals import has_pointwise_linear
from spd.fast.weighted_rows import FastWeightedRows
from spd.model import attention, decoder, deformable_attention, depth_head, efficientnet_lite, memory, spatial_canvas
from spd.model.network import DepthNetwork

Purpose = Literal["answer", "train"]
Network = TypeVar("Network", bound=nn.Module)

QUICK: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    attention.Attention: FastAttention.from_module,
    attention.SelfAttention: FastSelfAttention.from_module,
    attention.FeedForward: FastFeedForward.from_module,
    attention.TransformerBlock: FastTransformerBlock.from_module,
    decoder.DecoderLayer: FastDecoderLayer.from_module,
    deformable_attention.DeformableAttention: FastDeformableAttention.from_module,
    depth_head.DepthHead: FastDepthHead.from_module,
    efficientnet_lite.EfficientNetLiteEncoder: FastEfficientNetLiteEncoder.from_module,
    memory.PointwiseConv2d: FastPointwiseConv2d.from_module,
    spatial_canvas.SpatialCanvas: FastSpatialCanvas.from_module,
    spatial_canvas.CanvasAccess: FastCanvasAccess.from_module,
    weighted_rows.WeightedRows: FastWeightedRows.from_module,
}
"""Modules of SPD and what stands in for each, whatever it is for."""


def quicken(network: Network, purpose: Purpose, precision: Precision = "float32") -> Network:
    """The same network in fewer passes over memory: around the parameters of ``network``, which stays as it is.

    The quick network has the same methods and the same answers to rounding. It is to be called and nothing else: save,
    export and hook the plain one. With ``SPD_NATIVE=0`` in the environment it is the plain one.

    Args:
        network: in evaluation mode to ``answer``. One that is not SPD's own gets the layout of its weights alone, to be
            compared with.
        purpose: ``answer`` also folds batch norms and packs weights, once: what is written to the parameters after that
            is not seen. ``train`` keeps every parameter; the mode, training or evaluation, is set on both networks.
        precision: of the products of a network that answers under autocast in bfloat16: its weights are rounded here
            and not at every call. Those that a module names in ``float32_layers`` stay, since they enter sums too.
    """
    if is_switched_off():
        return network
    return _quick_copy(network, purpose, precision, is_own=isinstance(network, DepthNetwork))


def quick_module(plain: nn.Module, purpose: Purpose, precision: Precision = "float32") -> nn.Module:
    """What stands in for one module of SPD's networks, as :func:`quicken` would make it: to be compared with it."""
    return _quick_copy(plain, purpose, precision, is_own=True)


def _quick_copy(plain: Network, purpose: Purpose, precision: Precision, *, is_own: bool) -> Network:
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*plain.parameters(), *plain.buffers())}
    # In a list, so that the outermost module can be swapped too.
    holder = nn.ModuleList([copy.deepcopy(plain, shared)])
    if is_own:
        _swap(holder, purpose)
    if purpose == "answer":
        if precision == "bfloat16":
            _round_weights(holder)
        _pack(holder, by_kernels=is_own and operators.is_available())
    return holder[0]  # type: ignore[return-value]


def _swap(parent: nn.Module, purpose: Purpose) -> None:
    """Put quick modules in the place of plain ones, from the outside in: a quick module keeps its parts."""
    for name, child in list(parent.named_children()):
        quick = _quick(child, purpose)
        if isinstance(parent, TimmConvNeXtBlock) and is_depthwise(child):
            quick = FastDepthwiseConv2d.from_module(child)  # type: ignore[arg-type]
        if quick is not None:
            setattr(parent, name, quick)
        if isinstance(quick, FastEfficientNetLiteEncoder) and purpose == "answer":
            quick.fold_stem()
        _swap(quick or child, purpose)


def _quick(plain: nn.Module, purpose: Purpose) -> nn.Module | None:
    """What stands in for a module; None for one that stays."""
    if isinstance(plain, (TimmInvertedResidual, DepthwiseSeparableConv)):
        return (FoldedResidual if purpose == "answer" else FastInvertedResidual).from_module(plain)
    if isinstance(plain, TimmConvNeXtBlock) and is_version_2(plain):
        return FastConvNeXtBlock.from_module(plain)
    make = QUICK.get(type(plain))
    return None if make is None else make(plain)


def _round_weights(network: nn.Module) -> None:
    """To bfloat16, as parameters of their own."""
    kept = {id(getattr(module, name)) for module in network.modules() for name in getattr(module, "float32_layers", ())}
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and id(module) not in kept:
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().to(torch.bfloat16), requires_grad=False))


def _pack(network: nn.Module, *, by_kernels: bool) -> None:
    """Put :class:`PackedLinear` in the place of linear layers where it is quicker: on a CPU.

    The second layout of their weights is made at their first call, and takes as much memory as the first.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if not isinstance(child, (nn.Linear, nn.Conv2d)) or not _is_quicker(child.weight, by_kernels=by_kernels):
                continue
            if type(child) is nn.Linear or (isinstance(module, FastResponseNormMlp) and name in ("fc1", "fc2")):
                setattr(module, name, PackedLinear.from_module(child, by_kernels=by_kernels))
            elif by_kernels and isinstance(child, nn.Conv2d) and is_of_patches(child):
                setattr(module, name, PatchLinear.from_module(child))


def _is_quicker(weight: torch.Tensor, *, by_kernels: bool) -> bool:
    if weight.device.type != "cpu":
        return False
    if weight.shape[0] == 1:  # A sum: there is nothing to lay out.
        return False
    if by_kernels and weight.dtype in multiplied_types():
        return True
    return weight.dtype == torch.bfloat16 and has_pointwise_linear("cpu", torch.bfloat16)
