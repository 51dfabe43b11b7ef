"""A network that PyTorch itself runs: eagerly, compiled, or as CUDA graphs; in float32 or in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spd.runtime.answering import packed, with_bfloat16_weights

TorchMode = Literal["eager", "compile", "cudagraphs"]
TorchPrecision = Literal["float32", "bfloat16"]


class TorchModel:
    """A :class:`spd.predictor.DepthPredictor` of a network that is one itself.

    Args:
        network: in evaluation mode, on the device where it is to run.
        mode: ``compile`` compiles ``encode`` for each image size, and on CUDA ``decode`` for each number of points; on
            a CPU ``decode`` stays eager, where compiling made it slower. ``cudagraphs`` also records the kernels, so
            that they start at once.
        precision: ``bfloat16`` runs products in it by autocast, on a copy whose weights are in it already; locations,
            sums and answers stay float32.
    """

    def __init__(self, network: nn.Module, mode: TorchMode = "eager", precision: TorchPrecision = "float32") -> None:
        if precision == "bfloat16":
            network = with_bfloat16_weights(network)
            if mode == "eager":
                network = packed(network)
        self.network = network
        self.device = next(network.parameters()).device
        self.precision: TorchPrecision = precision
        on_cuda = self.device.type == "cuda"
        if mode == "cudagraphs" and not on_cuda:
            raise ValueError(f"cudagraphs need a CUDA device, got {self.device}")
        encode: Callable[..., Any] = network.encode  # type: ignore[assignment]
        decode: Callable[..., Any] = network.decode  # type: ignore[assignment]
        kind = "reduce-overhead" if mode == "cudagraphs" else "default"
        self._encode = encode if mode == "eager" else torch.compile(encode, mode=kind)
        self._decode = torch.compile(decode, mode=kind) if mode != "eager" and on_cuda else decode

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """Everything that depends on the images alone."""
        with self._precision():
            return self._encode(images)

    @torch.inference_mode()
    def decode(self, memory: Any, query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """Depth in metres, float32."""
        with self._precision():
            return self._decode(memory, query_points)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
