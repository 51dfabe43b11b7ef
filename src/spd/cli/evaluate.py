"""Score a checkpoint on a split of a data set.

Every image is asked for the depth of fixed random points, the same for every model, K at a time. Metrics are
computed per image and averaged over images; docs/evaluation.md says how exactly.

Example:
  spd evaluate --data rooms --checkpoint runs/rooms --split val --crop none
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from spd.cli.output import print_json, print_table, progress

if TYPE_CHECKING:
    from spd.evaluation.protocol import Scores


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd evaluate``."""

    data: Path
    """Folder of the data set, with manifest.csv."""
    checkpoint: str
    """Folder of the checkpoint, or owner/name on the Hugging Face hub."""
    split: str = "test"
    """Split that is scored."""
    num_queries: int = 256
    """Points K that are asked at once."""
    crop: Literal["eigen", "none"] = "eigen"
    """eigen scores the usual inner part of 640x480 images and refuses other sizes; none scores all pixels."""
    device: str | None = None
    """Where the model runs, such as cpu or cuda:0; None is CUDA where there is one, else the CPU."""
    output: Path | None = None
    """JSON file for the report, with the metrics of every image."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document in place of the table."""


def run(options: Options) -> None:
    """Ask, score, and report."""
    if options.output is not None and (options.output.is_dir() or not options.output.parent.is_dir()):
        raise ValueError(f"output must be a file in a folder that exists, got {options.output}")
    import spd
    from spd.data.rgbd import RGBDDataset
    from spd.evaluation.protocol import num_points_asked, predict, score
    from spd.files import write_files

    # Refuses a wrong number before the model is loaded.
    num_points_asked(options.num_queries)
    dataset = RGBDDataset(options.data, [options.split])
    predictor = spd.load(options.checkpoint, device=options.device)
    predictions = []
    with progress("images", len(dataset)) as advance:
        for prediction in predict(predictor, dataset, options.data, num_queries=options.num_queries, crop=options.crop):
            predictions.append(prediction)
            advance(1)
    scores = score(predictions)
    summary = _summary(options, scores)
    if options.output is not None:
        images = [
            {"image": image.image, "points": image.num_points, **image.metrics._asdict()} for image in scores.per_image
        ]
        report = json.dumps({**summary, "per_image": images}, indent=2, allow_nan=False)
        write_files({options.output: f"{report}\n".encode()})
    if options.json:
        print_json(summary)
    else:
        _print(options, scores)


def _summary(options: Options, scores: Scores) -> dict[str, Any]:
    from spd.evaluation.metrics import MAX_DEPTH_M, MIN_DEPTH_M
    from spd.evaluation.protocol import PROTOCOL_VERSION

    return {
        "checkpoint": options.checkpoint,
        "data": str(options.data),
        "split": options.split,
        "num_queries": options.num_queries,
        "crop": options.crop,
        "depth_range_m": [MIN_DEPTH_M, MAX_DEPTH_M],
        "protocol_version": PROTOCOL_VERSION,
        "images": len(scores.per_image),
        "points": sum(image.num_points for image in scores.per_image),
        "images_per_second": round(scores.images_per_second, 3),
        "mean": scores.mean._asdict(),
        "standard_error": scores.standard_error and scores.standard_error._asdict(),
        "pooled": scores.pooled._asdict(),
    }


def _print(options: Options, scores: Scores) -> None:
    errors = scores.standard_error or [None] * len(scores.mean)
    rows = [
        [name, f"{mean:.4f}", "" if error is None else f"{error:.4f}", f"{pooled:.4f}"]
        for name, mean, error, pooled in zip(scores.mean._fields, scores.mean, errors, scores.pooled, strict=True)
    ]
    points = sum(image.num_points for image in scores.per_image)
    print_table(
        ("metric", "mean over images", "± between images", "pooled"),
        rows,
        title=f"{options.checkpoint} on {options.split} of {options.data}: {len(scores.per_image)} images, "
        f"{points} points, {options.num_queries} at a time, crop {options.crop}",
        caption=f"sq_rel and rmse in metres; {scores.images_per_second:.1f} images/s",
        text_columns=("metric",),
    )
