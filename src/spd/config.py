"""Frozen configurations: the model with its presets, and a training run.

Imports no torch, so that the command line answers quickly.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

Alignment = Literal["center", "corner"]
CanvasWrite = Literal["mean", "sum"]
CanvasSource = Literal["hidden", "normed"]
OffsetUnit = Literal["cell", "normalized"]
Interaction = Literal["joint"]

# What a config.json may say in words: the command line checks these itself.
_CHOICES = {
    "alignment": get_args(Alignment),
    "offset_unit": get_args(OffsetUnit),
    "canvas_write": get_args(CanvasWrite),
    "canvas_source": get_args(CanvasSource),
    "interaction": get_args(Interaction),
}

# The Kinect of NYU Depth V2: fx, fy in pixels of its 640x480 images (Silberman et al. 2012, toolbox).
_NYU_FX_PER_WIDTH = 518.8579 / 640
_NYU_FY_PER_HEIGHT = 519.4696 / 480


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that determines SPD's modules and how they read an image.

    The defaults are the preset ``tiny``: the sizes of plan v14 with the decisions of ``docs/decisions.md``.

    Example:
        >>> ModelConfig.tiny().embed_dim
        192
        >>> ModelConfig.atto(train_size=(128, 160)).train_size
        (128, 160)
    """

    encoder: str = "convnextv2_tiny.fcmae_ft_in22k_in1k"
    """A ConvNeXt or ConvNeXt V2 of timm, with or without the tag of its weights."""
    pretrained: bool = False
    """Start training from timm's weights (ConvNeXt V2's are CC BY-NC 4.0; ``convnext_tiny``'s are permissive)."""
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
    dropout: float = 0.1
    """On attention weights everywhere; also on the residual branches of the encoder's and the neck's blocks."""
    fourier_bands: int = 8
    fourier_lowest_octave: int = 0
    """Octave of the lowest frequency: 0 is one period across the image, -1 half a period."""
    alignment: Alignment = "center"
    """Which pixel a cell's index stands for (``spd.coordinates``)."""
    offset_unit: OffsetUnit = "cell"
    """Unit of the sampling offsets: cells of their level, or the whole map as [-1, 1]."""
    canvas_write: CanvasWrite = "mean"
    """What a canvas cell adds of the queries that write to it."""
    canvas_source: CanvasSource = "hidden"
    """What a query writes: its state h, or LN(h)."""
    interaction: Interaction = "joint"
    """How queries see each other; ``joint`` is the plan's: one canvas and attention between all of them."""
    train_size: tuple[int, int] = (256, 320)
    """(height, width) in pixels at which the model is trained, both multiples of 32."""
    focal_length: float | None = None
    """Canonical focal length in pixels at ``train_size``; None is that of NYU Depth V2's camera resized to it."""

    def __post_init__(self) -> None:
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
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("num_points", "num_deformable_layers", "ffn_ratio", "head_ratio", "fourier_bands"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def num_layers(self) -> int:
        """Decoder layers in all."""
        return self.num_deformable_layers + self.num_l3_layers + self.num_l4_layers

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
        return replace(cls(), **changes)

    @classmethod
    def plan_v14(cls, **changes: Any) -> ModelConfig:
        """The plan to the letter: canvas sum, corner alignment, full-period code, normalised offsets."""
        letter = cls(
            alignment="corner",
            offset_unit="normalized",
            canvas_write="sum",
            canvas_source="hidden",
            fourier_lowest_octave=0,
        )
        return replace(letter, **changes)

    @classmethod
    def nano(cls, **changes: Any) -> ModelConfig:
        """ConvNeXt V2 nano with widths to match."""
        sizes = cls(
            encoder="convnextv2_nano.fcmae_ft_in22k_in1k",
            encoder_heads=5,
            neck_channels=(48, 96, 160, 320),
            neck_heads=5,
            embed_dim=160,
            num_heads=5,
        )
        return replace(sizes, **changes)

    @classmethod
    def atto(cls, **changes: Any) -> ModelConfig:
        """ConvNeXt V2 atto with half the plan's widths, heads of the same 32 channels."""
        sizes = cls(
            encoder="convnextv2_atto.fcmae_ft_in1k",
            encoder_heads=5,
            neck_channels=(32, 64, 96, 192),
            neck_heads=6,
            embed_dim=96,
            num_heads=3,
        )
        return replace(sizes, **changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ModelConfig:
        """The preset of that name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return getattr(cls, name)(**changes)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``config.json``, the focal length resolved to pixels."""
        return {**asdict(self), "focal_length": self.canonical_focal_length}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: a field is missing or unknown, as in a config that another version wrote.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"model config has unknown fields {', '.join(unknown)}; another version wrote it")
        if missing := sorted(known - values.keys()):
            raise ValueError(f"model config lacks the fields {', '.join(missing)}; another version wrote it")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


PRESETS = ("tiny", "plan_v14", "nano", "atto")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it is varied and where depth is asked during training."""

    root: Path | None = None
    """Folder with ``manifest.csv``."""
    train_splits: tuple[str, ...] = ("train",)
    val_split: str = "val"
    batch_size: int = 8
    """Images per step, over all processes together."""
    num_workers: int = 2
    num_queries: int = 256
    """Query points K per image; with ``log_uniform``, those of validation."""
    query_schedule: Literal["fixed", "log_uniform"] = "fixed"
    """``log_uniform`` draws one K per batch from ``query_range``."""
    query_range: tuple[int, int] = (16, 1024)
    edge_fraction: float = 0.0
    """Part of the query points that is drawn on depth edges."""
    flip: bool = True
    zoom: tuple[float, float] = (0.8, 1.2)
    """Range of the random resize-crop; (1, 1) is none."""
    color_jitter: tuple[float, float, float, float] = (0.2, 0.2, 0.2, 0.1)
    """Brightness, contrast, saturation, hue."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {self.num_workers}")
        if not 0.0 <= self.edge_fraction <= 1.0:
            raise ValueError(f"edge_fraction must be in [0, 1], got {self.edge_fraction}")
        if not 1 <= self.query_range[0] <= self.query_range[1]:
            raise ValueError(f"query_range must be (low, high) with 1 <= low <= high, got {self.query_range}")
        if not 0.0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom must be (low, high) with 0 < low <= high, got {self.zoom}")
        if min(self.color_jitter) < 0 or max(self.color_jitter[:3]) > 1 or self.color_jitter[3] > 0.5:
            raise ValueError(
                "color_jitter must be brightness, contrast, saturation in [0, 1] and hue in [0, 0.5], "
                f"got {self.color_jitter}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine decay (plan 7.3)."""

    learning_rate: float = 1e-4
    encoder_lr_factor: float | None = None
    """Rate of timm's parameters over ``learning_rate``; None is 0.1 with pretrained weights and 1 with random ones."""
    final_lr_fraction: float = 0.01
    """Where the cosine ends, as a fraction of each group's rate."""
    warmup_steps: int = 100
    weight_decay: float = 0.01
    """On matrices only: biases, norms and scales are free."""
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.encoder_lr_factor is not None and self.encoder_lr_factor < 0:
            raise ValueError(f"encoder_lr_factor must be at least 0, got {self.encoder_lr_factor}")
        if not 0.0 <= self.final_lr_fraction <= 1.0:
            raise ValueError(f"final_lr_fraction must be in [0, 1], got {self.final_lr_fraction}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, got {self.warmup_steps}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """SILog on the query points, and on L2 and L3 densely (plan 7.2)."""

    silog_lambda: float = 0.15
    auxiliary_weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.silog_lambda <= 1.0:
            raise ValueError(f"silog_lambda must be in [0, 1], got {self.silog_lambda}")
        if self.auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight must be at least 0, got {self.auxiliary_weight}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; saved as ``train.json`` beside the weights."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    output: Path = Path("runs/spd")
    """Folder of the run: the checkpoint for answering, ``last.ckpt`` for resuming, the logs."""
    resume: bool = False
    """Continue the run in ``output`` from its ``last.ckpt``."""
    epochs: int = 30
    max_steps: int | None = None
    """Length of the run in steps, in place of ``epochs``."""
    seed: int = 0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Processes that train together (DDP where there is more than one)."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """``auto`` is bf16 autocast on a CUDA device that has it, else float32."""
    log_every: int = 20
    """Steps between two lines of the log."""
    checkpoint_every: int = 200
    """Steps between two writes of ``last.ckpt``."""
    validate_every: int = 1
    """Epochs between two validations; 0 is never."""

    def __post_init__(self) -> None:
        for name in ("epochs", "devices", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.data.batch_size % self.devices:
            raise ValueError(
                f"batch_size must be a multiple of devices, got {self.data.batch_size} over {self.devices}"
            )

    @property
    def encoder_learning_rate(self) -> float:
        """Peak rate of timm's parameters: random weights have no features to protect, so they learn like the rest."""
        factor = self.optimizer.encoder_lr_factor
        if factor is None:
            factor = 0.1 if self.model.pretrained else 1.0
        return factor * self.optimizer.learning_rate


def require_divisor(heads_name: str, heads: int, width_name: str, width: int) -> None:
    """Raise ``ValueError`` unless ``heads`` divides ``width``."""
    if heads < 1 or width % heads:
        raise ValueError(f"{heads_name} must divide {width_name} ({width}), got {heads}")
