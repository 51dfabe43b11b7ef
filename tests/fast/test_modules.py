"""Every quick module against the plain one that it stands in for, which computes in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import Tensor, nn

from spd.config import ModelConfig
from spd.coordinates import level_reads
from spd.fast.quicken import QUICK, quick_module
from spd.model.attention import Attention, FeedForward, KeyValue, SelfAttention, TransformerBlock
from spd.model.decoder import DecoderLayer
from spd.model.deformable_attention import DeformableAttention
from spd.model.depth_head import DepthHead
from spd.model.efficientnet_lite import EfficientNetLiteEncoder
from spd.model.memory import PointwiseConv2d
from spd.model.spatial_canvas import CanvasAccess, SpatialCanvas, canvas_places
from spd.model.value_table import ValueTable
from spd.weighted_rows import WeightedRows

D, HEADS, K = 24, 3, 7
SIZES = ((13, 9), (7, 5), (4, 3), (1, 2))
"""Odd sides of four levels; the third is the canvas'."""
CONFIG = ModelConfig(embed_dim=D, neck_channels=(8, 8, D, 8), neck_heads=4, num_heads=HEADS)


class Case(NamedTuple):
    """A plain module and how it is called; ``inputs`` are of the type that it is given."""

    build: Callable[[], nn.Module]
    call: Callable[[Any, torch.dtype], Tensor]


def _random(*shape: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _points() -> Tensor:
    return torch.rand(2, K, 4, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor([9.0, 13.0]) - 0.5


def _table(dtype: torch.dtype) -> ValueTable:
    return ValueTable.of([_random(2, D, *size, dtype=dtype, seed=size[0]) for size in SIZES])


def _kv(dtype: torch.dtype) -> KeyValue:
    return KeyValue(*(_random(2, HEADS, 11, D // HEADS, dtype=dtype, seed=seed) for seed in (5, 6)))


def _decoder_layer(layer: DecoderLayer, dtype: torch.dtype) -> Tensor:
    reads = level_reads(_points().double(), SIZES)[2]
    canvas = _random(2, D, *SIZES[2], dtype=torch.promote_types(dtype, torch.float32), seed=4)
    position = _random(2, K, D, dtype=dtype, seed=2)
    hidden = layer.cross_attend(_random(2, K, D, dtype=dtype), (_kv(dtype),), canvas, reads)
    return layer.self_attend(hidden, position, layer.key_value(hidden, position))


def _canvas(canvas: SpatialCanvas, dtype: torch.dtype) -> Tensor:
    places = canvas_places(_points()[:, :, 2].double(), *SIZES[2], "bilinear", "center")
    dtype_of_map = torch.promote_types(dtype, torch.float32)
    places = places._replace(shares=places.shares.to(dtype_of_map))
    return canvas.write(_random(2, D, *SIZES[2], dtype=dtype_of_map), places, _random(2, K, D, dtype=dtype))


def _access(access: CanvasAccess, dtype: torch.dtype) -> Tensor:
    reads = level_reads(_points().double(), SIZES)[2]
    canvas = _random(2, D, *SIZES[2], dtype=torch.promote_types(dtype, torch.float32), seed=4)
    return access.read(_random(2, K, D, dtype=dtype), canvas, reads)


def _wide_open() -> CanvasAccess:
    """With a gate that its bias opens: near a half a wrong one would hide in the rounding of bfloat16."""
    access = CanvasAccess(D, "hidden")
    nn.init.constant_(access.gate.bias, 1.5)
    return access


def _weighted(sum_rows: WeightedRows, dtype: torch.dtype) -> Tensor:
    rows = torch.randint(17, (K, 5), generator=torch.Generator().manual_seed(7))
    return sum_rows(_random(17, D, dtype=dtype), rows, _random(K, 5, dtype=torch.float64, seed=8))


def _self_attention(attention: SelfAttention, dtype: torch.dtype) -> Tensor:
    tokens, position = _random(2, K, D, dtype=dtype), _random(2, K, D, dtype=dtype, seed=2)
    return attention(tokens + position, attention.key_value(tokens, position))


def _block_of_timm(name: str, *path: str) -> nn.Module:
    model = timm.create_model(name, num_classes=0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return model.get_submodule(".".join(path))


CASES = {
    "Attention": Case(lambda: Attention(D, HEADS, 0.0), lambda m, t: m(_random(2, K, D, dtype=t), _kv(t))),
    "SelfAttention": Case(lambda: SelfAttention(D, HEADS, 0.0), _self_attention),
    "FeedForward": Case(lambda: FeedForward(D, 4), lambda m, t: m(_random(2, K, D, dtype=t))),
    "TransformerBlock": Case(lambda: TransformerBlock(D, HEADS, 4, 0.0), lambda m, t: m(_random(2, K, D, dtype=t))),
    "DecoderLayer": Case(lambda: DecoderLayer(Attention(D, HEADS, 0.0), CONFIG), _decoder_layer),
    "DeformableAttention": Case(
        lambda: DeformableAttention(D, HEADS, 4, 2, "cell"),
        lambda m, t: m(_random(2, K, D, dtype=t), _points().double(), _table(t)),
    ),
    "DepthHead": Case(lambda: DepthHead(D, 2), lambda m, t: m(_random(2, K, D, dtype=t))),
    "EfficientNetLiteEncoder": Case(
        lambda: EfficientNetLiteEncoder("tf_efficientnet_lite0", num_stages=2),
        lambda m, t: m(_random(2, 3, 96, 64, dtype=t))[1],
    ),
    "PointwiseConv2d": Case(lambda: PointwiseConv2d(16, D), lambda m, t: m(_random(2, 16, 7, 5, dtype=t))),
    "SpatialCanvas": Case(lambda: SpatialCanvas(D), _canvas),
    "CanvasAccess": Case(_wide_open, _access),
    "WeightedRows": Case(WeightedRows, _weighted),
    "ConvNeXt V2 block": Case(
        lambda: _block_of_timm("convnextv2_atto", "stages", "0", "blocks", "0"),
        lambda m, t: m(_random(2, 40, 13, 9, dtype=t)),
    ),
    "inverted residual": Case(
        lambda: _block_of_timm("tf_efficientnet_lite0", "blocks", "1", "1"),
        lambda m, t: m(_random(2, 24, 14, 10, dtype=t)),
    ),
}


def test_every_quick_module_is_among_the_cases() -> None:
    assert {kind.__name__ for kind in QUICK} <= set(CASES)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("purpose", ["answer", "train"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_plain_module(name: str, purpose: Any, precision: Any, threads: int) -> None:
    torch.manual_seed(0)
    plain = CASES[name].build().eval()
    with torch.no_grad():
        for parameter in plain.parameters():  # Much of it starts at zero or one, where errors would hide.
            parameter += 0.1 * torch.randn_like(parameter)
    exact = CASES[name].call(copy.deepcopy(plain).double(), torch.float64).detach()
    quick = quick_module(plain, purpose, precision)
    assert type(quick) is not type(plain)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            found = CASES[name].call(quick, torch.float32)
    finally:
        torch.set_num_threads(before)
    error = (found.double() - exact).square().mean().sqrt() / exact.std()
    assert error < (1e-5 if precision == "float32" else 0.03)
