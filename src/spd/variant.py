"""The switches of a model that only its ablations and ``plan_v14`` need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from spd.typed import require_types

Alignment = Literal["center", "corner", "last"]
CanvasWrite = Literal["mean", "sum", "bilinear"]
CanvasSource = Literal["hidden", "normed"]
OffsetUnit = Literal["cell", "normalized"]
Part = Literal["learned_offsets", "query_attention", "canvas", "depth_scale"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a model differs from the one that ``docs/decisions.md`` arrives at; the defaults are that one."""

    alignment: Alignment | None = None
    """Which pixel a cell's index stands for (``spd.coordinates``). None is what the encoder says of itself."""
    offset_unit: OffsetUnit = "cell"
    """Unit of the sampling offsets: cells of their level, or the whole map as [-1, 1]."""
    canvas_write: CanvasWrite | None = None
    """What a canvas cell adds: the ``mean`` or the ``sum`` of the queries whose pixels it covers, or, by ``bilinear``,
    the mean of those around it by the weights with which they read it. None is ``bilinear`` for anchored queries,
    which lie between cells, and ``mean`` for joint ones."""
    canvas_source: CanvasSource = "hidden"
    """What a query writes: its state h, or LN(h)."""
    fourier_lowest_octave: int = 0
    """Octave of the lowest frequency: 0 is one period across the image, -1 half a period."""
    without: tuple[Part, ...] = ()
    """Parts that are left out, to measure what each is worth. Without ``learned_offsets`` deformable attention reads
    the fixed points from which Deformable DETR starts; without ``depth_scale`` log depth is what the MLP gives."""

    def __post_init__(self) -> None:
        require_types(self)
        if not -32 <= self.fourier_lowest_octave <= 32:
            raise ValueError(f"fourier_lowest_octave must be from -32 to 32, got {self.fourier_lowest_octave}")


PLAN_V14 = Variant(alignment="corner", offset_unit="normalized", canvas_write="sum")
"""The letter of plan v14."""


def with_nested_variant(model: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a model's configuration, with those of its variant in a mapping of their own.

    Configurations of a first version have them among the sizes.
    """
    names = {field.name for field in fields(Variant)}
    first = {name: value for name, value in model.items() if name in names}
    if not first:
        return dict(model)
    return {**{name: value for name, value in model.items() if name not in names}, "variant": first}
