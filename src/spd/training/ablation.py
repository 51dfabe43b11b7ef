"""What each part and each choice of the model is worth: paired short trainings, scored on the validation split.

Every variant of a study (:mod:`spd.training.studies`) is trained with the same seeds, so with the same batches and the
same first weights wherever its change allows it, and compared with the baseline seed by seed. Each finished row is one
JSON file; a table is made of whatever files are there.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from spd.config import ModelConfig
from spd.coordinates import anchor_points
from spd.data.rgbd import RGBDDataset
from spd.evaluation.consistency import measure_consistency
from spd.evaluation.predictions import data_checksum
from spd.evaluation.protocol import EncodesImages, askings, depth_range_of, predict, valid_pixels
from spd.evaluation.scores import score
from spd.evaluation.support_grid import WithSupportGrid
from spd.files import write_files
from spd.runtime.loading import load
from spd.train_config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from spd.training.run import train
from spd.training.studies import AblationProtocol, Change, Study
from spd.variant import Variant


class Row(NamedTuple):
    """One variant with the weights of one training."""

    variant: str
    seed: int


class Comparison(NamedTuple):
    """A variant against the baseline over the seeds that both have finished."""

    mean: float
    """Of variant minus baseline."""
    half_width: float
    """Of the 95 % interval of the mean, by Student's t over the paired seeds; infinite for a single pair."""

    @property
    def separated(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.mean) > self.half_width


