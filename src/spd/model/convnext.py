"""ConvNeXt and ConvNeXt V2 through timm (Liu et al. 2022; Woo et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import timm
from safetensors import SafetensorError
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from spd.messages import first_line
from spd.model.encoder import Encoder, PretrainedWeights, create_backbone


class ConvNeXtEncoder(Encoder):
    """The stem and the first stages of a ConvNeXt as timm builds them.

    The stem and the downsampling layers convolve patches that do not overlap, so a cell's centre is the centre of its
    pixels.

    Args:
        name: a ConvNeXt or ConvNeXt V2 of timm, with or without the tag of its weights.
        num_stages: 1 to 4. Those after it are left out: parameters that nothing uses break DDP.

    Raises:
        ValueError: timm has no such model, or it is no ConvNeXt.
    """

    family = "a ConvNeXt"
    pixel_mean = (0.485, 0.456, 0.406)
    pixel_std = (0.229, 0.224, 0.225)
    alignment = "center"

    backbone: ConvNeXt

    def __init__(self, name: str, num_stages: int = 4) -> None:
        backbone = _create(name)
        del backbone.stages[num_stages:]
        super().__init__(backbone, [info["num_chs"] for info in backbone.feature_info[:num_stages]])

    @classmethod
    def accepts(cls, name: str) -> bool:
        """By timm's names; ``test_convnext`` are its small models for tests."""
        return "convnext" in name

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The stem belongs to the first."""
        first, *others = self.backbone.stages
        return (lambda images: first(self.backbone.stem(images)), *others)

    def load_pretrained(self) -> PretrainedWeights:
        """Copy timm's weights of this model into the backbone, downloading them where they are not cached.

        ConvNeXt V2's are CC BY-NC 4.0.

        Raises:
            ValueError: the weights cannot be had.
        """
        published: dict[str, Any] = self.backbone.pretrained_cfg  # type: ignore[assignment]
        name, tag = str(published["architecture"]), published.get("tag")
        full_name = f"{name}.{tag}" if tag else name
        try:
            source = timm.create_model(full_name, pretrained=True, num_classes=0)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"the pretrained weights of {full_name} could not be loaded ({first_line(error)}); "
                "with --model.pretrained false training starts from random weights"
            ) from error
        unused = ("head.", "norm_pre.", *(f"stages.{stage}." for stage in range(len(self.backbone.stages), 4)))
        weights = {key: value for key, value in source.state_dict().items() if not key.startswith(unused)}
        self.backbone.load_state_dict(weights)
        return PretrainedWeights(f"timm's {full_name}", str(published.get("license") or "unknown"))


def _create(name: str) -> ConvNeXt:
    backbone = create_backbone(name, ConvNeXtEncoder.family)
    if not isinstance(backbone, ConvNeXt) or backbone.feature_info[-1]["reduction"] != 32:
        raise ValueError(f"encoder must be a ConvNeXt of timm with strides 4 to 32, got {name!r}")
    # Its classifier's norm and pooling are never used here, and unused parameters break DDP. A few variants
    # (convnext_tiny_hnf) have that norm before the head, as norm_pre.
    backbone.head = nn.Identity()  # type: ignore[assignment]
    backbone.norm_pre = nn.Identity()
    return backbone
