"""The tables of ``spd evaluate``: over images, over scenes, over all points, each raw and aligned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from spd.cli.output import print_table

if TYPE_CHECKING:
    from spd.evaluation.alignment import Alignment
    from spd.evaluation.metrics import Metrics
    from spd.evaluation.pair_distance import PairDistance
    from spd.evaluation.report import ModelReport, Report, Result
    from spd.evaluation.scores import Scores

_MAIN_METRICS = ("abs_rel", "rmse", "delta1")
_OTHER_METRICS = ("sq_rel", "rmse_log", "silog", "log10", "delta2", "delta3")
_ALIGNED = (
    "raw: as answered; median_aligned, log_fit_aligned: each image's answers first brought to its truth, by one factor "
    "or by a line in log depth"
)


def print_report(report: Report) -> None:
    """Print all tables of one data set on standard output."""
    _print_over_images(report)
    for sentence in report.notes():
        print(f"Note: {sentence}.")
    _print_over_scenes(report)
    _print_pooled(report)
    _print_consistency(report)


def print_summary(reports: Sequence[Report]) -> None:
    """The main figure of every data set, raw and aligned, over images and over scenes, in one table."""
    rows = []
    for report in reports:
        for model in report.models:
            result = next(result for result in model.results if result.way == model.detail.way)
            means = [scores.mean for scores in result.scores.values()]
            over_scenes = [scores.over_scenes and scores.over_scenes.mean for scores in result.scores.values()]
            rows.append(
                [
                    f"{report.identity.data} {report.identity.split}",
                    model.name,
                    result.way.name,
                    str(report.num_images),
                    *(_value(mean, "abs_rel") for mean in (*means, *over_scenes)),
                    _value(result.pair_distance.get("raw"), "mean"),
                ]
            )
    alignments = list(reports[0].models[0].results[0].scores)
    over = [f"{alignment}{where}" for where in ("", ", scenes") for alignment in alignments]
    print_table(
        ("data set", "model", "K", "images", *over, "raw pair_distance"),
        rows,
        title="All data sets: abs_rel, mean over images and (scenes) mean over scenes",
        text_columns=("data set", "model"),
    )


def _print_over_images(report: Report) -> None:
    identity = report.identity
    print_table(
        ("model", "K", "alignment", *_with_errors(2), *_OTHER_METRICS, "pair_distance", "images/s"),
        [
            [
                *start,
                *_with_both_errors(scores),
                *_values(scores.mean, _OTHER_METRICS),
                _value(result.pair_distance.get(alignment), "mean"),
                _speed(result, alignment),
            ]
            for start, result, alignment, scores in _rows(report)
        ],
        title=f"Mean over the {report.num_images} images of {identity.split} of {identity.data}, crop {identity.crop}, "
        f"true depth {identity.depth_range}",
        caption=f"{_ALIGNED}\n±1 between images, ±2 from which points are asked (standard errors); sq_rel and rmse in "
        f"metres\n{_pairs(report)}",
        text_columns=("model", "alignment"),
    )


def _print_over_scenes(report: Report) -> None:
    over_scenes = report.models[0].results[0].scores["raw"].over_scenes
    if over_scenes is None:
        return
    rows = []
    for start, result, alignment, scores in _rows(report):
        assert scores.over_scenes is not None, "all of a report have the same images"
        mean, error = scores.over_scenes.mean, scores.over_scenes.standard_error
        main = [cell for metric in _MAIN_METRICS for cell in (_value(mean, metric), _value(error, metric))]
        pairs = _value(result.pair_distance.get(alignment), "mean_over_scenes")
        rows.append([*start, *main, *_values(mean, _OTHER_METRICS), pairs])
    identity = report.identity
    images = sum(scene.num_images for scene in over_scenes.per_scene)
    print_table(
        ("model", "K", "alignment", *_with_errors(1), *_OTHER_METRICS, "pair_distance"),
        rows,
        title=f"Mean over the {len(over_scenes.per_scene)} scenes of {identity.split} of {identity.data}: of the means "
        f"over each scene's images, {images} in all",
        caption="±1 between scenes (standard error)",
        text_columns=("model", "alignment"),
    )


def _print_pooled(report: Report) -> None:
    print_table(
        ("model", "K", "alignment", "points", *_MAIN_METRICS, *_OTHER_METRICS),
        [
            [*start, str(scores.num_points), *_values(scores.pooled, (*_MAIN_METRICS, *_OTHER_METRICS))]
            for start, _, _, scores in _rows(report)
        ],
        title="Pooled: over all points of all images together, each image aligned by itself",
        text_columns=("model", "alignment"),
    )


def _print_consistency(report: Report) -> None:
    rows = [(model.name, model.consistency) for model in report.models if model.consistency]
    if not rows:
        return
    companions = [str(row.companions) for row in rows[0][1]]
    print_table(
        ("model", "", *companions),
        [
            [name, figure, *(f"{100 * getattr(row, field):.3g} %" for row in consistency)]
            for name, consistency in rows
            for figure, field in (("mean", "mean"), ("99th percentile", "percentile99"))
        ],
        title="Change of log depth at fixed pixels, by the number of other points asked with them",
        caption="against the same pixels among 240 others",
        text_columns=("model", ""),
    )


def _rows(report: Report) -> Iterator[tuple[list[str], Result, Alignment, Scores]]:
    """A row's first cells, with what it is about: every model, way of asking and alignment."""
    for model in report.models:
        for result in model.results:
            for alignment, scores in result.scores.items():
                yield _start(model, result, alignment), result, alignment, scores


def _start(model: ModelReport, result: Result, alignment: str) -> list[str]:
    return [model.name, result.way.name, alignment]


def _speed(result: Result, alignment: str) -> str:
    """Once per way of asking: an alignment comes after the answer."""
    return f"{result.images_per_second:.1f}" if alignment == "raw" else ""


def _with_errors(number: int) -> list[str]:
    """Headings of the main metrics, each with that many errors."""
    return [heading for metric in _MAIN_METRICS for heading in (metric, "±1", "±2")[: 1 + number]]


def _with_both_errors(scores: Scores) -> list[str]:
    sources = (scores.mean, scores.standard_error, scores.sampling_error)
    return [_value(source, metric) for metric in _MAIN_METRICS for source in sources]


def _values(metrics: Metrics, names: Sequence[str]) -> list[str]:
    return [_value(metrics, name) for name in names]


def _value(figures: Metrics | PairDistance | None, name: str) -> str:
    value = getattr(figures, name, None)
    return "" if value is None else f"{value:.4f}"


def _pairs(report: Report) -> str:
    """What the column pair_distance is."""
    distance = report.models[0].results[0].pair_distance.get("raw")
    if distance is None:
        return "pair_distance needs a camera, and no image has one"
    return (
        "pair_distance: relative error of the distance between two random points, lifted with the image's camera; "
        f"median over pairs, mean over the {distance.num_images} images with a camera"
    )
