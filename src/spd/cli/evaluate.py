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
from typing import TYPE_CHECKING, Literal

import tyro

from spd.cli.evaluation_tables import print_report
from spd.cli.output import note, print_json, progress

if TYPE_CHECKING:
    from spd.data.rgbd import RGBDDataset
    from spd.depth_range import DepthRange
    from spd.evaluation.consistency import ConsistencyRow
    from spd.evaluation.contenders import Contender
    from spd.evaluation.protocol import Asking, EncodesImages
    from spd.evaluation.report import Answers
    from spd.predictor import Predictor


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
    depth_range: tuple[float, float] | None = None
    """Metres between which true depth is asked, and to which answers are clamped: MIN MAX. Not given, it is that of the
    crop: 0.001 to 10 m for eigen, 0.001 to 1000 m for none."""
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
    from spd.depth_range import DepthRange
    from spd.evaluation.contenders import contenders
    from spd.evaluation.pictures import draw_report
    from spd.evaluation.predictions import data_checksum
    from spd.evaluation.protocol import askings, depth_range_of
    from spd.evaluation.report import as_document, make_report
    from spd.files import write_files

    if options.output.exists() and not options.output.is_dir():
        raise ValueError(f"output must be a folder, got the file {options.output}")
    depth_range = DepthRange(*options.depth_range) if options.depth_range else depth_range_of(options.crop)
    keep_freed_memory()
    ways = askings(options.num_queries, dense=options.dense)
    chosen = contenders(options.model, options.checkpoint, options.depth_anything)
    dataset = RGBDDataset(options.data, [options.split])
    checksum = data_checksum(dataset, options.data)
    answers, consistency = {}, {}
    for contender in chosen:
        predictor = _build(contender, depth_range, options)
        name = _name(contender, options)
        answers[name] = _answers(contender, predictor, dataset, checksum, ways, depth_range, options)
        if options.consistency:
            consistency[name] = _consistency(name, predictor, dataset, depth_range, options)
    report = make_report(answers, consistency)
    document = as_document(report, per_image=True)
    write_files({options.output / "report.json": f"{json.dumps(document, indent=2, allow_nan=False)}\n".encode()})
    pictures = draw_report(report, options.data, options.output)
    if options.json:
        print_json(as_document(report, per_image=False))
    else:
        print_report(report)
    note(f"wrote report.json, {', '.join(path.name for path in pictures)} to {options.output}")


def _build(contender: Contender, depth_range: DepthRange, options: Options) -> Predictor:
    from spd.data.rgbd import RGBDDataset
    from spd.evaluation.contenders import build

    def training_frames() -> RGBDDataset:
        return RGBDDataset(options.data, options.train_splits)

    with progress(f"{contender.name}: fitted frames", None) as fitted:
        return build(
            contender,
            training_frames=training_frames,
            depth_range=depth_range,
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


def _consistency(
    name: str, predictor: Predictor, dataset: RGBDDataset, depth_range: DepthRange, options: Options
) -> tuple[ConsistencyRow, ...]:
    from spd.evaluation.consistency import measure_consistency

    with progress(f"{name}: consistency", len(dataset)) as advance:
        asked = _asked(predictor, options)
        return measure_consistency(
            asked, dataset, options.data, crop=options.crop, depth_range=depth_range, progress=advance
        )


def _answers(
    contender: Contender,
    predictor: Predictor,
    dataset: RGBDDataset,
    dataset_checksum: str,
    ways: Sequence[Asking],
    depth_range: DepthRange,
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
            depth_range=depth_range,
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
            asked, where = _asked(predictor, options), {"crop": options.crop, "depth_range": depth_range}
            for row in predict(asked, dataset, options.data, ways=missing, **where):
                rows.append(row)
                advance(1)
        folder.mkdir(parents=True, exist_ok=True)
        for way, predictions in zip(missing, zip(*rows, strict=True), strict=True):
            write_predictions(paths[way], predictions, identities[way])
            kept[way] = read_predictions(paths[way], identities[way])
    return [Answers(way, identities[way], kept[way]) for way in ways]
