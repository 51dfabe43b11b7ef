"""Exported graphs against the model itself, on weights that a short training has moved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spd.baselines.bilinear_mlp import BilinearMLP
from spd.config import Interaction, ModelConfig
from spd.estimate import IntervalFactors
from spd.model.network import DepthNetwork
from spd.model.spd import SPD
from spd.predictor import DepthPredictor, Predictor, SureDepthPredictor
from spd.runtime.export import OnnxGraphs, export, to_onnx, write_graphs
from spd.runtime.graphs import MemoryLayout
from spd.runtime.loading import load_exported
from spd.runtime.package import Engine

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SIZE = (64, 96)
# All kinds of layer, one of each.
CONFIG = ModelConfig(
    encoder="test_convnext2",
    encoder_heads=4,
    neck_channels=(8, 12, 24, 16),
    neck_heads=4,
    embed_dim=24,
    num_heads=3,
    num_points=2,
    num_deformable_layers=1,
    num_l3_layers=1,
    num_l4_layers=1,
    ffn_ratio=2,
    train_size=SIZE,
)


def trained(network: DepthNetwork) -> DepthNetwork:
    """After a few steps on noise: no weight is at its start, and offsets, gates and canvas are at work."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):
        images = torch.rand(2, 3, *SIZE, generator=generator)
        points = torch.rand(2, 40, 2, generator=generator) * torch.tensor([95.0, 63.0])
        towards = images.mean(1).flatten(1)[:, :40] * 3
        loss = (network.decode_log_depth(network.encode(images), points) - towards).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


LITE = replace(CONFIG, encoder="tf_efficientnet_lite0", encoder_heads=7)


@pytest.fixture(scope="module", params=["joint", "anchored", "bilinear", "lite0"])
def network(request: pytest.FixtureRequest) -> DepthNetwork:
    torch.manual_seed(0)
    if request.param == "lite0":
        return trained(SPD(replace(LITE, interaction="anchored")))
    if request.param == "bilinear":
        return trained(BilinearMLP(replace(CONFIG, architecture="bilinear")))
    interaction: Interaction = request.param
    return trained(SPD(replace(CONFIG, interaction=interaction)))


@pytest.fixture(scope="module")
def graphs(network: DepthNetwork) -> OnnxGraphs:
    return to_onnx(network, SIZE)


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def exported(
    request: pytest.FixtureRequest,
    network: DepthNetwork,
    graphs: OnnxGraphs,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    write_graphs(graphs, network.config, folder, request.param, image_size=SIZE, provenance={"seed": 0})
    return folder


def engine_of(folder: Path) -> Engine:
    return json.loads((folder / "runtime.json").read_text())["engine"]


@pytest.mark.parametrize("num_queries", [0, 1, 7, 256])
def test_an_exported_model_answers_as_the_model(exported: Path, network: DepthNetwork, num_queries: int):
    engine = engine_of(exported)
    predictor = load_exported(exported, engine)
    assert isinstance(predictor.model, DepthPredictor)
    generator = torch.Generator().manual_seed(num_queries)
    batch = 1 if engine == "openvino" else 2
    images = torch.rand(batch, 3, *SIZE, generator=generator)
    points = torch.rand(batch, num_queries, 2, generator=generator) * torch.tensor([95.0, 63.0])
    with torch.inference_mode():
        expected = network(images, points)
    found = predictor.model.decode(predictor.model.encode(images), points)
    assert found.dtype == torch.float32
    assert expected.numel() < 2 or expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_an_exported_model_says_how_sure_it_is(exported: Path, network: DepthNetwork, tmp_path: Path):
    """The second output of the second graph, and the factors beside the graphs."""
    if not isinstance(network, SPD) or network.config.interaction == "joint":
        pytest.skip("one network is enough")
    torch.manual_seed(0)
    sure = SPD(replace(network.config, log_std=True)).eval()
    sure.load_state_dict(network.state_dict(), strict=False)
    assert sure.scale_head is not None
    sure.scale_head.learn_contexts(torch.rand(9, network.config.neck_channels[3]))
    sure.scale_head.novelty.weight.data.fill_(0.3)
    sure.intervals = IntervalFactors(levels=(0.8,), factors=(1.2,), fitted_on=({"data": "nyu"},))
    engine = engine_of(exported)
    export(sure, tmp_path, engine)
    predictor = load_exported(tmp_path, engine)
    assert isinstance(predictor.model, SureDepthPredictor)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    points = np.random.default_rng(1).uniform(0, 63, (9, 2))
    found, expected = (p.encode(image).estimate(points) for p in (predictor, Predictor.from_model(sure)))
    np.testing.assert_allclose(found.log_std, expected.log_std, rtol=1e-4)
    np.testing.assert_allclose(found.interval(0.8), expected.interval(0.8), rtol=1e-4)
    np.testing.assert_array_equal(found.depth_m, predictor(image, points))
    with pytest.raises(ValueError, match="does not say how sure"):
        load_exported(exported, engine).estimate(image, points)


def test_a_predictor_of_it_answers_as_that_of_the_model(exported: Path, network: DepthNetwork):
    """Another size of image than it was exported at, in the same shape; and an image after it does not disturb."""
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 256, (2, 128, 192, 3), dtype=np.uint8)
    points = generator.uniform(0, 127, (9, 2))
    ours, theirs = load_exported(exported, engine_of(exported)), Predictor.from_model(network)
    camera = (150.0, 150.0, 96.0, 64.0)
    scene = ours.encode(first, intrinsics=camera)
    ours.encode(second)
    np.testing.assert_allclose(scene(points), theirs(first, points, intrinsics=camera), rtol=1e-4)
    assert ours.joint == theirs.joint


