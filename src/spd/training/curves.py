"""The curves of a run as one picture, from TensorBoard's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spd.coordinates import STRIDES


class Curve(NamedTuple):
    """A logged scalar: steps and values, in the order of the steps."""

    steps: Sequence[int]
    values: Sequence[float]


def read_curves(logs: Path) -> dict[str, Curve]:
    """Every scalar that a run logged, by name; where a run was resumed, the later record of a step counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logs), size_guidance={"scalars": 0})
    events.Reload()
    curves = {}
    for name in events.Tags()["scalars"]:
        by_step = {event.step: event.value for event in events.Scalars(name)}
        steps = sorted(by_step)
        curves[name] = Curve(steps, [by_step[step] for step in steps])
    return curves


def draw_curves(logs: Path, output: Path) -> None:
    """Six panels: loss, validation, range of predictions, canvas and gates, sampling offsets, learning rates."""
    from matplotlib.figure import Figure

    curves = read_curves(logs)
    if not curves:
        return
    figure = Figure(figsize=(15, 8), layout="constrained")
    panels = figure.subplots(2, 3).flat
    layers = sorted({name.rpartition("_")[2] for name in curves if name.startswith("gate/")}, key=int)
    losses = {"train/silog": "SILog", "train/relative": "relative error", "train/auxiliary_l2": "dense L2"}
    _plot(next(panels), curves, "training loss", losses, smooth=True)
    _plot(
        next(panels),
        curves,
        "validation",
        {"val/abs_rel": "AbsRel", "val/silog": "SILog", "val/delta1": "δ1", "val/rmse": "RMSE (m)"},
    )
    _plot(
        next(panels),
        curves,
        "predictions of a batch (m)",
        {"prediction/nearest_m": "nearest", "prediction/farthest_m": "farthest", "model/depth_scale": "exp(s)"},
    )
    canvas_and_gates = {f"canvas_std/layer_{n}": f"canvas std {n}" for n in layers}
    canvas_and_gates |= {f"gate/layer_{n}": f"gate {n}" for n in layers}
    _plot(next(panels), curves, "canvas deviation (solid), mean gate (dashed)", canvas_and_gates, dashed="gate/")
    offsets = {f"offset_px/level_{n}": f"L{n}" for n in range(1, len(STRIDES) + 1)}
    _plot(next(panels), curves, "mean sampling offset (pixels)", offsets)
    rates = {name: name.removeprefix("lr-AdamW/") for name in curves if name.startswith("lr-")}
    _plot(next(panels), curves, "learning rates", rates)
    figure.savefig(output, dpi=100)


def _plot(
    axes: Any,
    curves: Mapping[str, Curve],
    title: str,
    labels: Mapping[str, str],
    *,
    smooth: bool = False,
    dashed: str = "",
) -> None:
    for name, label in labels.items():
        if name not in curves:
            continue
        curve = curves[name]
        style = "--" if dashed and name.startswith(dashed) else "-"
        alpha = 0.3 if smooth else 1.0
        (line,) = axes.plot(curve.steps, curve.values, style, alpha=alpha, label=None if smooth else label)
        if smooth:
            axes.plot(curve.steps, _smoothed(curve.values), color=line.get_color(), label=label)
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="x-small", ncols=2)


def _smoothed(values: Sequence[float], window: int = 9) -> np.ndarray:
    """Centred running mean, with shorter windows at the ends."""
    window = min(window, len(values))
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
