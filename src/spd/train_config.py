"""The frozen configuration of a training run; imports no torch, so that the command line is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spd.config import ModelConfig
from spd.typed import require_types


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it is varied and where depth is asked during training."""

    root: tuple[Path, ...] = ()
    """Folders with ``manifest.csv``, one per data set."""
    weights: tuple[float, ...] = ()
    """Part of the samples that each data set gives, in any unit; none is as many as it has frames."""
    scene_balance: tuple[float, ...] = (0.0,)
    """How far scenes of many frames are held back, once or per data set: 0 draws every frame as often as any other, 1
    every scene, .5 lies between."""
    terms: tuple[str, ...] = ()
    """Terms of each data set's use, which the weights carry on: they go into the checkpoint's model card."""
    cache: Literal["memory", "disk", "none"] = "none"
    """Where decoded frames are kept, since decoding takes about as long as all else that loading does: in memory that
    all loading processes share, or on disk below the run's folder."""
    train_splits: tuple[str, ...] = ("train",)
    train_fraction: float = 1.0
    """Part of the training images that is used: the first of one random order, so a smaller part lies in a larger."""
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
        require_types(self)
        self._check_sets()
        for name in ("batch_size", "num_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {self.num_workers}")
        if not 0.0 < self.train_fraction <= 1.0:
            raise ValueError(f"train_fraction must be in (0, 1], got {self.train_fraction}")
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

    def _check_sets(self) -> None:
        number = len(self.root)
        for name, allowed in (("weights", (0, number)), ("scene_balance", (1, number)), ("terms", (0, 1, number))):
            given = len(getattr(self, name))
            # Without a root the set is not known yet: a recipe may give its terms.
            if number and given not in allowed:
                raise ValueError(f"{name} must have one value per data set ({number}), got {given}")
        if any(not 0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"weights must be positive and finite, got {self.weights}")
        if any(not 0 <= balance <= 1 for balance in self.scene_balance):
            raise ValueError(f"scene_balance must be in [0, 1], got {self.scene_balance}")
        resolved = [Path(root).expanduser().resolve() for root in self.root]
        if len(set(resolved)) < number:
            raise ValueError(f"root must name different folders, got {' '.join(map(str, self.root))}")

    @property
    def set_names(self) -> tuple[str, ...]:
        """What logs and reports call the data sets: their folders, with a number where two have one name."""
        folders = [Path(root).expanduser().resolve().name for root in self.root]
        return tuple(
            f"{folder}-{folders[:index].count(folder) + 1}" if folders.count(folder) > 1 else folder
            for index, folder in enumerate(folders)
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
    batch_norm: Literal["auto", "frozen", "trained"] = "auto"
    """Statistics of the encoder's batch norms, where it has any: kept as they are, or followed over the batches.
    ``auto`` keeps those of pretrained weights and of ``init``, and follows where training starts from random ones."""

    def __post_init__(self) -> None:
        require_types(self)
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
    """SILog on the query points, on L2 and L3 densely (plan 7.2), and on the anchors; the likelihood of the truth."""

    silog_lambda: float = 0.15
    relative_weight: float = 0.0
    """Of the mean relative error |d − d*| / d*, which is what AbsRel reports, at query points and anchors."""
    auxiliary_weight: float = 0.5
    anchor_weight: float = 0.5
    """Of the same loss at the anchors, where queries are anchored; an image's anchors are a set of their own."""
    likelihood_weight: float = 0.0
    """Of the negative log likelihood of the truth, for models that say how sure they are (``log_std``). 0 teaches them
    that on features as they are: depth learns as it would without."""

    def __post_init__(self) -> None:
        require_types(self)
        if not 0.0 <= self.silog_lambda <= 1.0:
            raise ValueError(f"silog_lambda must be in [0, 1], got {self.silog_lambda}")
        for name in ("relative_weight", "auxiliary_weight", "anchor_weight", "likelihood_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; saved as ``train.json`` beside the weights."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    init: str | None = None
    """Checkpoint, by folder or name, whose weights training starts from, in place of random or pretrained ones."""
    output: Path = Path("runs/spd")
    """Folder of the run: the checkpoint for answering, ``last.ckpt`` for resuming, the logs."""
    resume: bool | Literal["auto"] = False
    """Continue the run in ``output`` from its ``last.ckpt``; ``auto`` does so where there is one, else begins."""
    extend: bool = False
    """With ``resume``, let ``max_steps`` or ``epochs`` differ: the run becomes longer, and its learning rate follows
    the schedule of the new length."""
    epochs: int = 30
    max_steps: int | None = None
    """Length of the run in steps, in place of ``epochs``."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights with this decay per step: it is what is validated and what the
    checkpoint holds. None keeps none."""
    seed: int = 0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Processes that train together (DDP where there is more than one)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` is bf16 autocast on a CUDA device that has it, else float32."""
    log_every: int = 20
    """Steps between two lines of the log."""
    checkpoint_every: int = 200
    """Steps between two writes of ``last.ckpt``."""
    validate_every: int = 1
    """Epochs between two validations; 0 is never."""

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("epochs", "devices", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0.0 < self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must be between 0 and 1, got {self.ema_decay}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.extend and not self.resume:
            raise ValueError("extend makes a run longer that resume continues, got extend without resume")
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
