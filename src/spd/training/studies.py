"""What is compared: the studies of ``spd ablate``, each a table of variants of one baseline.

A variant changes one thing of its study's baseline, or asks the baseline's weights in another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from spd.evaluation.protocol import PROTOCOL_VERSION
from spd.variant import PLAN_V14

StudyName = Literal["choices", "interaction"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of the baseline; each mapping is of fields to their new values."""

    question: str
    """What it does; in brackets what the baseline does instead."""
    model: Mapping[str, Any] = field(default_factory=dict)
    variant: Mapping[str, Any] = field(default_factory=dict)
    """Of the model's ``variant``."""
    data: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    weights_of: str | None = None
    """The variant whose weights this one has: it is not trained, only asked otherwise."""
    asked: Literal["as trained", "anchored", "with a support grid"] = "as trained"
    """How the weights are asked: in their own mode, as if they were anchored, or with the anchors' grid as further
    points of every call."""


@dataclass(frozen=True, kw_only=True)
class AblationProtocol:
    """All that the trainings of a table have in common; files of another protocol are not mixed in."""

    preset: str = "atto"
    size: tuple[int, int] = (128, 160)
    """Height and width of the training images."""
    steps: int = 600
    batch_size: int = 8
    num_queries: int = 64
    """Supervised points per image in training: K, and the anchors where they are supervised too."""
    learning_rate: float = 4e-4
    warmup_steps: int = 100
    scored_queries: tuple[int, ...] = (64, 256, 1024)
    """Numbers of points asked at once on the validation split; the first is the main one."""
    train_split: str = "train"
    val_split: str = "val"
    crop: str = "eigen"
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question that takes a table of its own."""

    variants: Mapping[str, Change]
    """By name; the baseline first."""
    protocol: AblationProtocol
    """What it takes unless told otherwise."""
    compared_queries: tuple[int, ...]
    """Numbers of points asked at once at which variants are compared with the baseline."""
    consistency: bool = False
    """Whether to measure how far an answer depends on what else is asked."""

    @property
    def baseline(self) -> str:
        """The variant that others are compared with."""
        return next(iter(self.variants))

    def rescored(self, trained: str) -> tuple[str, ...]:
        """The variants that have the weights of that one."""
        return tuple(name for name, variant in self.variants.items() if variant.weights_of == trained)


_CHOICES: Mapping[str, Change] = {
    "baseline": Change(question="the defaults"),
    "fixed-offsets": Change(
        question="deformable points at fixed offsets (learned)",
        variant={"without": ("learned_offsets",)},
    ),
    "no-query-attention": Change(question="no attention between queries", variant={"without": ("query_attention",)}),
    "no-canvas": Change(question="no canvas", variant={"without": ("canvas",)}),
    "no-auxiliary-loss": Change(question="no dense auxiliary loss", loss={"auxiliary_weight": 0.0}),
    "no-depth-scale": Change(question="no learned depth scale", variant={"without": ("depth_scale",)}),
    "canvas-sum": Change(question="canvas adds the sum of a cell (mean)", variant={"canvas_write": "sum"}),
    "canvas-normed": Change(question="LN(h) goes to the canvas (h)", variant={"canvas_source": "normed"}),
    "corner": Change(question="alignment corner (center)", variant={"alignment": "corner"}),
    "half-period": Change(
        question="Fourier code from half a period on (a whole one)",
        variant={"fourier_lowest_octave": -1},
    ),
    "log-uniform-k": Change(
        question="K log-uniform in a quarter to four times K (fixed)", data={"query_schedule": "log_uniform"}
    ),
    "edges": Change(question="30 % of the points on depth edges (uniform)", data={"edge_fraction": 0.3}),
    "normalized-offsets": Change(
        question="offsets in [-1, 1] of the whole map (in cells)", variant={"offset_unit": "normalized"}
    ),
    "strong-augmentation": Change(
        question="zoom 0.65-1.5, colour ±40 % (0.8-1.2, ±20 %)",
        data={"zoom": (0.65, 1.5), "color_jitter": (0.4, 0.4, 0.4, 0.1)},
    ),
    "plan-v14": Change(
        question="the plan to the letter: sum, corner, offsets of the whole map",
        variant=asdict(PLAN_V14),
    ),
}

_INTERACTION: Mapping[str, Change] = {
    "joint": Change(question="points write to one canvas and attend to each other"),
    "joint-bilinear": Change(
        question="joint; writes to the four cells around a point (to its own)",
        variant={"canvas_write": "bilinear"},
    ),
    "joint-edges": Change(question="joint; 30 % of the points on depth edges (uniform)", data={"edge_fraction": 0.3}),
    "joint-with-grid": Change(
        question="the baseline's weights, asked with the anchors' grid as further points",
        weights_of="joint",
        asked="with a support grid",
    ),
    "joint-as-anchored": Change(
        question="the baseline's weights, asked as anchored", weights_of="joint", asked="anchored"
    ),
    "anchored": Change(question="anchored, stride 32", model={"interaction": "anchored"}),
    "anchored-16": Change(question="anchored, stride 16", model={"interaction": "anchored", "anchor_stride": 16}),
    "anchored-64": Change(question="anchored, stride 64", model={"interaction": "anchored", "anchor_stride": 64}),
    "anchored-unsupervised": Change(
        question="anchored, stride 32, no loss on anchors",
        model={"interaction": "anchored"},
        loss={"anchor_weight": 0.0},
    ),
}

STUDIES: Mapping[StudyName, Study] = {
    "choices": Study(
        variants=_CHOICES,
        protocol=AblationProtocol(),
        compared_queries=(64, 1024),
    ),
    # As many points as the finest grid of anchors and 64 more, for every variant.
    "interaction": Study(
        variants=_INTERACTION,
        protocol=AblationProtocol(num_queries=144, scored_queries=(256, 1, 64, 1024)),
        compared_queries=(256, 1, 1024),
        consistency=True,
    ),
}
"""``choices``: the parts of the plan and the open choices of the design. ``interaction``: what points see of others."""
