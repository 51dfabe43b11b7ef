"""An exported model as a predictor, like :func:`spd.load` for a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spd.predictor import Predictor
from spd.runtime.extras import require
from spd.runtime.onnx_runtime import OnnxModel
from spd.runtime.openvino_runtime import OpenVINOModel, Precision
from spd.runtime.package import Engine, graph_files, read_package


def load_exported(
    folder: str | Path, engine: Engine, *, precision: Precision = "float32", threads: int | None = None
) -> Predictor:
    """The predictor of an exported model, on the CPU.

    Args:
        folder: that ``spd export`` wrote.
        engine: the one it was exported for.
        precision: of OpenVINO's products; ONNX Runtime knows float32 only.
        threads: of the engine; None is one for each core.

    Raises:
        ValueError: the engine is not installed, the folder is no such package, or the engine has no such precision.
    """
    require(engine)
    folder = Path(folder)
    description = read_package(folder, engine)
    graphs = graph_files(folder, engine)
    about: Any = {
        "memory": description.memory,
        "image_size": description.image_size,
        "checksum": description.checksum,
        "threads": threads,
    }
    if engine == "openvino":
        model: OnnxModel | OpenVINOModel = OpenVINOModel(graphs, precision=precision, **about)
    elif precision == "float32":
        model = OnnxModel(graphs, **about)
    else:
        raise ValueError(f"onnx runs in float32, got {precision}; openvino knows bfloat16 too")
    config = description.config
    return Predictor(
        model=model,
        train_size=description.image_size,
        focal_length=config.canonical_focal_length,
        device=torch.device("cpu"),
        joint=config.architecture == "spd" and config.interaction == "joint",
    )
