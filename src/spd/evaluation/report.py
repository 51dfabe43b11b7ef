"""One evaluation of one data set as a document: every model, every K, raw and aligned, and where the error is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from spd.evaluation.alignment import ALIGNMENTS, Alignment
from spd.evaluation.breakdown import Breakdown, break_down
from spd.evaluation.consistency import ConsistencyRow
from spd.evaluation.pair_distance import PairDistance, pair_distance
from spd.evaluation.predictions import Identity
from spd.evaluation.protocol import Asking, ImagePrediction, num_points_asked
from spd.evaluation.scores import Scores, images_per_second, score, shared_abs_rel

PREFERRED_QUERIES = 256
"""K of the breakdowns and of the pictures of images, where it is asked."""
PAIR_ALIGNMENTS: tuple[Alignment, ...] = ("raw", "median_aligned")
"""Of the distances between points."""


class Answers(NamedTuple):
    """A model's predictions for one way of asking, with whose they are."""

    way: Asking
    identity: Identity
    predictions: list[ImagePrediction]


class Result(NamedTuple):
    """Scores of one model for one way of asking."""

    way: Asking
    scores: Mapping[Alignment, Scores]
    """By alignment: raw, and after each way to bring an image's answers to its truth."""
    pair_distance: Mapping[Alignment, PairDistance]
    """Of the answers raw and median_aligned; empty where no image has a camera."""
    images_per_second: float
    shared_abs_rel: float
    """Raw AbsRel at the points that all K of the report have asked; a curve over K compares these."""


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
    """All about the models of one data set."""

    models: tuple[ModelReport, ...]
    num_shared_points: int
    """Points per image that every K has asked."""
    skipped: tuple[str, ...] = ()
    """Images without a valid depth, which were left out."""

    @property
    def identity(self) -> Identity:
        """Of the first model: what it says of data and protocol is the same for all."""
        return self.models[0].identity

    @property
    def num_images(self) -> int:
        """Images that were asked about."""
        return len(self.models[0].detail.predictions)

    @property
    def num_images_without_camera(self) -> int:
        """Images of which the manifest has no camera."""
        return sum(prediction.intrinsics is None for prediction in self.models[0].detail.predictions)

    def notes(self) -> list[str]:
        """What a reader of the figures has to know, a sentence each."""
        notes = []
        if bare := self.num_images_without_camera:
            notes.append(
                f"{bare} of the {self.num_images} images have no camera in the manifest, so one is assumed: raw metres "
                "are not meaningful for them, the aligned figures are"
            )
        if self.skipped:
            more = f" and {len(self.skipped) - 3} more" if len(self.skipped) > 3 else ""
            notes.append(
                f"left out for want of a valid depth: {len(self.skipped)} of "
                f"{self.num_images + len(self.skipped)} images ({', '.join(self.skipped[:3])}{more})"
            )
        return notes


def make_report(
    answers: Mapping[str, Sequence[Answers]],
    consistency: Mapping[str, tuple[ConsistencyRow, ...]] | None = None,
    skipped: Sequence[str] = (),
) -> Report:
    """Score the answers of every model about one data set.

    Args:
        answers: by name of the model.
        consistency: what was measured of it, by name of the model.
        skipped: images that were left out.

    Raises:
        ValueError: there is no image to score.
    """
    # The dense grid shares no points with the others, and has no K to be drawn at.
    asked = {of_way.way.num_queries for of_model in answers.values() for of_way in of_model}
    num_shared = min((num_points_asked(number) for number in asked if number is not None), default=0)
    measured = consistency or {}
    models = (_of_model(name, of_model, num_shared, measured.get(name, ())) for name, of_model in answers.items())
    return Report(tuple(models), num_shared, tuple(skipped))


def _of_model(
    name: str, answers: Sequence[Answers], num_shared: int, consistency: tuple[ConsistencyRow, ...]
) -> ModelReport:
    results = tuple(
        Result(
            asked.way,
            {name: score(asked.predictions, asked.identity.depth_range, name) for name in ALIGNMENTS},
            _pair_distances(asked),
            images_per_second(asked.predictions),
            shared_abs_rel(asked.predictions, asked.identity.depth_range, num_shared)
            if asked.way.num_queries is not None
            else float("nan"),
        )
        for asked in answers
    )
    detail = _preferred(answers)
    breakdown = break_down(detail.predictions, detail.identity.depth_range)
    return ModelReport(name, detail.identity, results, detail, breakdown, consistency)


def _pair_distances(asked: Answers) -> dict[Alignment, PairDistance]:
    measured: dict[Alignment, PairDistance] = {}
    for alignment in PAIR_ALIGNMENTS:
        if (distance := pair_distance(asked.predictions, asked.identity.depth_range, alignment)) is not None:
            measured[alignment] = distance
    return measured


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
    identity = report.identity
    return {
        "protocol_version": identity.protocol_version,
        "data": identity.data,
        "data_checksum": identity.data_checksum,
        "split": identity.split,
        "crop": identity.crop,
        "depth_range_m": [identity.depth_range.min_m, identity.depth_range.max_m],
        "images": report.num_images,
        "images_without_camera": report.num_images_without_camera,
        "skipped_images": list(report.skipped),
        "notes": report.notes(),
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
    asked = result.way.num_queries
    document = {
        "num_queries": "dense" if asked is None else asked,
        "points": result.scores["raw"].num_points,
        "images_per_second": round(result.images_per_second, 3),
        "raw_shared_abs_rel": None if asked is None else result.shared_abs_rel,
        **{alignment: _scores_document(scores) for alignment, scores in result.scores.items()},
        "pair_distance": {name: _pair_document(distance) for name, distance in result.pair_distance.items()} or None,
    }
    if per_image:
        document["per_image"] = _image_documents(result)
    return document


def _scores_document(scores: Scores) -> dict[str, Any]:
    over_scenes = scores.over_scenes
    return {
        "mean": scores.mean._asdict(),
        "standard_error": scores.standard_error and scores.standard_error._asdict(),
        "sampling_error": scores.sampling_error._asdict(),
        "over_scenes": over_scenes
        and {
            "scenes": len(over_scenes.per_scene),
            "mean": over_scenes.mean._asdict(),
            "standard_error": over_scenes.standard_error and over_scenes.standard_error._asdict(),
        },
        "pooled": scores.pooled._asdict(),
    }


def _pair_document(distance: PairDistance) -> dict[str, Any]:
    return {
        "images": distance.num_images,
        "mean": distance.mean,
        "standard_error": distance.standard_error,
        "mean_over_scenes": distance.mean_over_scenes,
    }


def _image_documents(result: Result) -> list[dict[str, Any]]:
    documents = []
    for index, image in enumerate(result.scores["raw"].per_image):
        documents.append(
            {
                "image": image.image,
                "scene": image.scene or None,
                "points": image.num_points,
                **{name: scores.per_image[index].metrics._asdict() for name, scores in result.scores.items()},
                "pair_distance": {name: distance.per_image[index] for name, distance in result.pair_distance.items()}
                or None,
            }
        )
    return documents


def _breakdown_document(breakdown: Breakdown) -> dict[str, Any]:
    by_part = [[None if np.isnan(value) else float(value) for value in row] for row in breakdown.by_part]
    return {
        "by_depth": [error._asdict() for error in breakdown.by_depth],
        "by_part_abs_rel": by_part,
        "by_scene": [error._asdict() for error in breakdown.by_scene],
    }
