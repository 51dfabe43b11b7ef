"""Score models on a split of a data set: SPD beside the baselines, at every number of points asked at once.

Every image is asked for the depth of fixed random points, the same for every model, K at a time. Answers go to files
in the folder --output, and all figures come from these: a second run only asks what is not there yet, and refuses a
file that another checkpoint, data set or protocol wrote. docs/evaluation.md says how exactly.

Example:
  spd evaluate --data rooms --checkpoint runs/rooms --split val --crop none
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from spd.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from spd.data.rgbd import RGBDDataset
    from spd.evaluation.consistency import ConsistencyRow
    from spd.evaluation.contenders import Contender
    from spd.evaluation.metrics import Metrics
    from spd.evaluation.protocol import Asking, EncodesImages
    from spd.evaluation.report import Answers, Report
    from spd.predictor import Predictor

_MAIN_METRICS = ("abs_rel", "rmse", "delta1")
_OTHER_METRICS = ("sq_rel", "rmse_log", "silog", "log10", "delta2", "delta3")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd evaluate``."""

    data: Path
    """Folder of the data set, with manifest.csv."""
    model: tuple[Literal["spd", "bilinear", "depth-anything", "median", "mean-map"], ...] = ("spd",)
    """Models to score, side by side; spd and bilinear each take the next --checkpoint."""
    checkpoint: tuple[str, ...] = ()
    """Folders of the checkpoints, or owner/name on the Hugging Face hub, in the order of their models;
    spd-rooms-nyu-atto is the one that comes with SPD."""
    depth_anything: str | None = None
    """Folder or name of Depth Anything's weights; None is V2 Small, metric, indoor."""
    split: str = "test"
    """Split that is scored."""
    train_splits: tuple[str, ...] = ("train",)
    """Splits that median and mean-map are fitted to."""
    num_queries: tuple[int, ...] = (256,)
    """Numbers of points K that are asked at once, each scored."""
    dense: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also ask every fourth pixel in both directions, all at once."""
    consistency: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also ask fixed pixels among many sets of other points, and say how much their answers change."""
    flip: tyro.conf.FlagCreatePairsOff[bool] = False
    """Average every answer with the one about the mirrored image; such a model is called NAME+flip."""
    interaction: Literal["joint", "anchored"] | None = None
    """Run spd in another mode than it was trained in; warns."""
    runtime: Literal["torch", "compile", "onnx", "openvino"] = "torch"
    """Engine of spd and bilinear; compile is torch.compile. For onnx and openvino --checkpoint names folders that spd
    export wrote."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products of spd and bilinear."""
    crop: Literal["eigen", "none"] = "eigen"
    """eigen scores the usual inner part of 640x480 images and refuses other sizes; none scores all pixels."""
    device: str | None = None
    """Where the models run, such as cpu or cuda:0; None is CUDA where there is one, else the CPU."""
    output: Path = Path("evaluation")
    """Folder for the answers, report.json with the metrics of every image, and the pictures."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ask again where the folder holds answers, whatever gave them."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document in place of the tables."""


def run(options: Options) -> None:
    """Ask, score, report, draw."""
    from spd.allocator import keep_freed_memory
    from spd.data.rgbd import RGBDDataset
    from spd.evaluation.contenders import contenders
    from spd.evaluation.pictures import draw_report
    from spd.evaluation.predictions import data_checksum
    from spd.evaluation.protocol import askings
    from spd.evaluation.report import as_document, make_report
    from spd.files import require_free_or_own, write_files

    require_free_or_own(options.output, ("report.json", "*/*.npz"), "an evaluation")
    keep_freed_memory()
    ways = askings(options.num_queries, dense=options.dense)
    chosen = contenders(options.model, options.checkpoint, options.depth_anything)
    dataset = RGBDDataset(options.data, [options.split])
    checksum = data_checksum(dataset, options.data)
    answers, consistency = {}, {}
    for contender in chosen:
        predictor = _build(contender, options)
        name = _name(contender, options)
        answers[name] = _answers(contender, predictor, dataset, checksum, ways, options)
        if options.consistency:
            consistency[name] = _consistency(name, predictor, dataset, options)
    report = make_report(answers, consistency)
    document = as_document(report, per_image=True)
    write_files({options.output / "report.json": f"{json.dumps(document, indent=2, allow_nan=False)}\n".encode()})
    pictures = draw_report(report, options.data, options.output)
    if options.json:
        print_json(as_document(report, per_image=False))
    else:
        _print(report)
    note(f"wrote report.json, {', '.join(path.name for path in pictures)} to {options.output}")


