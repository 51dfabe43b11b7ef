from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from spd.config import Interaction, ModelConfig
from spd.model.memory import ImageMemory
from spd.model.spd import SPD
from spd.predictor import DepthPredictor
from spd.runtime.compiled import compiled_calls
from spd.runtime.torch_runtime import Precision, TorchModel


@pytest.fixture(scope="module")
def network() -> SPD:
    torch.manual_seed(0)
    return SPD(ModelConfig.atto(train_size=(64, 96), interaction="anchored")).eval()


def lite0(interaction: Interaction = "anchored") -> SPD:
    """With statistics of batches, as a training leaves them: no norm is at its start."""
    torch.manual_seed(0)
    network = SPD(ModelConfig.lite0(train_size=(64, 96), interaction=interaction))
    with torch.no_grad():
        for _ in range(5):
            network.encode(torch.rand(4, 3, 64, 96))
    return network.eval()


@pytest.fixture(scope="module", params=["atto", "lite0"])
def either(request: pytest.FixtureRequest, network: SPD) -> SPD:
    return network if request.param == "atto" else lite0()


def test_eager_is_the_network(either: SPD) -> None:
    network, model = either, TorchModel(either)
    assert isinstance(model, DepthPredictor)
    images, points = torch.rand(1, 3, 64, 96), torch.rand(1, 9, 2) * 60
    with torch.no_grad():
        expected = network(images, points)
    # Products with packed weights may add up in another order.
    torch.testing.assert_close(model.decode(model.encode(images), points), expected, rtol=1e-5, atol=0)


def test_bfloat16_rounds_products_and_not_answers(either: SPD) -> None:
    images, points = torch.rand(1, 3, 64, 96), torch.rand(1, 500, 2) * 60
    exact, rounded = (
        model.decode(model.encode(images), points)
        for model in (TorchModel(either), TorchModel(either, precision="bfloat16"))
    )
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    # Random weights of many narrow layers pass on more of the rounding than trained ones (docs/runtimes.md).
    assert (rounded / exact - 1).abs().median() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("preset", "interaction"), [("atto", "joint"), ("atto", "anchored"), ("lite0", "anchored")])
def test_compiled_is_the_network(preset: str, interaction: Interaction, precision: Precision) -> None:
    torch.manual_seed(0)
    config = ModelConfig.atto(train_size=(64, 96), interaction=interaction)
    network = lite0(interaction) if preset == "lite0" else SPD(config).eval()
    compiled, eager = TorchModel(network, "compile", precision), TorchModel(network, precision=precision)
    images = torch.rand(1, 3, 64, 96)
    memory, expected_memory = compiled.encode(images), eager.encode(images)
    for number in (9, 1, 0, 40, 256):
        points = torch.rand(1, number, 2) * 60
        found, expected = compiled.decode(memory, points), eager.decode(expected_memory, points)
        torch.testing.assert_close(found, expected, rtol=1e-4 if precision == "float32" else 0.02, atol=0)
    assert not hasattr(points, "_dynamo_dynamic_indices")  # What is asked is left as it was.


@pytest.mark.slow
def test_a_compiled_network_is_never_run_for_another() -> None:
    """Their programs are those of the same functions."""
    images, points = torch.rand(1, 3, 64, 96), torch.rand(1, 9, 2) * 60
    config = ModelConfig.atto(train_size=(64, 96))
    networks = [SPD(replace(config, interaction=kind)).eval() for kind in ("anchored", "anchored", "joint")]
    compiled = [TorchModel(network, "compile") for network in networks]
    found = [model.decode(model.encode(images), points) for model in compiled]
    for network, depths in zip(networks, found, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(depths, network(images, points), rtol=1e-4, atol=0)
    assert not torch.allclose(found[0], found[1], rtol=1e-3)


@pytest.mark.slow
def test_it_compiles_for_each_size_of_image_and_once_for_any_number_of_points() -> None:
    """In a process of its own, since the checks of shapes that tests switch on break a program into pieces."""
    script = """
import torch
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_leaves
from spd import SPD, ModelConfig
from spd.runtime.torch_runtime import TorchModel

torch.manual_seed(0)
network = SPD(ModelConfig.atto(train_size=(64, 96), interaction="anchored")).eval()
model, eager = TorchModel(network, "compile"), TorchModel(network)
images = torch.rand(1, 3, 64, 96)
memory = model.encode(images)
for mine, expected in zip(tree_leaves(memory), tree_leaves(eager.encode(images)), strict=True):
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
for number in (9, 1, 0, 40, 256):
    model.decode(memory, torch.rand(1, number, 2) * 60)
    print(counters["stats"]["unique_graphs"])
other, points = torch.rand(1, 3, 96, 64), torch.rand(1, 30, 2) * 60
expected = eager.decode(eager.encode(other), points)
torch.testing.assert_close(model.decode(model.encode(other), points), expected, rtol=1e-4, atol=0)
print(counters["stats"]["unique_graphs"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "2",
        "3",
        "3",
        "3",
        "3",
        "5",
    ]  # One for the image, two for points; two for another size.


def test_compiling_needs_a_compiler(network: SPD) -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        TorchModel(network, "compile")


def test_a_compiler_that_fails_is_one_clear_line(tmp_path: Path) -> None:
    from torch._inductor import config, utils

    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3, 1, 1))

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return (images * self.scale).exp().sum(1)

        def decode(self, memory: torch.Tensor, query_points: torch.Tensor) -> torch.Tensor:
            return memory.mean() + query_points.sum(-1)

    broken = tmp_path / "g++"
    broken.write_text('#!/bin/sh\ncase "$*" in *--version*) exec g++ --version;; esac\necho no headers >&2; exit 1\n')
    broken.chmod(0o755)
    compiler = config.patch({"cpp.cxx": (str(broken),)})
    with (
        compiler,
        utils.fresh_cache(),
        pytest.raises(ValueError, match=r"^torch\.compile failed; it needs a C\+\+ compiler"),
    ):
        TorchModel(Doubled().eval(), "compile").encode(torch.rand(1, 3, 7, 5))


def test_cuda_graphs_need_cuda(network: SPD) -> None:
    with pytest.raises(ValueError, match="cudagraphs need a CUDA device, got cpu"):
        TorchModel(network, "cudagraphs")


def test_what_recorded_kernels_wrote_is_copied(network: SPD, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs write every answer to the same place; here calls do that are written down for it."""

    def recorded(call: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        places: list[Any] = []

        def replay(*arguments: Any) -> Any:
            answer = call(*arguments)
            places.append(answer)
            for place, written in zip(tree_leaves(places[0]), tree_leaves(answer), strict=True):
                if isinstance(place, torch.Tensor):
                    place.copy_(written)
            return places[0]

        return replay

    monkeypatch.setattr(torch, "compile", recorded)
    encode, decode = compiled_calls(network, "reduce-overhead", on_cuda=True)
    one, other = torch.rand(2, 1, 3, 64, 96)
    points = torch.rand(1, 5, 2) * 60
    with torch.inference_mode():
        memories = [encode(one), encode(other)]
        depths = [decode(memory, points) for memory in memories]
        for images, memory, depth in zip((one, other), memories, depths, strict=True):
            assert isinstance(memory, ImageMemory)
            assert memory.image_size == (64, 96)
            torch.testing.assert_close(depth, network(images, points))
