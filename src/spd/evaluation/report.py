"""One evaluation as a document: every model, every K, both errors, and where the error is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from spd.evaluation.breakdown import Breakdown, break_down
from spd.evaluation.consistency import ConsistencyRow
from spd.evaluation.predictions import Identity
from spd.evaluation.protocol import Asking, ImagePrediction, num_points_asked
from spd.evaluation.scores import Scores, score, shared_abs_rel

PREFERRED_QUERIES = 256
"""K of the breakdowns and of the pictures of images, where it is asked."""


class Answers(NamedTuple):
    """A model's predictions for one way of asking, with whose they are."""

    way: Asking
    identity: Identity
    predictions: list[ImagePrediction]


class Result(NamedTuple):
    """Scores of one model for one way of asking."""

    way: Asking
    scores: Scores
    shared_abs_rel: float
    """AbsRel at the points that all K of the report have asked; a curve over K compares these."""


class ModelReport(NamedTuple):
    """All about one model."""

    name: str
    """How tables and legends call it."""
    identity: Identity
    results: tuple[Result, ...]
    detail: Answers
    """The answers that the breakdown and the pictures of images are made of."""
    breakdown: Breakdown
    consistency: tuple[ConsistencyRow, ...] = ()
    """Empty where it was not measured."""


class Report(NamedTuple):
    """All about the models of one evaluation."""

    models: tuple[ModelReport, ...]
    num_shared_points: int
    """Points per image that every K has asked."""


def make_report(
    answers: Mapping[str, Sequence[Answers]], consistency: Mapping[str, tuple[ConsistencyRow, ...]] | None = None
) -> Report:
    """Score the answers of every model, by name; with what was measured of their consistency.

    Raises:
        ValueError: there is no image to score.
    """
    # The dense grid shares no points with the others, and has no K to be drawn at.
    asked = {of_way.way.num_queries for of_model in answers.values() for of_way in of_model}
    num_shared = min((num_points_asked(number) for number in asked if number is not None), default=0)
    measured = consistency or {}
    models = (_of_model(name, of_model, num_shared, measured.get(name, ())) for name, of_model in answers.items())
    return Report(tuple(models), num_shared)


def _of_model(
    name: str, answers: Sequence[Answers], num_shared: int, consistency: tuple[ConsistencyRow, ...]
) -> ModelReport:
    results = tuple(
        Result(
            asked.way,
            score(asked.predictions, asked.identity.depth_range),
            shared_abs_rel(asked.predictions, asked.identity.depth_range, num_shared)
            if asked.way.num_queries is not None
            else float("nan"),
        )
        for asked in answers
    )
    detail = _preferred(answers)
    breakdown = break_down(detail.predictions, detail.identity.depth_range)
    return ModelReport(name, detail.identity, results, detail, breakdown, consistency)


def _preferred(answers: Sequence[Answers]) -> Answers:
    """K = 256 where it was asked, else the largest K, else the dense grid."""
    for asked in answers:
        if asked.way.num_queries == PREFERRED_QUERIES:
            return asked
    return max(answers, key=lambda asked: asked.way.num_queries or 0)


def as_document(report: Report, *, per_image: bool) -> dict[str, Any]:
    """The report as JSON values.

    Args:
        report: of :func:`make_report`.
        per_image: with the metrics of every image.
    """
    identity = report.models[0].identity
    return {
        "protocol_version": identity.protocol_version,
        "data": identity.data,
        "data_checksum": identity.data_checksum,
        "split": identity.split,
        "crop": identity.crop,
        "depth_range_m": [identity.depth_range.min_m, identity.depth_range.max_m],
        "images": len(report.models[0].detail.predictions),
        "shared_points_per_image": report.num_shared_points,
        "models": [_model_document(model, per_image) for model in report.models],
    }


def _model_document(model: ModelReport, per_image: bool) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.identity.model,
        "model_checksum": model.identity.model_checksum,
        "results": [_result_document(result, per_image) for result in model.results],
        "consistency": [row._asdict() for row in model.consistency],
        "breakdown": {"asked": model.detail.way.name, **_breakdown_document(model.breakdown)},
    }


def _result_document(result: Result, per_image: bool) -> dict[str, Any]:
    scores = result.scores
    document = {
        "num_queries": result.way.num_queries if result.way.num_queries is not None else "dense",
        "points": scores.num_points,
        "images_per_second": round(scores.images_per_second, 3),
        "mean": scores.mean._asdict(),
        "standard_error": scores.standard_error and scores.standard_error._asdict(),
        "sampling_error": scores.sampling_error._asdict(),
        "pooled": scores.pooled._asdict(),
        "shared_abs_rel": result.shared_abs_rel if result.way.num_queries is not None else None,
    }
    if per_image:
        document["per_image"] = [
            {"image": image.image, "points": image.num_points, **image.metrics._asdict()} for image in scores.per_image
        ]
    return document


def _breakdown_document(breakdown: Breakdown) -> dict[str, Any]:
    by_part = [[None if np.isnan(value) else float(value) for value in row] for row in breakdown.by_part]
    return {
        "by_depth": [error._asdict() for error in breakdown.by_depth],
        "by_part_abs_rel": by_part,
        "by_scene": [error._asdict() for error in breakdown.by_scene],
    }
