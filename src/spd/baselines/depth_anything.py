"""Depth Anything V2 (Yang et al. 2024), metric, through transformers: a dense map that is read at the points.

The weights at :data:`DEFAULT_SOURCE` are the authors': ViT-S fine-tuned on the synthetic rooms of Hypersim, depth up to
20 m; the authors put their Small models under Apache-2.0. They are not the model of the paper's NYU Depth V2 table,
which was fine-tuned on that data set and never published.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd.checkpoint import WEIGHTS_FILE, locate
from spd.coordinates import pixels_to_cells, read_bilinear
from spd.inputs import choose_device
from spd.messages import one_line
from spd.predictor import Predictor

DEFAULT_SOURCE = "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"

_CONFIG_FILE = "config.json"
_PROCESSOR_FILE = "preprocessor_config.json"
_BICUBIC = 3
"""PIL's number of the filter, which is what the processor's configuration has."""


@dataclass(frozen=True, kw_only=True)
class DepthAnythingConfig:
    """What the answers depend on beside the weights: how an image is brought to the network, and its range."""

    size: tuple[int, int]
    """(height, width) in pixels to one of which the image is scaled."""
    multiple: int
    """Both sides are multiples of this many pixels, the network's patch."""
    keep_aspect_ratio: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of RGB in [0, 1]."""
    max_depth_m: float

    @classmethod
    def from_json(cls, model: dict[str, Any], processor: dict[str, Any]) -> DepthAnythingConfig:
        """From the contents of ``config.json`` and ``preprocessor_config.json``.

        Raises:
            ValueError: it is another kind of model, predicts relative depth, or its images are prepared in another way.
        """
        if (kind := model.get("model_type")) != "depth_anything":
            raise ValueError(f"model_type must be depth_anything, got {kind}")
        if (depth := model.get("depth_estimation_type", "relative")) != "metric":
            raise ValueError(f"depth_estimation_type must be metric, since depths are metres here, got {depth}")
        for name, expected in (("do_resize", 1), ("resample", _BICUBIC), ("do_normalize", 1), ("do_pad", 0)):
            if (found := processor.get(name, expected) or 0) != expected:
                raise ValueError(f"{_PROCESSOR_FILE} must have {name} {expected}, got {found}")
        try:
            return cls(
                size=(int(processor["size"]["height"]), int(processor["size"]["width"])),
                multiple=int(processor["ensure_multiple_of"]),
                keep_aspect_ratio=bool(processor["keep_aspect_ratio"]),
                mean=_triple(processor["image_mean"]),
                std=_triple(processor["image_std"]),
                max_depth_m=float(model["max_depth"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{_CONFIG_FILE} or {_PROCESSOR_FILE} lacks a value: {error}") from None

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) at which the network sees an image of that size, by the rule of transformers' DPT processor.

        With ``keep_aspect_ratio`` both sides are scaled by the factor, of the two that ``size`` asks for, that is
        nearer 1; then each is rounded to a multiple, at least one.

        Example:
            >>> indoor = dict(size=(518, 518), multiple=14, keep_aspect_ratio=True, max_depth_m=20.0)
            >>> config = DepthAnythingConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), **indoor)
            >>> config.input_size((480, 640))
            (518, 686)
        """
        vertical, horizontal = self.size[0] / image_size[0], self.size[1] / image_size[1]
        if self.keep_aspect_ratio:
            # Where both are as near, the height decides, as there.
            vertical = horizontal = horizontal if abs(1 - horizontal) < abs(1 - vertical) else vertical
        height, width = (
            max(1, round(side * scale / self.multiple)) * self.multiple
            for side, scale in zip(image_size, (vertical, horizontal), strict=True)
        )
        return height, width


