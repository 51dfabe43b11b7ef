"""A model that OpenVINO runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spd.engines import Precision
from spd.forking import refuse_forked
from spd.runtime.package import require_image_size


class OpenVINOModel:
    """A :class:`spd.predictor.DepthPredictor` of two OpenVINO graphs, on the CPU, for one image at a time.

    Holds nothing about any image; each thread that asks has requests of its own.

    Args:
        graphs: ``encode`` and ``decode``, as files (OpenVINO's or ONNX) or the contents of ONNX files.
        memory: names of the tensors that the first gives and the second takes.
        image_size: (height, width) of the images that the first takes.
        checksum: of what the graphs were read from.
        precision: of the products of ``encode``. ``decode`` is float32 always: it works out where to read, which
            bfloat16 would miss by more than a cell, and it takes a few hundredths of the time.
        threads: None is one for each core.
    """

    def __init__(
        self,
        graphs: tuple[Path | bytes, Path | bytes],
        *,
        memory: Sequence[str],
        image_size: tuple[int, int],
        checksum: str = "",
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> None:
        import openvino

        self._loaded_by = os.getpid()
        self.memory = tuple(memory)
        self.image_size = image_size
        self.identity = f"openvino {precision} {checksum}"
        core = openvino.Core()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        kinds = ({"float32": "f32", "bfloat16": "bf16"}[precision], "f32")
        self._graphs = tuple(
            core.compile_model(_one_image(core.read_model(graph)), "CPU", {**options, "INFERENCE_PRECISION_HINT": kind})
            for graph, kind in zip(graphs, kinds, strict=True)
        )
        self._of_thread = threading.local()

    def encode(self, images: Float[Tensor, "1 3 H W"]) -> list[np.ndarray]:
        """The memory's tensors, which are the caller's: the next image does not overwrite them.

        Raises:
            ValueError: the image has another size than the graph takes, or there is more than one.
        """
        require_image_size(images, self.image_size)
        if len(images) != 1:
            raise ValueError(f"OpenVINO's graphs take one image at a time, got {len(images)}")
        request, _ = self._requests()
        results = request.infer({"images": images.numpy()}, share_inputs=True)
        return [results[name] for name in self.memory]

    def decode(self, memory: list[np.ndarray], query_points: Float[Tensor, "1 K 2"]) -> Float[Tensor, "1 K"]:
        """Depth in metres."""
        return torch.from_numpy(self._ask(memory, query_points)["depth_m"])

    def decode_with_std(self, memory: list[np.ndarray], query_points: Float[Tensor, "1 K 2"]) -> tuple[Tensor, Tensor]:
        """:meth:`decode`, and the standard deviation of its logarithm, of a model that says how sure it is."""
        answers = self._ask(memory, query_points)
        return torch.from_numpy(answers["depth_m"]), torch.from_numpy(answers["log_std"])

    def _ask(self, memory: list[np.ndarray], query_points: Float[Tensor, "1 K 2"]) -> Any:
        _, request = self._requests()
        feed = {"query_points": np.ascontiguousarray(query_points.numpy(), dtype=np.float32)}
        feed.update(zip(self.memory, memory, strict=True))
        return request.infer(feed, share_inputs=True)

    def _requests(self) -> tuple[Any, Any]:
        refuse_forked(self._loaded_by, "OpenVINO")
        if not hasattr(self._of_thread, "requests"):
            encode, decode = self._graphs
            self._of_thread.requests = (encode.create_infer_request(), decode.create_infer_request())
        return self._of_thread.requests


def _one_image(model: Any) -> Any:
    """The graph for a batch of one: what has a fixed size is planned once."""
    shapes = {port.any_name: port.get_partial_shape() for port in model.inputs}
    for shape in shapes.values():
        shape[0] = 1
    model.reshape(shapes)
    return model
