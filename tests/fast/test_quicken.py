"""What ``quicken`` swaps, rounds and packs, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from spd.baselines.bilinear_mlp import BilinearMLP
from spd.config import ModelConfig
from spd.fast import library, quicken
from spd.fast.folded_residual import FoldedResidual
from spd.fast.linear import PackedLinear
from spd.fast.operators.brgemm import multiplied_types
from spd.fast.quicken import QUICK
from spd.fast.torch_internals import has_pointwise_linear
from spd.model.network import DepthNetwork
from spd.model.spd import SPD


def network_of(kind: str) -> DepthNetwork:
    """Of random weights; EfficientNet-Lite with statistics of batches, as a training leaves them."""
    torch.manual_seed(1)
    config = ModelConfig.atto(train_size=(64, 96))
    if kind == "bilinear":
        return BilinearMLP(replace(config, architecture="bilinear")).eval()
    if kind != "lite0":
        return SPD(replace(config, interaction=kind)).eval()
    network = SPD(ModelConfig.lite0(train_size=(64, 96)))
    with torch.no_grad():
        for _ in range(5):
            network.encode(torch.rand(4, 3, 64, 96))
    return network.eval()


KINDS = ["anchored", "joint", "bilinear", "lite0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("purpose", ["answer", "train"])
def test_no_plain_module_is_left_and_the_network_is_as_it_was(kind: str, purpose: str) -> None:
    network = network_of(kind)
    before = {name: (type(module), id(module)) for name, module in network.named_modules()}
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    quick = quicken(network, purpose)
    assert not any(type(module) in QUICK for module in quick.modules())
    assert {name: (type(module), id(module)) for name, module in network.named_modules()} == before
    images, points = torch.rand(2, 3, 70, 90), torch.rand(2, 9, 2) * 60
    with torch.no_grad():
        torch.testing.assert_close(quick(images, points), network(images, points), rtol=2e-5, atol=0)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_training_has_the_parameters_and_buffers_of_the_plain_network(kind: str) -> None:
    network = network_of(kind)
    quick = quicken(network, "train")
    assert [*map(id, quick.parameters())] == [*map(id, network.parameters())]
    assert {*map(id, quick.buffers())} <= {*map(id, network.buffers())}
    assert quick.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_plain_network(kind: str) -> None:
    """In float64, through every quick module with a gradient of its own."""
    network = network_of(kind).double().train()
    network.encoder.freeze_statistics()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]
    for parameter in network.parameters():
        nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.05)
    images, points = torch.rand(2, 3, 70, 90).double(), torch.rand(2, 9, 2).double() * 60
    towards = torch.randn(2, 9).double()
    # Depth does not depend on how sure it is.
    parameters = {name: of for name, of in network.named_parameters() if not name.startswith("scale_head")}
    found, expected = (
        torch.autograd.grad((of(images, points).log() * towards).sum(), list(parameters.values()))
        for of in (quicken(network, "train"), network)
    )
    for name, mine, theirs in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("word", ["0", "false"])
def test_the_switch_leaves_the_plain_network(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, word)
    network = network_of("anchored")
    assert quicken(network, "answer", "bfloat16") is network
    assert quicken(network, "train") is network


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_weights_are_those_that_autocast_makes(kind: str) -> None:
    """Rounded beforehand or at each call: the same answers to the rounding of sums."""
    network = network_of(kind)
    images, points = torch.rand(1, 3, 96, 64), torch.rand(1, 500, 2) * 60
    rounded, single = quicken(network, "answer", "bfloat16"), quicken(network, "answer")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(rounded(images, points), single(images, points), rtol=0.02, atol=0)
    of = {name for name, weights in rounded.state_dict().items() if weights.dtype == torch.bfloat16}
    of_encoder = "blocks.1.0.expand.weight" if kind == "lite0" else "stages.0.blocks.0.mlp.fc1.weight"
    assert {f"encoder.backbone.{of_encoder}", "depth_head.hidden.weight"} <= of
    assert "depth_head.output.weight" not in of
    assert all(weights.dtype != torch.bfloat16 for weights in network.state_dict().values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_linear_layer_is_packed_once(precision: str) -> None:
    dtype = getattr(torch, precision)
    if dtype not in multiplied_types() and not (precision == "bfloat16" and has_pointwise_linear("cpu", dtype)):
        pytest.skip(f"PyTorch's own product of {precision} is as quick here")
    network = network_of("anchored")
    quick = quicken(network, "answer", precision)
    plain = {name: type(module) for name, module in network.named_modules()}
    layers = {name: module for name, module in quick.named_modules() if isinstance(module, PackedLinear)}
    left = {name for name, kind in plain.items() if kind is nn.Linear} - set(layers)
    assert {name.rpartition(".")[2] for name in left} == {"output", "gate"}  # Of one column each.
    assert sum(name.endswith("output") for name in left) == 1
    assert {name for name in plain if name.endswith((".mlp.fc1", ".mlp.fc2"))} <= set(layers)
    assert {name for name in layers if name.startswith("neck.projections")} == {
        f"neck.projections.{level}.0.linear" for level in range(4)
    }
    if precision == "float32":
        parameters = dict(quick.named_parameters())
        linear = {name for name, kind in plain.items() if kind is nn.Linear}
        for name, own in network.named_parameters():
            assert name.rpartition(".")[0] not in linear or parameters[name] is own, name
    images, points = torch.rand(1, 3, 64, 96), torch.rand(1, 9, 2) * 60
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        first = quick(images, points)
        kept = {name: (layer._packed, layer._reordered) for name, layer in layers.items()}
        assert torch.equal(quick(images, points), first)
    assert all((layer._packed, layer._reordered) == kept[name] for name, layer in layers.items())
    used = [pair for pair in kept.values() if pair != (None, None)]
    assert len(used) > len(layers) / 2


def test_the_kernel_of_whole_blocks_has_its_weights_packed_once() -> None:
    if torch.float32 not in multiplied_types():
        pytest.skip("PyTorch's own product of float32 is as quick here")
    quick = quicken(network_of("lite0"), "answer")
    blocks = [module for module in quick.modules() if isinstance(module, FoldedResidual)]
    assert len(blocks) == 16
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        quick.encode(images)
    called = {event.key: event.count for event in profiler.key_averages()}
    assert called["spd::inverted_residual"] == 16
    assert "spd::relu6_depthwise" not in called
    for block in blocks:
        for layer in (block.expand, block.project):
            assert layer is None or (isinstance(layer, PackedLinear) and layer._packed is not None)


def test_the_kernels_multiply_for_no_other_network() -> None:
    """One to be compared with runs as PyTorch runs it."""
    other = nn.Sequential(nn.Linear(32, 64), nn.Conv2d(8, 8, 1))
    assert [type(layer) for layer in quicken(other, "answer")] == [nn.Linear, nn.Conv2d]
    rounded = quicken(other, "answer", "bfloat16")[0]
    assert not isinstance(rounded, PackedLinear) or not rounded.by_kernels
