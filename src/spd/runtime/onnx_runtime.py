"""A model that ONNX Runtime runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spd.forking import refuse_forked
from spd.runtime.package import require_image_size


class OnnxModel:
    """A :class:`spd.predictor.DepthPredictor` of two ONNX graphs, on the CPU.

    Holds nothing about any image, so threads may share one.

    Args:
        graphs: ``encode`` and ``decode``, as files or their contents.
        memory: names of the tensors that the first gives and the second takes.
        image_size: (height, width) of the images that the first takes.
        checksum: of what the graphs were read from.
        threads: for the operators; None is one for each core.
    """

    def __init__(
        self,
        graphs: tuple[Path | bytes, Path | bytes],
        *,
        memory: Sequence[str],
        image_size: tuple[int, int],
        checksum: str = "",
        threads: int | None = None,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._loaded_by = os.getpid()
        self.memory = tuple(memory)
        self.image_size = image_size
        self.identity = f"onnx {checksum}"
        self._value = onnxruntime.OrtValue
        self._encode, self._decode = (
            onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for graph in graphs
        )

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> list[Any]:
        """The memory's tensors as ONNX Runtime holds them: they are not copied between the graphs.

        Raises:
            ValueError: the images have another size than the graph takes.
        """
        refuse_forked(self._loaded_by, "ONNX Runtime")
        require_image_size(images, self.image_size)
        feed = {"images": self._value.ortvalue_from_numpy(_as_array(images))}
        return list(self._encode.run_with_ort_values(list(self.memory), feed))

    def decode(self, memory: list[Any], query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """Depth in metres; of no points without running the graph, which ONNX Runtime can from 1.32."""
        return self._ask(memory, query_points, ["depth_m"])[0]

    def decode_with_std(self, memory: list[Any], query_points: Float[Tensor, "B K 2"]) -> tuple[Tensor, Tensor]:
        """:meth:`decode`, and the standard deviation of its logarithm, of a model that says how sure it is."""
        depth_m, log_std = self._ask(memory, query_points, ["depth_m", "log_std"])
        return depth_m, log_std

    def _ask(self, memory: list[Any], query_points: Float[Tensor, "B K 2"], names: list[str]) -> list[Tensor]:
        if query_points.shape[1] == 0:
            return [query_points.new_zeros(query_points.shape[:2]) for _ in names]
        refuse_forked(self._loaded_by, "ONNX Runtime")
        feed = {"query_points": self._value.ortvalue_from_numpy(_as_array(query_points))}
        feed.update(zip(self.memory, memory, strict=True))
        return [torch.from_numpy(value.numpy()) for value in self._decode.run_with_ort_values(names, feed)]


def _as_array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy(), dtype=np.float32)
