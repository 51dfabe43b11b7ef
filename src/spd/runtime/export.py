"""A network to two graphs, for ONNX Runtime or for OpenVINO: ``encode`` for one image size, ``decode`` for any K."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from spd.config import ModelConfig, require_choice
from spd.coordinates import STRIDES
from spd.estimate import IntervalFactors
from spd.model.network import DepthNetwork
from spd.runtime.exportable import exportable
from spd.runtime.extras import require
from spd.runtime.graphs import DecodeGraph, EncodeGraph, MemoryLayout, has_log_std, output_names
from spd.runtime.package import Description, Engine, write_package

_EXAMPLE_BATCH, _EXAMPLE_QUERIES = 2, 5
"""Other than 0 and 1, which tracing would take for constants."""


class OnnxGraphs(NamedTuple):
    """Contents of two ONNX files, and the names of the tensors between them."""

    encode: bytes
    decode: bytes
    memory: tuple[str, ...]


def export(
    network: DepthNetwork,
    folder: Path,
    engine: Engine,
    *,
    image_size: tuple[int, int] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Description:
    """Write the network as an exported model.

    Args:
        network: in evaluation mode, on the CPU.
        folder: made if it does not exist.
        engine: which engine is to run it. OpenVINO's graphs are made from those for ONNX.
        image_size: (height, width) of the images that the graphs will take; None is the size of training.
        provenance: where the weights come from; kept in the description.

    Raises:
        ValueError: a side is no multiple of 32, or a package that exporting needs is not installed.
    """
    require_choice("engine", engine, get_args(Engine))
    require(engine, exporting=True)
    size = network.config.train_size if image_size is None else image_size
    if min(size) < STRIDES[-1] or any(side % STRIDES[-1] for side in size):
        raise ValueError(f"size must be (height, width) in multiples of {STRIDES[-1]}, got {size}")
    about: Any = {"image_size": size, "provenance": provenance, "intervals": network.intervals}
    return write_graphs(to_onnx(network, size), network.config, folder, engine, **about)


def write_graphs(
    graphs: OnnxGraphs,
    config: ModelConfig,
    folder: Path,
    engine: Engine,
    *,
    image_size: tuple[int, int],
    provenance: Mapping[str, Any] | None = None,
    intervals: IntervalFactors | None = None,
) -> Description:
    """Write graphs that are at hand as an exported model; see :func:`export`."""
    description = Description(
        engine=engine,
        image_size=image_size,
        memory=graphs.memory,
        model=config.to_json(),
        provenance=dict(provenance or {}),
        intervals=None if intervals is None else intervals.to_json(),
    )
    as_onnx = {"encode.onnx": graphs.encode, "decode.onnx": graphs.decode}
    write_package(folder, description, as_onnx if engine == "onnx" else _openvino(graphs))
    return description


def to_onnx(network: nn.Module, image_size: tuple[int, int]) -> OnnxGraphs:
    """Both graphs of a network with ``encode`` and ``decode``, in evaluation mode and on the CPU.

    Args:
        network: SPD, or another :class:`spd.predictor.DepthPredictor` that is a module.
        image_size: (height, width) of the images that the first graph will take.
    """
    network = exportable(network)
    # Not in inference mode, whose tensors tracing refuses.
    with torch.no_grad():
        images = torch.rand(_EXAMPLE_BATCH, 3, *image_size)
        memory = network.encode(images)  # type: ignore[operator]
        layout = MemoryLayout(memory)
        tensors = layout.flatten(memory)
    batch, points = Dim("batch", min=1), Dim("points", min=0)
    query_points = torch.zeros(_EXAMPLE_BATCH, _EXAMPLE_QUERIES, 2)
    return OnnxGraphs(
        encode=_onnx(EncodeGraph(network, layout), (images,), ({0: batch},), ["images"], layout.names),
        decode=_onnx(
            DecodeGraph(network, layout),
            (query_points, tensors),
            ({0: batch, 1: points}, tuple({0: batch} for _ in tensors)),
            ["query_points", *layout.names],
            output_names(log_std=has_log_std(network)),
        ),
        memory=tuple(layout.names),
    )


def _onnx(
    graph: nn.Module, inputs: tuple[Any, ...], dynamic: tuple[Any, ...], input_names: list[str], output_names: list[str]
) -> bytes:
    """The graph as an ONNX file's contents."""
    with _quiet(), torch.no_grad():
        traced: ExportedProgram = torch.export.export(graph.eval(), inputs, dynamic_shapes=dynamic)
        program = torch.onnx.export(
            traced, dynamo=True, input_names=input_names, output_names=output_names, verbose=False
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        if node.op_type == "Reshape":
            _allow_zero(node)
    return model.SerializeToString()


def _allow_zero(node: Any) -> None:
    """With no points at all a side is zero: zero, and not, as ONNX has it by default, as long as in the input."""
    import onnx

    kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("allowzero", 1)])


def _openvino(graphs: OnnxGraphs) -> dict[str, bytes]:
    """The files of OpenVINO's own format, weights in float32."""
    import openvino

    contents = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, graph in (("encode", graphs.encode), ("decode", graphs.decode)):
            path = Path(temporary, f"{name}.xml")
            model = openvino.convert_model(io.BytesIO(graph))
            openvino.save_model(model, path, compress_to_fp16=False)
            for file in (path, path.with_suffix(".bin")):
                contents[file.name] = file.read_bytes()
    return contents


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporters say of themselves is nothing that a user could act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
