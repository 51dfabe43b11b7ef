"""Who takes part in ``spd benchmark``: SPD in both modes, the bilinear baseline, and dense networks of others.

Weights are random, which takes the same time as trained ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spd.baselines.bilinear_mlp import BilinearMLP
from spd.config import Interaction, ModelConfig
from spd.coordinates import pixels_to_cells, read_bilinear
from spd.engines import Precision
from spd.model.convnext import ConvNeXtEncoder
from spd.model.spd import SPD
from spd.predictor import DepthPredictor
from spd.profiling.cost import model_cost
from spd.profiling.latency import Contestant
from spd.profiling.yolo import YoloName, YoloNetwork
from spd.runtime.extras import require
from spd.runtime.torch_runtime import TorchModel
from spd.weighted_rows import WeightedRows

BenchmarkRuntime: TypeAlias = Literal["torch", "compile", "cudagraphs", "onnx", "openvino"]


class DenseNetwork(nn.Module):
    """Depth Anything V2 Small with random weights, on an image that already has the size of its input.

    Its own resizing of the image is left out, as that of SPD is. The map is brought to the image's size, as the authors
    do it, and read at the points.

    Args:
        image_size: (height, width) of the map.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

        backbone = Dinov2Config(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            image_size=518,
            patch_size=14,
            out_indices=[3, 6, 9, 12],  # pyright: ignore[reportCallIssue]
            apply_layernorm=True,
            reshape_hidden_states=False,
        )
        config = DepthAnythingConfig(backbone_config=backbone, depth_estimation_type="metric", max_depth=20)
        self.network = DepthAnythingForDepthEstimation(config)
        self.image_size = image_size
        self.sum_rows = WeightedRows()
        self.register_buffer("mean", torch.tensor(ConvNeXtEncoder.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(ConvNeXtEncoder.pixel_std).view(3, 1, 1), persistent=False)

    def encode(self, images: Float[Tensor, "B 3 Hn Wn"]) -> Float[Tensor, "B 1 H W"]:
        """The map of metres."""
        depth_m = self.network((images - self.mean) / self.std).predicted_depth
        return F.interpolate(depth_m.unsqueeze(1).float(), self.image_size, mode="bilinear", align_corners=True)

    def decode(self, memory: Float[Tensor, "B 1 H W"], query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """The map at the points."""
        return read_bilinear(memory, pixels_to_cells(query_points, 1, "center"), self.sum_rows).squeeze(-1)


def spd_contestant(
    preset: str,
    interaction: Interaction,
    size: tuple[int, int],
    runtime: BenchmarkRuntime,
    precision: Precision,
    device: torch.device,
) -> Contestant:
    """SPD of a preset, trained at ``size`` as far as it knows."""
    config = ModelConfig.preset(preset, train_size=size, interaction=interaction)
    network = SPD(config).eval().to(device)
    return Contestant(
        name=f"spd {preset} {interaction}",
        runtime=runtime,
        precision=precision,
        size=size,
        model=_run_by(network, size, runtime, precision),
        images=torch.rand(1, 3, *size, device=device),
        image_size=size,
        encode_macs=model_cost(config, size, 1).macs("encode"),
        decode_macs=lambda number: model_cost(config, size, number).macs("decode"),
    )


def bilinear_contestant(
    preset: str,
    size: tuple[int, int],
    runtime: BenchmarkRuntime,
    precision: Precision,
    device: torch.device,
) -> Contestant:
    """The bilinear baseline with the encoder of a preset."""
    config = replace(ModelConfig.preset(preset, train_size=size), architecture="bilinear")
    network = BilinearMLP(config).eval().to(device)
    encode_macs, decode_macs = counted(lambda: BilinearMLP(config), size)
    return Contestant(
        name=f"bilinear {preset}",
        runtime=runtime,
        precision=precision,
        size=size,
        model=_run_by(network, size, runtime, precision),
        images=torch.rand(1, 3, *size, device=device),
        image_size=size,
        encode_macs=encode_macs,
        decode_macs=decode_macs,
    )


def depth_anything_contestant(
    size: tuple[int, int],
    image_size: tuple[int, int],
    runtime: BenchmarkRuntime,
    precision: Precision,
    device: torch.device,
) -> Contestant:
    """Depth Anything V2 Small at an input size, for an image of ``image_size``.

    Raises:
        ValueError: a side is no multiple of its patch.
        ImportError: transformers is not installed.
    """
    if any(side % 14 for side in size):
        raise ValueError(f"Depth Anything sees images in multiples of 14, got {size[1]}x{size[0]}")
    network = DenseNetwork(image_size).eval().to(device)
    encode_macs, decode_macs = counted(lambda: DenseNetwork(image_size), size)
    return Contestant(
        name=f"depth-anything {size[0]}x{size[1]}",
        runtime=runtime,
        precision=precision,
        size=size,
        model=_run_by(network, size, runtime, precision),
        images=torch.rand(1, 3, *size, device=device),
        image_size=image_size,
        encode_macs=encode_macs,
        decode_macs=decode_macs,
        is_dense=True,
    )


def yolo_contestant(
    name: YoloName,
    size: tuple[int, int],
    runtime: BenchmarkRuntime,
    precision: Precision,
    device: torch.device,
) -> Contestant:
    """A depth network of Ultralytics at the image's own size.

    Raises:
        ValueError: Ultralytics is not installed.
    """
    network = YoloNetwork(name).to(device)
    encode_macs, decode_macs = counted(lambda: YoloNetwork(name), size)
    return Contestant(
        name=name,
        runtime=runtime,
        precision=precision,
        size=size,
        model=_run_by(network, size, runtime, precision),
        images=torch.rand(1, 3, *size, device=device),
        image_size=size,
        encode_macs=encode_macs,
        decode_macs=decode_macs,
        is_dense=True,
    )


def counted(build: Callable[[], Any], size: tuple[int, int]) -> tuple[int, Callable[[int], int]]:
    """Multiply-accumulates of ``encode``, and of ``decode`` by number of points, as PyTorch's counter has them.

    On the meta device, which computes nothing; attention by its plain formula, whose products the counter knows.
    """
    with torch.device("meta"):
        network = build().eval()
        images = torch.empty(1, 3, *size)

    def macs(call: Callable[[], Any]) -> tuple[int, Any]:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            result = call()
        return counter.get_total_flops() // 2, result

    encode, memory = macs(lambda: network.encode(images))
    return encode, lambda number: macs(lambda: network.decode(memory, torch.empty(1, number, 2, device="meta")))[0]


def _run_by(
    network: nn.Module, size: tuple[int, int], runtime: BenchmarkRuntime, precision: Precision
) -> DepthPredictor:
    if runtime in ("torch", "compile", "cudagraphs"):
        return TorchModel(network, "eager" if runtime == "torch" else runtime, precision)
    require(runtime, exporting=True)
    from spd.runtime.export import to_onnx
    from spd.runtime.onnx_runtime import OnnxModel
    from spd.runtime.openvino_runtime import OpenVINOModel

    graphs = to_onnx(network.cpu(), size)
    contents: tuple[bytes, bytes] = (graphs.encode, graphs.decode)
    if runtime == "openvino":
        return OpenVINOModel(contents, memory=graphs.memory, image_size=size, precision=precision)
    if precision != "float32":
        raise ValueError(f"onnx runs in float32, got {precision}; openvino knows bfloat16 too")
    return OnnxModel(contents, memory=graphs.memory, image_size=size)
