"""Score models on data sets: SPD beside the baselines, at every number of points asked at once, raw and aligned.

Every image is asked for the depth of fixed random points, the same for every model, K at a time. Answers go to files
in the folder --output, and all figures come from these: a second run only asks what is not there yet, and refuses a
file that another checkpoint, data set or protocol wrote. docs/evaluation.md says how exactly.

Example:
  spd evaluate --data rooms --checkpoint runs/rooms --split val --crop none
  spd evaluate --data nyu rgbd --checkpoint runs/nyu --split test val --crop eigen none
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from spd.cli.evaluation_tables import print_report, print_summary
from spd.cli.output import has_plots, note, print_json, progress
from spd.engines import Precision, Runtime

if TYPE_CHECKING:
    from spd.evaluation.consistency import ConsistencyRow
    from spd.evaluation.contenders import Contender
    from spd.evaluation.data_sets import EvaluatedData
    from spd.evaluation.protocol import Asking, EncodesImages, ImagePrediction
    from spd.evaluation.report import Answers, Report
    from spd.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd evaluate``."""

    data: tuple[Path, ...]
    """Folders of the data sets, each with manifest.csv."""
    model: tuple[Literal["spd", "bilinear", "depth-anything", "median", "mean-map"], ...] = ("spd",)
    """Models to score, side by side; spd and bilinear each take the next --checkpoint."""
    checkpoint: tuple[str, ...] = ()
    """Folders of the checkpoints, or owner/name on the Hugging Face hub, in the order of their models;
    spd-lite is the one that comes with SPD."""
    depth_anything: str | None = None
    """Folder or name of Depth Anything's weights; None is V2 Small, metric, indoor."""
    split: tuple[str, ...] = ("test",)
    """Split that is scored: one for all data sets, or one for each."""
    train_splits: tuple[str, ...] = ("train",)
    """Splits of each data set that median and mean-map are fitted to."""
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
    runtime: Runtime = "torch"
    """Engine of spd and bilinear; compile is torch.compile. For onnx and openvino --checkpoint names folders that spd
    export wrote."""
    precision: Precision = "float32"
    """Of the products of spd and bilinear."""
    crop: tuple[Literal["eigen", "none"], ...] = ("eigen",)
    """eigen scores the usual inner part of 640x480 images and refuses other sizes; none scores all pixels. One for all
    data sets, or one for each."""
    depth_range: tuple[float, float] | None = None
    """Metres between which true depth is asked, and to which answers are clamped: MIN MAX. Not given, it is that of the
    crop: 0.001 to 10 m for eigen, 0.001 to 1000 m for none."""
    skip_empty: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out images without a valid depth, and count them in the report, in place of ending with an error."""
    device: str | None = None
    """Where the models run, such as cpu or cuda:0; None is CUDA where there is one, else the CPU."""
    output: Path = Path("evaluation")
    """Folder for what is found: in a folder DATA-SPLIT for each data set the answers, report.json with the metrics of
    every image, and the pictures."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ask again where the folder holds answers, whatever gave them."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document in place of the tables."""


def run(options: Options) -> None:
    """Ask, score, report, draw: one data set after the other."""
    from spd.allocator import keep_freed_memory
    from spd.depth_range import DepthRange
    from spd.evaluation.contenders import contenders
    from spd.evaluation.data_sets import evaluated_data
    from spd.evaluation.protocol import askings
    from spd.evaluation.report import as_document
    from spd.files import require_free_or_own

    require_free_or_own(options.output, ("*/report.json", "report.json", "*/*.npz"), "an evaluation")
    ways = askings(options.num_queries, dense=options.dense)
    chosen = contenders(options.model, options.checkpoint, options.depth_anything)
    depth_range = DepthRange(*options.depth_range) if options.depth_range else None
    data_sets = evaluated_data(options.data, options.split, options.crop, depth_range)
    keep_freed_memory()
    trained: dict[Contender, Predictor] = {}
    reports = []
    for data in data_sets:
        report = _evaluate(data, chosen, trained, ways, options)
        _write(report, data, options.output / data.name)
        if not options.json:
            print_report(report)
        reports.append(report)
    if options.json:
        print_json({"data_sets": [as_document(report, per_image=False) for report in reports]})
    elif len(reports) > 1:
        print_summary(reports)


def _evaluate(
    data: EvaluatedData,
    chosen: Sequence[Contender],
    trained: dict[Contender, Predictor],
    ways: Sequence[Asking],
    options: Options,
) -> Report:
    """All models on one data set; ``trained`` keeps those that are the same for the next."""
    from spd.evaluation.report import make_report

    answers, consistency = {}, {}
    skipped: list[str] = []
    for contender in chosen:
        predictor = trained.get(contender) or _build(contender, data, options)
        if contender.model not in ("median", "mean-map"):
            trained[contender] = predictor
        name = _name(contender, options)
        answers[name] = _answers(contender, predictor, data, ways, options)
        answered = {prediction.image for prediction in answers[name][0].predictions}
        skipped = [image for image in data.image_names() if image not in answered]
        if options.consistency:
            consistency[name] = _consistency(name, predictor, data, options)
    return make_report(answers, consistency, skipped)


def _write(report: Report, data: EvaluatedData, folder: Path) -> None:
    from spd.evaluation.report import as_document
    from spd.files import write_files

    document = as_document(report, per_image=True)
    write_files({folder / "report.json": f"{json.dumps(document, indent=2, allow_nan=False)}\n".encode()})
    names = ["report.json"]
    if has_plots():
        from spd.evaluation.pictures import draw_report

        names += [path.name for path in draw_report(report, data.root, folder)]
    note(f"wrote {', '.join(names)} to {folder}")


def _build(contender: Contender, data: EvaluatedData, options: Options) -> Predictor:
    from spd.data.rgbd import RGBDDataset
    from spd.evaluation.contenders import build

    def training_frames() -> RGBDDataset:
        return RGBDDataset(data.root, options.train_splits)

    with progress(f"{contender.name}: fitted frames", None) as fitted:
        return build(
            contender,
            training_frames=training_frames,
            depth_range=data.depth_range,
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


def _consistency(name: str, predictor: Predictor, data: EvaluatedData, options: Options) -> tuple[ConsistencyRow, ...]:
    from spd.evaluation.consistency import measure_consistency

    with progress(f"{name}: consistency", len(data.frames)) as advance:
        return measure_consistency(
            _asked(predictor, options),
            data.frames,
            data.root,
            crop=data.crop,
            depth_range=data.depth_range,
            skip_empty=options.skip_empty,
            progress=advance,
        )


def _answers(
    contender: Contender, predictor: Predictor, data: EvaluatedData, ways: Sequence[Asking], options: Options
) -> list[Answers]:
    """Of one model, from its files where they are there, else asked now and written."""
    from spd.evaluation.contenders import model_checksum
    from spd.evaluation.predictions import Identity, read_predictions, write_predictions
    from spd.evaluation.report import Answers

    name = _name(contender, options)
    checksum = model_checksum(predictor) + ("+flip" if options.flip else "")
    folder = options.output / data.name / name
    identities = {
        way: Identity(
            model=contender.model,
            model_checksum=checksum,
            data=data.root.resolve().name,
            data_checksum=data.checksum,
            split=data.split,
            crop=data.crop,
            depth_range=data.depth_range,
            asking=way.name,
        )
        for way in ways
    }
    paths = {way: folder / f"{way.name}.npz" for way in ways}
    kept = {
        way: read_predictions(path, identities[way])
        for way, path in paths.items()
        if path.exists() and not options.overwrite
    }
    for way, predictions in kept.items():
        if len(predictions) < len(data.frames) and not options.skip_empty:
            raise ValueError(
                f"{paths[way]} holds answers about {len(predictions)} of the {len(data.frames)} images, since "
                "the others have no valid depth; pass --skip-empty to leave them out"
            )
    missing = [way for way in ways if way not in kept]
    if missing:
        rows = _ask(name, _asked(predictor, options), data, missing, options)
        folder.mkdir(parents=True, exist_ok=True)
        for way, predictions in zip(missing, zip(*rows, strict=True), strict=True):
            write_predictions(paths[way], predictions, identities[way])
            kept[way] = read_predictions(paths[way], identities[way])
    return [Answers(way, identities[way], kept[way]) for way in ways]


def _ask(
    name: str, asked: EncodesImages, data: EvaluatedData, ways: Sequence[Asking], options: Options
) -> list[tuple[ImagePrediction, ...]]:
    """The answers about each image that has a valid depth, in the order of ``ways``."""
    from spd.evaluation.protocol import predict

    rows = []
    with progress(f"{name}: images of {data.name}", len(data.frames)) as advance:
        where = {"crop": data.crop, "depth_range": data.depth_range, "skip_empty": options.skip_empty}
        for row in predict(asked, data.frames, data.root, ways=ways, **where):
            rows.append(row)
            advance(1)
        if not rows:
            raise ValueError(f"no image of split {data.split} of {data.root} has a valid depth ({data.depth_range})")
        if left_out := len(data.frames) - len(rows):
            advance(left_out)
    return rows