def test_an_image_of_another_shape_is_refused(exported: Path):
    predictor = load_exported(exported, engine_of(exported))
    with pytest.raises(ValueError, match=r"shape of 96x64, got one that the model sees as 64x96; .*--size 96 64"):
        predictor.encode(np.zeros((96, 64, 3), np.uint8))


def test_the_layout_lists_a_tensor_once_and_maps_channel_last(network: DepthNetwork):
    with torch.no_grad():
        memory = network.encode(torch.rand(2, 3, *SIZE))
        layout = MemoryLayout(memory)
        tensors = layout.flatten(memory)
        again = layout.unflatten(tensors)
        points = torch.rand(2, 5, 2) * 60
        torch.testing.assert_close(network.decode(again, points), network.decode(memory, points), rtol=0, atol=0)
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors) == len(set(layout.names))
    for name, tensor in zip(layout.names, tensors, strict=True):
        if name.startswith(("levels", "canvases")):
            assert tensor.shape[1] * 3 == tensor.shape[2] * 2  # (B, H, W, C)
            assert tensor.is_contiguous()


@pytest.fixture(scope="module")
def small_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    export(BilinearMLP(replace(CONFIG, architecture="bilinear")).eval(), folder, "onnx")
    return folder


def test_refusals(small_package: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"is no exported model: it has no runtime\.json; spd export"):
        load_exported(tmp_path, "onnx")
    with pytest.raises(ValueError, match=r"was exported for onnx, not for openvino; --runtime onnx"):
        load_exported(small_package, "openvino")
    with pytest.raises(ValueError, match=r"onnx runs in float32, got bfloat16"):
        load_exported(small_package, "onnx", precision="bfloat16")
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in small_package.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    (copied / "decode.onnx").write_bytes(b"\0" + (copied / "decode.onnx").read_bytes())
    with pytest.raises(ValueError, match=r"decode\.onnx is not what runtime\.json says"):
        load_exported(copied, "onnx")
    (copied / "runtime.json").write_text('{"engine": "onnx"}')
    with pytest.raises(ValueError, match=r"is no description of an exported model, or a damaged one"):
        load_exported(copied, "onnx")


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    small_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spd.runtime.extras.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx needs onnxruntime: pip install 'spd-depth\[onnx\]'"):
        load_exported(small_package, "onnx")
    with pytest.raises(ValueError, match=r"openvino needs openvino, onnx, onnxscript: pip install 'spd-depth\[openv"):
        export(BilinearMLP(replace(CONFIG, architecture="bilinear")), tmp_path / "out", "openvino")
    assert not (tmp_path / "out").exists()


def test_sizes_that_the_levels_do_not_divide_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"multiples of 32, got \(60, 96\)"):
        export(BilinearMLP(replace(CONFIG, architecture="bilinear")), tmp_path / "out", "onnx", image_size=(60, 96))
    assert not (tmp_path / "out").exists()