def row_config(row: Row, study: Study, protocol: AblationProtocol, root: Path, output: Path) -> TrainConfig:
    """The training of a row: the baseline with the variant's change.

    Args:
        row: which.
        study: its variants.
        protocol: what all rows share.
        root: folder of the data set.
        output: folder of the run.
    """
    variant = study.variants[row.variant]
    # The mode is named, so that rows mean the same whatever the presets' own becomes.
    settings = {"interaction": "joint", "dropout": 0.0, "train_size": protocol.size, **variant.model}
    settings["variant"] = Variant(**variant.variant)
    model = ModelConfig.preset(protocol.preset, **settings)
    loss = replace(LossConfig(), **variant.loss)
    num_queries = protocol.num_queries
    if model.interaction == "anchored" and loss.anchor_weight > 0:
        num_queries -= len(anchor_points(protocol.size, model.anchor_stride))
    quarter = max(1, num_queries // 4)
    data = DataConfig(
        root=(root,),
        train_splits=(protocol.train_split,),
        val_split=protocol.val_split,
        batch_size=protocol.batch_size,
        num_queries=num_queries,
        query_range=(quarter, 16 * quarter),
    )
    return TrainConfig(
        model=model,
        data=replace(data, **variant.data),
        optimizer=OptimizerConfig(learning_rate=protocol.learning_rate, warmup_steps=protocol.warmup_steps),
        loss=loss,
        output=output,
        max_steps=protocol.steps,
        validate_every=0,
        # Nothing resumes a row: one that was cut off starts anew.
        checkpoint_every=protocol.steps,
        seed=row.seed,
    )


def require_trainable(rows: Sequence[Row], study: Study, protocol: AblationProtocol, root: Path) -> None:
    """Find before the first training what would end a later one, or its scoring.

    Raises:
        ValueError: a setting is refused, a split has no frame, or the first frame does not fit the crop.
    """
    askings(protocol.scored_queries)
    for row in rows:
        row_config(row, study, protocol, root, root)
    RGBDDataset(root, [protocol.train_split])
    dataset = RGBDDataset(root, [protocol.val_split])
    crop: Any = protocol.crop
    valid_pixels(dataset[0].depth_m.numpy(), crop)


def row_path(folder: Path, row: Row) -> Path:
    """The file of a finished row."""
    return folder / f"{row.variant}-{row.seed}.json"


def run_row(row: Row, study: Study, protocol: AblationProtocol, root: Path, folder: Path) -> None:
    """Train a row, score it and all variants that ask its weights in another way, and write their files.

    Raises:
        ValueError: the data cannot be read.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    run_folder = folder / f".{row.variant}-{row.seed}"
    shutil.rmtree(run_folder, ignore_errors=True)
    start = time.perf_counter()
    documents = {}
    try:
        train(row_config(row, study, protocol, root, run_folder))
        seconds = time.perf_counter() - start
        for name in (row.variant, *study.rescored(row.variant)):
            variant = study.variants[name]
            dataset = RGBDDataset(root, [protocol.val_split])
            predictor = _asked(run_folder, variant)
            documents[Row(name, row.seed)] = {
                "variant": name,
                "question": variant.question,
                "seed": row.seed,
                "protocol": _as_json(protocol),
                "data_checksum": data_checksum(dataset, root),
                "training_seconds": round(seconds, 1),
                "scores": _scores(predictor, dataset, protocol, root),
            }
            if study.consistency:
                documents[Row(name, row.seed)]["consistency"] = _consistency(predictor, dataset, protocol, root)
    finally:
        shutil.rmtree(run_folder, ignore_errors=True)
    write_files(
        {
            row_path(folder, row): f"{json.dumps(document, indent=2, allow_nan=False)}\n".encode()
            for row, document in documents.items()
        }
    )


def _asked(checkpoint: Path, variant: Change) -> EncodesImages:
    """The trained weights, asked as the variant says."""
    if variant.asked == "anchored":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That it was trained in another mode is the point.
            return load(checkpoint, interaction="anchored")
    predictor = load(checkpoint)
    if variant.asked == "with a support grid":
        return WithSupportGrid(predictor=predictor, stride=ModelConfig().anchor_stride)
    return predictor


def _scores(
    predictor: EncodesImages, dataset: RGBDDataset, protocol: AblationProtocol, root: Path
) -> dict[str, dict[str, float]]:
    ways = askings(protocol.scored_queries)
    crop: Any = protocol.crop
    columns = zip(*predict(predictor, dataset, root, ways=ways, crop=crop), strict=True)
    return {
        way.name: score(predictions, depth_range_of(crop)).mean._asdict()
        for way, predictions in zip(ways, columns, strict=True)
    }


def _consistency(
    predictor: EncodesImages, dataset: RGBDDataset, protocol: AblationProtocol, root: Path
) -> dict[str, dict[str, float]]:
    """By number of companions: mean and 99th percentile of the change of log depth."""
    crop: Any = protocol.crop
    rows = measure_consistency(predictor, dataset, root, crop=crop)
    return {str(row.companions): {"mean": row.mean, "percentile99": row.percentile99} for row in rows}


def read_rows(folder: Path, study: Study, protocol: AblationProtocol) -> dict[Row, dict[str, Any]]:
    """The finished rows of a folder.

    Raises:
        ValueError: a file is damaged, of another study or of another protocol; the message names it and what differs.
    """
    rows = {}
    expected = _as_json(protocol)
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text("utf-8"))
            row, stored = Row(document["variant"], document["seed"]), document["protocol"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no finished row of an ablation, or a damaged one; delete it") from error
        if row.variant not in study.variants:
            raise ValueError(f"{path} is of another study, which has a variant {row.variant}; choose another --output")
        if differing := sorted(key for key in {*stored, *expected} if stored.get(key) != expected.get(key)):
            told = ", ".join(f"{key} {stored.get(key)}, now {expected.get(key)}" for key in differing)
            raise ValueError(f"{path} is of another protocol ({told}); choose another --output")
        rows[row] = document
    return rows


def compare(
    rows: Mapping[Row, Mapping[str, Any]], variant: str, baseline: str, num_queries: int, metric: str
) -> Comparison | None:
    """A variant's metric minus the baseline's, over the seeds that both have; None where there is no such seed."""
    # Imported here, since it takes as long as the rest of the command.
    from scipy.stats import t

    seeds = sorted(
        {row.seed for row in rows if row.variant == variant} & {row.seed for row in rows if row.variant == baseline}
    )
    if not seeds or variant == baseline:
        return None
    key = str(num_queries)
    differences = [
        rows[Row(variant, seed)]["scores"][key][metric] - rows[Row(baseline, seed)]["scores"][key][metric]
        for seed in seeds
    ]
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return Comparison(mean, math.inf)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return Comparison(mean, float(t.ppf(0.975, len(differences) - 1)) * error)


def pending(rows: Mapping[Row, Any], study: Study, variants: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """The rows to train, all variants of a seed before the next seed: comparisons come early.

    A variant that has another's weights takes that one's training.
    """
    found: dict[Row, None] = {}
    for seed in seeds:
        for name in variants:
            trained = study.variants[name].weights_of or name
            if Row(name, seed) not in rows:
                found[Row(trained, seed)] = None
    return list(found)


def _as_json(protocol: AblationProtocol) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(protocol)))
