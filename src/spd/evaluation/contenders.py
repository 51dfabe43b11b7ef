"""From a name and a checkpoint to something that answers points, and a checksum of all that its answers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from spd.baselines import bilinear_mlp, constant, depth_anything
from spd.config import Interaction
from spd.data.rgbd import RGBDDataset
from spd.depth_range import DepthRange
from spd.engines import Precision, Runtime
from spd.predictor import Predictor
from spd.runtime.loading import load, load_exported, run_by_torch
from spd.runtime.onnx_runtime import OnnxModel
from spd.runtime.openvino_runtime import OpenVINOModel
from spd.runtime.torch_runtime import TorchModel

ModelName = Literal["spd", "bilinear", "depth-anything", "median", "mean-map"]

_TRAINED = ("spd", "bilinear")
"""Models that are a checkpoint of ours."""


class Contender(NamedTuple):
    """A model that is to be evaluated."""

    model: ModelName
    source: str | None
    """Checkpoint, or where Depth Anything's weights are; None for the constants."""

    @property
    def name(self) -> str:
        """How tables, legends and files call it: the model, and its checkpoint's folder where it has one."""
        if self.model not in _TRAINED or self.source is None:
            return self.model
        folder = Path(self.source).resolve().name
        return folder if folder.startswith(self.model) else f"{self.model}-{folder}"


def contenders(
    models: Sequence[ModelName], checkpoints: Sequence[str], depth_anything_source: str | None
) -> tuple[Contender, ...]:
    """The models in their order, each trained one with the next of the checkpoints.

    Raises:
        ValueError: there are more or fewer checkpoints than models that need one, or two would have the same name.
    """
    needing = [model for model in models if model in _TRAINED]
    if len(checkpoints) != len(needing):
        wanted = f"one for each of {', '.join(needing)}, in that order" if needing else f"none for {', '.join(models)}"
        raise ValueError(f"--checkpoint must name {wanted}; got {len(checkpoints)}")
    remaining = iter(checkpoints)
    chosen = tuple(Contender(model, _source(model, remaining, depth_anything_source)) for model in models)
    names = [contender.name for contender in chosen]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two models would both be called {doubled[0]}; rename a checkpoint's folder")
    return chosen


def _source(model: ModelName, checkpoints: Iterator[str], depth_anything_source: str | None) -> str | None:
    if model in _TRAINED:
        return next(checkpoints)
    if model == "depth-anything":
        return depth_anything_source or depth_anything.DEFAULT_SOURCE
    return None


def build(
    contender: Contender,
    *,
    training_frames: Callable[[], RGBDDataset],
    depth_range: DepthRange,
    device: str | None,
    interaction: Interaction | None = None,
    runtime: Runtime = "torch",
    precision: Precision = "float32",
    fitting: Callable[[int], None] | None = None,
) -> Predictor:
    """The predictor of a contender; a constant is fitted now.

    Args:
        contender: of :func:`contenders`.
        training_frames: reads the frames that a constant is fitted to.
        depth_range: of the true depths that it is fitted to.
        device: where a model runs; None is CUDA where there is one.
        interaction: of SPD, in place of the mode in which it was trained.
        runtime: the engine of spd and bilinear; for onnx and openvino their sources are folders of ``spd export``.
        precision: of the products of spd and bilinear.
        fitting: called with the number of frames that have just been fitted.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another model; Depth Anything's weights are not at hand;
            the data set has no training frames; a device or a mode is given that the engine does not know.
    """
    if contender.model in _TRAINED:
        if runtime in ("onnx", "openvino"):
            for name, value in (("device", device), ("interaction", interaction)):
                if value is not None:
                    raise ValueError(f"{name} is for runtime torch or compile, got {value} with runtime {runtime}")
            return load_exported(_needed(contender), runtime, precision=precision)
        mode = "eager" if runtime == "torch" else "compile"
        if contender.model == "spd":
            return load(_needed(contender), device=device, interaction=interaction, mode=mode, precision=precision)
        return run_by_torch(bilinear_mlp.load(_needed(contender), device=device), mode, precision)
    if contender.model == "depth-anything":
        return depth_anything.load(_needed(contender), device=device)
    fit = constant.fit_median if contender.model == "median" else constant.fit_log_mean_map
    return fit(training_frames(), depth_range, progress=fitting)


def model_checksum(predictor: Predictor) -> str:
    """A checksum of the weights in memory, of the configuration, and of how images are brought to the model."""
    model = predictor.model
    if isinstance(model, (OnnxModel, OpenVINOModel)):
        return hashlib.sha256(model.identity.encode()).hexdigest()
    run = ()
    if isinstance(model, TorchModel):
        run = (model.mode, model.precision)
        # Run like that, a network answers as it does by itself.
        model, run = model.source, () if run == ("eager", "float32") else run
    assert isinstance(model, torch.nn.Module), type(model)
    config = getattr(model, "config", None)
    settings = {
        "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else repr(config),
        "train_size": predictor.train_size,
        "focal_length": predictor.focal_length,
    }
    if run:
        settings["run"] = run
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _needed(contender: Contender) -> str:
    assert contender.source is not None, contender
    return contender.source
