"""The pictures of a report: AbsRel against K, error by depth, place and scene, and the worst and best images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from spd.data.rgbd import read_image
from spd.evaluation.alignment import Alignment, aligned_depth
from spd.evaluation.breakdown import NUM_COLUMNS, NUM_ROWS, RangeError, SceneError
from spd.evaluation.metrics import compute_metrics
from spd.evaluation.protocol import ImagePrediction
from spd.evaluation.report import ModelReport, Report
from spd.files import write_files

_NUM_EXTREMES = 4
_MOST_POINTS_DRAWN = 256
_MOST_SCENES_DRAWN = 40
# A ratio of 1.5 either way is far beyond δ1 and saturates the colour.
_RATIO_LIMIT = 1.5


def draw_report(report: Report, data_root: Path, folder: Path) -> list[Path]:
    """Draw all pictures of the report into ``folder``.

    Returns:
        The files, in the order in which a reader wants them.
    """
    pictures = {}
    if any(len(model.results) > 1 for model in report.models) and report.num_shared_points:
        pictures[folder / "abs_rel_by_queries.png"] = _by_queries(report)
    pictures[folder / "error_by_depth.png"] = _by_depth(report.models)
    pictures[folder / "error_by_part.png"] = _by_part(report.models)
    if any(model.breakdown.by_scene for model in report.models):
        pictures[folder / "error_by_scene.png"] = _by_scene(report.models)
    for model in report.models:
        pictures[folder / f"worst_and_best-{model.name}.png"] = _extremes(model, data_root)
    write_files(pictures)
    return list(pictures)


def _by_queries(report: Report) -> bytes:
    figure, axes = _figure(6.4, 4.2)
    for model in report.models:
        curve = [(r.way.num_queries, r.shared_abs_rel) for r in model.results if r.way.num_queries is not None]
        numbers, values = zip(*sorted(curve), strict=True)
        axes.plot(numbers, values, marker="o", label=model.name)
    axes.set_xscale("log", base=2)
    asked = sorted({r.way.num_queries for m in report.models for r in m.results if r.way.num_queries is not None})
    axes.set_xticks(asked, [str(number) for number in asked])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("points asked at once, K")
    axes.set_ylabel(f"raw AbsRel at the same {report.num_shared_points} points of each image")
    axes.legend()
    return _png(figure)


def _by_depth(models: Sequence[ModelReport]) -> bytes:
    figure, (error_axes, bias_axes, share_axes) = _figure(9.0, 7.6, rows=3, height_ratios=(3, 3, 1.4), sharex=True)
    # All models answer about the same points, so the ranges without one are the same.
    shown = _with_points(models[0].breakdown.by_depth)
    ranges = models[0].breakdown.by_depth[shown]
    middles = np.arange(len(ranges))
    for model in models:
        errors = [error.abs_rel for error in model.breakdown.by_depth[shown]]
        biases = [error.log_bias for error in model.breakdown.by_depth[shown]]
        error_axes.plot(middles, _with_gaps(errors), marker="o", label=model.name)
        # A bias of log depth as the factor that people can imagine.
        bias_axes.plot(middles, np.exp(_with_gaps(biases)), marker="o")
    error_axes.set_ylim(bottom=0)
    error_axes.set_ylabel("raw AbsRel")
    error_axes.legend()
    bias_axes.axhline(1, color="0.6", linewidth=1)
    bias_axes.set_yscale("log")
    _plain_log_ticks(bias_axes)
    bias_axes.set_ylabel("predicted / true, raw (geometric mean)")
    share_axes.bar(middles, [100 * error.share for error in ranges], color="0.7")
    share_axes.set_ylabel("% of points")
    share_axes.set_xticks(middles, [f"{error.low_m:g}–{error.high_m:g}" for error in ranges], fontsize=8)
    share_axes.set_xlabel("true depth, metres")
    return _png(figure)


def _with_points(ranges: Sequence[RangeError]) -> slice:
    """From the first to the last range that has a point."""
    indices = [index for index, error in enumerate(ranges) if error.share > 0]
    return slice(indices[0], indices[-1] + 1)


def _by_part(models: Sequence[ModelReport]) -> bytes:
    figure, axes = _figure(3.6 * len(models) + 0.8, 3.2, columns=len(models), squeeze=False)
    limit = float(np.nanmax([np.nanmax(model.breakdown.by_part) for model in models]))
    shown = None
    for panel, model in zip(axes[0], models, strict=True):
        part = model.breakdown.by_part
        shown = panel.imshow(part, vmin=0, vmax=limit, cmap="viridis", aspect="auto")
        for row in range(NUM_ROWS):
            for column in range(NUM_COLUMNS):
                if np.isfinite(part[row, column]):
                    colour = "black" if part[row, column] > 0.6 * limit else "white"
                    panel.text(column, row, f"{part[row, column]:.2f}", ha="center", va="center", color=colour)
        panel.set_title(model.name)
        panel.set_xticks([])
        panel.set_yticks([])
    assert shown is not None
    figure.colorbar(shown, ax=axes.ravel().tolist(), label="raw AbsRel by part of the image")
    return _png(figure)


def _by_scene(models: Sequence[ModelReport]) -> bytes:
    all_scenes = models[0].breakdown.by_scene
    # The worst is on top, so it is drawn last.
    scenes = [(error.scene, error.num_images) for error in all_scenes[:_MOST_SCENES_DRAWN]][::-1]
    figure, panels = _figure(10.2, 1.4 + 0.28 * len(scenes) * max(1.0, len(models) / 2), columns=2, sharey=True)
    for axes, kind in zip(panels, ("raw", "median_aligned"), strict=True):
        for index, model in enumerate(models):
            errors = {error.scene: _of_alignment(error, kind) for error in model.breakdown.by_scene}
            values, spreads = zip(*(errors[scene] for scene, _ in scenes), strict=True)
            height = 0.8 / len(models)
            offset = 0.4 - height * (index + 0.5)
            axes.barh(np.arange(len(scenes)) + offset, values, height, xerr=spreads, label=model.name)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{kind} AbsRel")
    panels[0].set_yticks(np.arange(len(scenes)), [f"{scene.replace('_', ' ')} ({count})" for scene, count in scenes])
    panels[0].set_ylim(-0.6, len(scenes) - 0.4)
    panels[0].legend(loc="lower right")
    left_out = len(all_scenes) - len(scenes)
    rest = f"; {left_out} more are in report.json" if left_out else ""
    figure.suptitle(
        f"scenes, their number of images in brackets; lines: standard error between images{rest}", fontsize=10
    )
    return _png(figure)


def _of_alignment(error: SceneError, alignment: str) -> tuple[float, float]:
    """AbsRel and its standard error, 0 where a scene has a single image."""
    if alignment == "raw":
        return error.abs_rel, error.standard_error or 0.0
    return error.median_aligned_abs_rel, error.median_aligned_standard_error or 0.0


def _extremes(model: ModelReport, data_root: Path) -> bytes:
    """The images of largest and of smallest AbsRel, their points coloured by predicted over true depth.

    Raw, unless no image has a camera: all answers would be off by the factor of an assumed one.
    """
    predictions, depth_range = model.detail.predictions, model.identity.depth_range
    has_camera = any(prediction.intrinsics is not None for prediction in predictions)
    alignment: Alignment = "raw" if has_camera else "median_aligned"
    scored = [
        aligned_depth(prediction.predicted_m, prediction.true_m, alignment, depth_range) for prediction in predictions
    ]
    errors = [
        compute_metrics(depth_m, prediction.true_m).abs_rel
        for depth_m, prediction in zip(scored, predictions, strict=True)
    ]
    order = np.argsort(errors, kind="stable")
    count = min(_NUM_EXTREMES, max(1, len(order) // 2))
    rows = {"worst": order[::-1][:count], "best": order[:count]}
    figure, axes = _figure(3.4 * count + 1.0, 5.8, rows=2, columns=count, squeeze=False)
    shown = None
    for panels, (kind, indices) in zip(axes, rows.items(), strict=True):
        for panel, index in zip(panels, indices.tolist(), strict=True):
            image = read_image(data_root / predictions[index].image)
            shown = _draw_ratios(panel, image, predictions[index], scored[index])
            panel.set_title(f"{kind}: {predictions[index].image}\n{alignment} AbsRel {errors[index]:.3f}", fontsize=8)
    assert shown is not None
    bar = figure.colorbar(shown, ax=axes.ravel().tolist(), label="predicted / true", shrink=0.8)
    ticks = (1 / _RATIO_LIMIT, 0.8, 1.0, 1.25, _RATIO_LIMIT)
    bar.set_ticks(np.log(ticks).tolist(), labels=[f"{tick:.2f}" for tick in ticks])
    figure.suptitle(f"{model.name}, {alignment}: red is predicted too far, blue too near", fontsize=10)
    return _png(figure)


def _draw_ratios(
    panel: Any, image: UInt8[np.ndarray, "H W 3"], prediction: ImagePrediction, scored_m: Float[np.ndarray, "N"]
) -> Any:
    chosen = slice(0, _MOST_POINTS_DRAWN)
    u, v = prediction.query_points[chosen].T
    ratio = scored_m[chosen] / prediction.true_m[chosen]
    # In grey, so that the only colours are those of the points.
    panel.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    panel.set_axis_off()
    limit = np.log(_RATIO_LIMIT)
    return panel.scatter(u, v, c=np.log(ratio), s=9, cmap="RdBu_r", vmin=-limit, vmax=limit)


def _with_gaps(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _plain_log_ticks(axes: Any) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    low, high = axes.get_ylim()
    close = [0.25, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0]
    apart = [0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    axes.yaxis.set_major_locator(FixedLocator(close if high < 16 * low else apart))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _figure(width: float, height: float, *, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Any, Any]:
    # Not pyplot: it keeps figures, and looks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    ratios = layout.pop("height_ratios", None)
    grid = {"height_ratios": ratios} if ratios else None
    return figure, figure.subplots(rows, columns, gridspec_kw=grid, **layout)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