def _build(contender: Contender, options: Options) -> Predictor:
    from spd.data.rgbd import RGBDDataset
    from spd.evaluation.contenders import build

    def training_frames() -> RGBDDataset:
        return RGBDDataset(options.data, options.train_splits)

    with progress(f"{contender.name}: fitted frames", None) as fitted:
        return build(
            contender,
            training_frames=training_frames,
            device=options.device,
            interaction=options.interaction,
            runtime=options.runtime,
            precision=options.precision,
            fitting=fitted,
        )


def _name(contender: Contender, options: Options) -> str:
    return f"{contender.name}+flip" if options.flip else contender.name


def _asked(predictor: Predictor, options: Options) -> EncodesImages:
    from spd.evaluation.flip import FlipAveraged

    return FlipAveraged(predictor=predictor) if options.flip else predictor


def _consistency(name: str, predictor: Predictor, dataset: RGBDDataset, options: Options) -> tuple[ConsistencyRow, ...]:
    from spd.evaluation.consistency import measure_consistency

    with progress(f"{name}: consistency", len(dataset)) as advance:
        asked = _asked(predictor, options)
        return measure_consistency(asked, dataset, options.data, crop=options.crop, progress=advance)


def _answers(
    contender: Contender,
    predictor: Predictor,
    dataset: RGBDDataset,
    dataset_checksum: str,
    ways: Sequence[Asking],
    options: Options,
) -> list[Answers]:
    """Of one model, from its files where they are there, else asked now and written."""
    from spd.evaluation.contenders import model_checksum
    from spd.evaluation.predictions import Identity, read_predictions, write_predictions
    from spd.evaluation.protocol import predict
    from spd.evaluation.report import Answers

    name = _name(contender, options)
    checksum = model_checksum(predictor) + ("+flip" if options.flip else "")
    folder = options.output / name
    identities = {
        way: Identity(
            model=contender.model,
            model_checksum=checksum,
            data=options.data.resolve().name,
            data_checksum=dataset_checksum,
            split=options.split,
            crop=options.crop,
            asking=way.name,
        )
        for way in ways
    }
    paths = {way: folder / f"{options.split}-{way.name}.npz" for way in ways}
    kept = {
        way: read_predictions(path, identities[way])
        for way, path in paths.items()
        if path.exists() and not options.overwrite
    }
    missing = [way for way in ways if way not in kept]
    if missing:
        with progress(f"{name}: images", len(dataset)) as advance:
            rows = []
            for row in predict(_asked(predictor, options), dataset, options.data, ways=missing, crop=options.crop):
                rows.append(row)
                advance(1)
        folder.mkdir(parents=True, exist_ok=True)
        for way, predictions in zip(missing, zip(*rows, strict=True), strict=True):
            write_predictions(paths[way], predictions, identities[way])
            kept[way] = read_predictions(paths[way], identities[way])
    return [Answers(way, identities[way], kept[way]) for way in ways]


def _print(report: Report) -> None:
    identity = report.models[0].identity
    images = len(report.models[0].detail.predictions)
    print_table(
        ("model", "K", *_with_errors(_MAIN_METRICS), *_OTHER_METRICS, "images/s"),
        [
            [model.name, result.way.name, *_figures(result.scores), f"{result.scores.images_per_second:.1f}"]
            for model in report.models
            for result in model.results
        ],
        title=f"Mean over the {images} images of {identity.split} of {identity.data}, crop {identity.crop}",
        caption="±1 between images, ±2 from which points are asked (standard errors); sq_rel and rmse in metres",
        text_columns=("model",),
    )
    print_table(
        ("model", "K", "points", *_MAIN_METRICS, *_OTHER_METRICS),
        [
            [model.name, result.way.name, str(result.scores.num_points), *_values(result.scores.pooled)]
            for model in report.models
            for result in model.results
        ],
        title="Pooled: over all points of all images together",
        text_columns=("model",),
    )
    _print_consistency(report)


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


def _with_errors(metrics: Sequence[str]) -> list[str]:
    return [heading for metric in metrics for heading in (metric, "±1", "±2")]


def _figures(scores: Any) -> list[str]:
    cells = []
    for metric in _MAIN_METRICS:
        between = "" if scores.standard_error is None else f"{getattr(scores.standard_error, metric):.4f}"
        cells += [f"{getattr(scores.mean, metric):.4f}", between, f"{getattr(scores.sampling_error, metric):.4f}"]
    return cells + [f"{getattr(scores.mean, metric):.4f}" for metric in _OTHER_METRICS]


def _values(metrics: Metrics) -> list[str]:
    return [f"{getattr(metrics, metric):.4f}" for metric in (*_MAIN_METRICS, *_OTHER_METRICS)]
