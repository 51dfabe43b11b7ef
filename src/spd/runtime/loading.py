"""A checkpoint or an exported model as a predictor, run by PyTorch or by another engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from spd.bundled import bundled_folder
from spd.calibration import Calibration
from spd.checkpoint import load_model
from spd.config import Interaction, require_choice
from spd.estimate import IntervalFactors
from spd.inputs import choose_device
from spd.predictor import Predictor
from spd.runtime.extras import require
from spd.runtime.onnx_runtime import OnnxModel
from spd.runtime.openvino_runtime import OpenVINOModel, Precision
from spd.runtime.package import Engine, graph_files, read_package
from spd.runtime.torch_runtime import TorchMode, TorchModel


def load(
    folder: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    interaction: Interaction | None = None,
    mode: TorchMode = "eager",
    precision: Precision = "float32",
    calibration: Calibration | str | Path | None = None,
) -> Predictor:
    """The predictor of a checkpoint.

    Args:
        folder: the checkpoint's folder, or ``owner/name`` of a repository on the Hugging Face hub; None is the
            checkpoint that comes with SPD, whose weights are for research use only, as the data they were trained on.
        device: where to run; None is the first CUDA device where there is one, else the CPU.
        interaction: ``joint`` or ``anchored`` in place of the mode in which the checkpoint was trained; warns.
        mode: ``compile`` takes a minute at the first answers and saves time at all that follow; ``cudagraphs`` also
            records the kernels of a CUDA device.
        precision: of products; ``bfloat16`` is quicker where the machine multiplies it, and changes depths by about
            .1 %.
        calibration: that :meth:`spd.Predictor.calibrate` made, or the file that it was saved to.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another version, there is no such device, or
            it cannot do what ``mode`` says.
    """
    require_choice("mode", mode, get_args(TorchMode))
    require_choice("precision", precision, get_args(Precision))
    if interaction is not None:
        require_choice("interaction", interaction, get_args(Interaction))
    folder = bundled_folder() if folder is None else folder
    predictor = Predictor.from_model(load_model(folder, choose_device(device), interaction=interaction))
    return run_by_torch(predictor.calibrated(as_calibration(calibration)), mode, precision)


def as_calibration(calibration: Calibration | str | Path | None) -> Calibration | None:
    """A calibration, or that of a file."""
    return Calibration.load(calibration) if isinstance(calibration, str | Path) else calibration


def run_by_torch(predictor: Predictor, mode: TorchMode, precision: Precision) -> Predictor:
    """A predictor whose model is a network, with that network compiled or in another precision; see :func:`load`."""
    network = predictor.model
    if isinstance(network, TorchModel) and network.precision == "float32":
        network = network.source
    assert isinstance(network, nn.Module), type(network)
    if (mode, precision) == ("eager", "float32") and predictor.device.type != "cpu":
        return predictor
    return replace(predictor, model=TorchModel(network, mode, precision))


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
    require_choice("engine", engine, get_args(Engine))
    require_choice("precision", precision, get_args(Precision))
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads must be a whole number of at least 1, got {threads!r}")
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
        has_log_std=config.log_std,
        intervals=IntervalFactors.from_json(description.intervals),
    )
