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
    from spd.evaluation.scores import OverScenes, Scores

_MAIN_METRICS = ("abs_rel", "rmse", "delta1")
_OTHER_METRICS = ("sq_rel", "rmse_log", "silog", "log10", "delta2", "delta3")


def print_report(report: Report) -> None:
    """Print all tables of one data set on standard output."""
    _print_over_images(report)
    for sentence in report.notes():
        print(f"Note: {sentence}.")
    _print_over_scenes(report)
    _print_other_metrics(report)
    _print_pooled(report)
    _print_consistency(report)


def print_summary(reports: Sequence[Report]) -> None:
    """The main figure of every data set, raw and aligned, over images and over scenes, in one table."""
    rows = []
    for report in reports:
        for model in report.models:
            result = next(result for result in model.results if result.way == model.detail.way)
            in_scenes = {name: scores.over_scenes and scores.over_scenes.mean for name, scores in result.scores.items()}
            rows.append(
                [
                    f"{report.identity.data} {report.identity.split}",
                    model.name,
                    result.way.name,
                    str(report.num_images),
                    *(_value(scores.mean, "abs_rel") for scores in result.scores.values()),
                    _value(in_scenes["raw"], "abs_rel"),
                    _value(in_scenes["median_aligned"], "abs_rel"),
                    _value(result.pair_distance.get("raw"), "mean"),
                ]
            )
    print_table(
        (
            *("data set", "model", "K", "images", *reports[0].models[0].results[0].scores),
            *("raw, scenes", "median_aligned, scenes", "raw pair_distance"),
        ),
        rows,
        title="All data sets: abs_rel, as the mean over images and, where it says so, over scenes",
        text_columns=("data set", "model"),
    )


def _print_over_images(report: Report) -> None:
    identity = report.identity
    print_table(
        ("model", "K", "alignment", *_with_errors(2), "pair_distance", "images/s"),
        [
            [
                *start,
                *_with_both_errors(scores),
                _value(result.pair_distance.get(alignment), "mean"),
                _speed(result, alignment),
            ]
            for start, result, alignment, scores in _rows(report)
        ],
        title=f"Mean over the {report.num_images} images of {identity.split} of {identity.data}, crop {identity.crop}, "
        f"true depth {identity.depth_range}",
        caption="raw: as answered; median_aligned, log_fit_aligned: each image's answers first brought to its truth, "
        "by one factor\nor by a line in log depth; ±1 between images, ±2 from which points are asked (standard errors)"
        f"\nrmse in metres; {_pairs(report)}",
        text_columns=("model", "alignment"),
    )


def _print_over_scenes(report: Report) -> None:
    first = report.models[0].results[0].scores["raw"].over_scenes
    if first is None:
        return
    rows = []
    for start, result, alignment, scores in _rows(report):
        over_scenes = _over_scenes(scores)
        main = [
            _value(figures, metric)
            for metric in _MAIN_METRICS
            for figures in (over_scenes.mean, over_scenes.standard_error)
        ]
        rows.append([*start, *main, _value(result.pair_distance.get(alignment), "mean_over_scenes")])
    images = sum(scene.num_images for scene in first.per_scene)
    print_table(
        ("model", "K", "alignment", *_with_errors(1), "pair_distance"),
        rows,
        title=f"Mean over the {len(first.per_scene)} scenes of {report.identity.split} of {report.identity.data}: of "
        f"the means over each scene's images, {images} in all",
        caption="±1 between scenes (standard error)",
        text_columns=("model", "alignment"),
    )


def _print_other_metrics(report: Report) -> None:
    rows = []
    for start, _, _, scores in _rows(report):
        rows.append([*start, "images", *_values(scores.mean, _OTHER_METRICS)])
        if scores.over_scenes is not None:
            rows.append([*start, "scenes", *_values(scores.over_scenes.mean, _OTHER_METRICS)])
    print_table(
        ("model", "K", "alignment", "mean over", *_OTHER_METRICS),
        rows,
        title="The other metrics",
        caption="sq_rel in metres",
        text_columns=("model", "alignment", "mean over"),
    )


def _over_scenes(scores: Scores) -> OverScenes:
    assert scores.over_scenes is not None, "all of a report have the same images"
    return scores.over_scenes


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
        "pair_distance: relative error of the distance between two random points, lifted with the image's camera;\n"
        f"median over pairs, mean over the {distance.num_images} images with a camera"
    )