class DepthAnything(nn.Module):
    """A dense network of transformers as a ``DepthPredictor``.

    Images are prepared as transformers' own processor prepares them: bicubic (a = -0.5), antialiased where it shrinks,
    held to [0, 1]. The map is brought back as the authors' ``infer_image`` does, bilinearly with align_corners=True, to
    one depth per pixel; transformers' post-processing would be bicubic with align_corners=False. The authors' own
    preparation (OpenCV's bicubic, a = -0.75, no antialiasing, the larger of the two factors) gives the same size for
    640x480.

    Args:
        network: ``transformers.DepthAnythingForDepthEstimation`` with a metric head.
        config: how images are brought to it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, config: DepthAnythingConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B H W"]:
        """Depth in metres of every pixel of the images, RGB in [0, 1] of any size."""
        depth_m = self.network(self.prepare(images)).predicted_depth
        size = images.shape[-2:]
        return F.interpolate(depth_m.unsqueeze(1), size, mode="bilinear", align_corners=True).squeeze(1)

    def decode(self, memory: Float[Tensor, "B H W"], query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """The map read bilinearly at xy pixel indices, clamped to its border; metres, float32."""
        return read_bilinear(memory.unsqueeze(1), pixels_to_cells(query_points, 1, "center")).squeeze(-1)

    def prepare(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Hn Wn"]:
        """What the network gets: resized and normalised."""
        resized = images
        height, width = self.config.input_size((images.shape[-2], images.shape[-1]))
        # One axis after the other, and none beyond [0, 1], as 8-bit images are resized. With antialias PyTorch's
        # bicubic filter is PIL's; without, it is OpenCV's.
        for size in ((images.shape[-2], width), (height, width)):
            resized = F.interpolate(resized, size, mode="bicubic", antialias=True).clamp(0, 1)
        return (resized - self.mean) / self.std


def load(source: str | Path = DEFAULT_SOURCE, *, device: str | torch.device | None = None) -> Predictor:
    """The predictor of a metric Depth Anything; needs the extra ``baselines``.

    It sees every image at its own size, and its metres are those of the network: neither is trained for a focal length
    that an answer could be brought to.

    Args:
        source: a folder with ``model.safetensors``, ``config.json`` and ``preprocessor_config.json`` as transformers
            writes them, or ``owner/name`` of a repository on the Hugging Face hub. A folder goes before the hub.
        device: where to run; None is the first CUDA device where there is one, else the CPU.

    Raises:
        ValueError: the weights cannot be had, are damaged, or are of a model that predicts no metres; or there is no
            such device.
        ImportError: transformers is not installed.
    """
    folder = _locate(source)
    config = _read_config(folder)
    chosen = choose_device(device)
    model = DepthAnything(_read_network(folder), config)
    return Predictor(model=model.to(chosen).eval(), train_size=None, focal_length=None, device=chosen)


def weights_checksum(source: str | Path) -> str:
    """``sha256:`` and the digest of the weights' file, for reports; see :func:`load`.

    Raises:
        ValueError: the weights cannot be had.
    """
    digest = hashlib.sha256()
    with (_locate(source) / WEIGHTS_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _locate(source: str | Path) -> Path:
    """The local folder with all three files."""
    files = (WEIGHTS_FILE, _CONFIG_FILE, _PROCESSOR_FILE)
    try:
        folder = locate(source, files)
    except ValueError as error:
        raise ValueError(
            f"{error}; where there is a network, hf download {DEFAULT_SOURCE} --local-dir FOLDER gets Depth Anything, "
            "then give FOLDER in its place"
        ) from error
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise ValueError(f"Depth Anything is a folder with {', '.join(files)}; {folder} has no {', '.join(missing)}")
    return folder


def _read_config(folder: Path) -> DepthAnythingConfig:
    try:
        model, processor = (json.loads((folder / name).read_bytes()) for name in (_CONFIG_FILE, _PROCESSOR_FILE))
        return DepthAnythingConfig.from_json(dict(model), dict(processor))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder} is no metric Depth Anything of transformers: {error}") from None


def _read_network(folder: Path) -> nn.Module:
    """The network in float32, frozen, with every one of its weights from the file."""
    from transformers import DepthAnythingForDepthEstimation

    try:
        # Random numbers of the caller are not to be used up by weights that are replaced.
        with torch.random.fork_rng(devices=[]), _quiet_transformers():
            loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # What a damaged file raises depends on the version of transformers.
        raise ValueError(f"cannot read {folder / WEIGHTS_FILE}: {one_line(error)}") from error
    network, report = loaded
    # transformers would leave these at random values.
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder / WEIGHTS_FILE} lacks {missing[0]} and {len(missing) - 1} more weights")
    return network.float().requires_grad_(False)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its bar for a fraction of a second, and without its table about weights beside our one line."""
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
