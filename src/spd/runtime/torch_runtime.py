"""A network that PyTorch itself runs: eagerly, compiled, or as CUDA graphs; in float32 or in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spd.config import require_choice
from spd.engines import Precision, TorchMode
from spd.fast import quicken


class TorchModel:
    """A :class:`spd.predictor.DepthPredictor` of a network that is one itself.

    Args:
        network: in evaluation mode, on the device where it is to run.
        mode: ``compile`` compiles at the first calls, which then take about a minute: see
            :func:`spd.runtime.compiled.compiled_calls`. ``cudagraphs`` also records the kernels, so that they start at
            once.
        precision: ``bfloat16`` runs products in it by autocast, with weights that are in it already; locations,
            sums and answers stay float32.
    """

    def __init__(self, network: nn.Module, mode: TorchMode = "eager", precision: Precision = "float32") -> None:
        require_choice("mode", mode, get_args(TorchMode))
        require_choice("precision", precision, get_args(Precision))
        self.source = network
        """As it was given: plain, to save and to export."""
        self.network = network = quicken(network, "answer", precision)
        self.device = next(network.parameters()).device
        self.mode: TorchMode = mode
        self.precision: Precision = precision
        on_cuda = self.device.type == "cuda"
        if mode == "cudagraphs" and not on_cuda:
            raise ValueError(f"cudagraphs need a CUDA device, got {self.device}")
        self._encode: Callable[..., Any] = network.encode  # type: ignore[assignment]
        self._decode: Callable[..., Any] = network.decode  # type: ignore[assignment]
        if mode != "eager":
            from spd.fast.torch_internals import require_cpp_compiler
            from spd.runtime.compiled import compiled_calls

            if not on_cuda:
                require_cpp_compiler()
            kind = "reduce-overhead" if mode == "cudagraphs" else "default"
            self._encode, self._decode = compiled_calls(network, kind, on_cuda=on_cuda)

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Any:
        """Everything that depends on the images alone."""
        with self._precision():
            return self._encode(images)

    @torch.inference_mode()
    def decode(self, memory: Any, query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """Depth in metres, float32."""
        with self._precision():
            answer = self._decode(memory, query_points)
        return answer[0] if isinstance(answer, tuple) else answer

    @torch.inference_mode()
    def decode_with_std(self, memory: Any, query_points: Float[Tensor, "B K 2"]) -> tuple[Tensor, Tensor]:
        """:meth:`decode`, and the standard deviation of its logarithm, of a network that says how sure it is."""
        answer: Callable[..., Any] = self._decode
        if self.mode == "eager":
            answer = self.network.decode_with_std  # type: ignore[assignment]
        with self._precision():
            depth_m, log_std = answer(memory, query_points)
        return depth_m, log_std

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
