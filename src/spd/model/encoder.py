"""ConvNeXt V2 through timm, with global self-attention between its third and fourth stage (plan 3, 4.1)."""

from __future__ import annotations

from typing import Any

import timm
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from spd.model.attention import MapTransformer
from spd.model.convnext_block import replace_blocks
from spd.model.depthwise import replace_depthwise
from spd.model.response_norm import replace_response_norms

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ConvNeXtStages(nn.Module):
    """The stem and the first stages of a ConvNeXt as timm builds them: a feature map per stage, strides 4, 8, 16, 32.

    Args:
        name: a ConvNeXt or ConvNeXt V2 of timm, with or without the tag of its weights.
        num_stages: 1 to 4. Those after it are left out: parameters that nothing uses break DDP.

    Raises:
        ValueError: timm has no such model, or it is no ConvNeXt.
    """

    def __init__(self, name: str, num_stages: int = 4) -> None:
        super().__init__()
        self.backbone = _create_backbone(name)
        del self.backbone.stages[num_stages:]
        self.channels: tuple[int, ...] = tuple(info["num_chs"] for info in self.backbone.feature_info[:num_stages])

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Normalised images, H and W multiples of the last stride, to the outputs of the stages, (B, C, H/s, W/s)."""
        features = [self._stem(images)]
        for stage in self.backbone.stages:
            features.append(stage(features[-1]))
        return tuple(features[1:])

    def _stem(self, images: Float[Tensor, "B 3 H W"]) -> Tensor:
        # What follows normalises over the channels: they lie innermost from the start.
        return self.backbone.stem(images.contiguous(memory_format=torch.channels_last))

    def load_pretrained(self) -> str:
        """Copy timm's weights of this model into the backbone, downloading them where they are not cached.

        Returns:
            The weights' licence as timm states it, to be told to the user: ConvNeXt V2's are CC BY-NC 4.0.

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
                f"the pretrained weights of {full_name} could not be loaded ({_first_line(error)}); "
                "with --model.pretrained false training starts from random weights"
            ) from error
        unused = ("head.", "norm_pre.", *(f"stages.{stage}." for stage in range(len(self.backbone.stages), 4)))
        weights = {key: value for key, value in source.state_dict().items() if not key.startswith(unused)}
        self.backbone.load_state_dict(weights)
        return str(published.get("license") or "unknown")


class ConvNeXtEncoder(ConvNeXtStages):
    """Four feature maps of strides 4, 8, 16 and 32.

    The output of stage 3 passes two self-attention blocks before it goes on to stage 4, so L3 sees the whole image
    and L4 inherits that.

    Args:
        name: a ConvNeXt or ConvNeXt V2 of timm, with or without the tag of its weights.
        num_heads: heads of the self-attention blocks.
        ffn_ratio: width of their feed-forward layers over that of the map.
        dropout: of the self-attention blocks.

    Raises:
        ValueError: timm has no such model, or it is no ConvNeXt.
    """

    def __init__(self, name: str, num_heads: int, ffn_ratio: int, dropout: float) -> None:
        super().__init__(name)
        self.self_attention = MapTransformer(self.channels[2], num_heads, ffn_ratio, dropout)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised images, H and W multiples of 32, to the outputs of the four stages, (B, C, H/s, W/s) each."""
        stage1, stage2, stage3, stage4 = self.backbone.stages
        features1 = stage1(self._stem(images))
        features2 = stage2(features1)
        features3 = self.self_attention(stage3(features2))
        return features1, features2, features3, stage4(features3)


def _create_backbone(name: str) -> ConvNeXt:
    try:
        backbone = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise ValueError(f"encoder must be a ConvNeXt of timm, got {name!r}: {_first_line(error)}") from error
    if not isinstance(backbone, ConvNeXt) or backbone.feature_info[-1]["reduction"] != 32:
        raise ValueError(f"encoder must be a ConvNeXt of timm with strides 4 to 32, got {name!r}")
    # Its classifier's norm and pooling are never used here, and unused parameters break DDP. A few variants
    # (convnext_tiny_hnf) have that norm before the head, as norm_pre.
    backbone.head = nn.Identity()  # type: ignore[assignment]
    backbone.norm_pre = nn.Identity()
    replace_response_norms(backbone)
    replace_depthwise(backbone)
    replace_blocks(backbone)
    return backbone


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
