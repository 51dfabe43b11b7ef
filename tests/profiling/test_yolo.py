"""Ultralytics' depth networks as contestants: by a stand-in everywhere, by the real one where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spd.profiling import yolo
from spd.profiling.contestants import yolo_contestant
from spd.profiling.yolo import YoloNetwork

SIZE = (64, 96)
CPU = torch.device("cpu")


class StandIn(nn.Module):
    """A quarter of the image's size: metres that grow by 1 a column and by 100 a row, times the mean of the image."""

    def __init__(self, cfg: str, *, verbose: bool) -> None:
        super().__init__()
        assert cfg == "yolo26n-depth.yaml"
        assert not verbose
        self.convolution = nn.Conv2d(3, 5, 3, bias=False)
        self.is_fused = False

    def fuse(self, *, verbose: bool) -> StandIn:
        assert not verbose
        assert not self.training
        self.is_fused = True
        return self

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2] // 4, images.shape[3] // 4
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        return images.mean((1, 2, 3), keepdim=True) * (100.0 * rows + columns)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["ultralytics.nn.tasks"], "DepthModel", StandIn, raising=False)


def test_the_map_has_the_image_s_size_and_is_read_at_its_pixels(stand_in: None) -> None:
    network = YoloNetwork("yolo26n-depth")
    images = torch.full((2, 3, *SIZE), 0.5)
    images[1] = 1.0
    depth_m = network.encode(images)
    assert depth_m.shape == (2, 1, *SIZE)
    # Its corners are those of the small map of 16 by 24 (align_corners), and it is linear between.
    right, below = 23 / 95, 15 / 63
    points = torch.tensor([[0.0, 0.0], [95.0, 63.0], [19.0, 21.0], [40.5, 0.0]]).expand(2, -1, -1)
    expected = torch.tensor([0.0, 1523.0, 100 * 21 * below + 19 * right, 40.5 * right])
    found = network.decode(depth_m, points)
    torch.testing.assert_close(found, torch.stack((0.5 * expected, expected)), rtol=1e-5, atol=1e-4)


def test_norms_are_folded_and_weights_lie_channels_last(stand_in: None) -> None:
    network = YoloNetwork("yolo26n-depth").network
    assert network.is_fused
    assert not network.training
    assert network.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_without_ultralytics_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yolo, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"^yolo26n-depth needs ultralytics: pip install ultralytics .*AGPL-3\.0"
    ) as told:
        yolo_contestant("yolo26n-depth", SIZE, "torch", "float32", CPU)
    assert "\n" not in str(told.value)


def test_a_release_without_depth_models_is_one_line(stand_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["ultralytics.nn.tasks"], "DepthModel")
    with pytest.raises(ValueError, match=r"importing them failed .*pip install --upgrade ultralytics") as told:
        YoloNetwork("yolo26n-depth")
    assert "\n" not in str(told.value)


class TestWithUltralytics:
    @pytest.fixture(autouse=True)
    def options(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        if find_spec("ultralytics") is None:
            pytest.skip("ultralytics is not installed (AGPL-3.0; pip install ultralytics)")
        # It writes its settings when it is first imported.
        monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        linewidth, precision = torch._tensor_str.PRINT_OPTS.linewidth, torch._tensor_str.PRINT_OPTS.precision
        yield
        torch.set_printoptions(linewidth=linewidth, precision=precision)

    def test_its_map_is_that_of_its_own_predictor(self) -> None:
        """Unfused, resized by its predictor's own lines, from an image as it is loaded from a file."""
        import numpy as np
        from ultralytics import YOLO  # pyright: ignore[reportMissingImports]

        torch.manual_seed(0)
        network = YoloNetwork("yolo26n-depth")
        torch.manual_seed(0)
        theirs = YOLO("yolo26n-depth.yaml")
        pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        (expected,) = theirs.predict(pixels[..., ::-1].copy(), imgsz=list(SIZE), verbose=False, save=False)
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        found = network.encode(images)[0, 0]
        map_m = torch.as_tensor(expected.depth.data).reshape(SIZE)
        assert map_m.std() > 0
        torch.testing.assert_close(found, map_m, rtol=1e-4, atol=0)

    def test_products_are_counted(self) -> None:
        """The counter against the sizes that flow through its convolutions, and the products of its attention."""
        taking_part = yolo_contestant("yolo26n-depth", SIZE, "torch", "float32", CPU)
        counted = 0

        def convolved(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal counted
            if isinstance(module, nn.ConvTranspose2d):
                counted += inputs[0].numel() * module.out_channels * module.weight[0, 0].numel()
            else:
                counted += output.numel() * module.weight[0].numel()

        def attended(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal counted
            tokens = output.shape[2] * output.shape[3]
            counted += module.num_heads * tokens**2 * (module.key_dim + module.head_dim)

        network = YoloNetwork("yolo26n-depth")
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                module.register_forward_hook(convolved)
            elif type(module).__name__ == "Attention":
                module.register_forward_hook(attended)
        network.encode(torch.rand(1, 3, *SIZE))
        assert taking_part.encode_macs == counted
        assert taking_part.decode_macs(7) == 0

    @pytest.mark.parametrize(
        ("runtime", "precision", "tolerance"),
        [("torch", "bfloat16", 0.02), ("onnx", "float32", 1e-4), ("openvino", "float32", 1e-4)],
    )
    def test_every_engine_runs_it(self, runtime: Any, precision: Any, tolerance: float) -> None:
        if runtime != "torch":
            pytest.importorskip("onnxruntime")
            pytest.importorskip("openvino")
        torch.manual_seed(0)
        network = YoloNetwork("yolo26n-depth")
        torch.manual_seed(0)
        taking_part = yolo_contestant("yolo26n-depth", SIZE, runtime, precision, CPU)
        assert taking_part.is_dense
        points = torch.rand(1, 9, 2) * 63
        with torch.no_grad():
            expected = network.decode(network.encode(taking_part.images), points)
        found = taking_part.model.decode(taking_part.model.encode(taking_part.images), points)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
