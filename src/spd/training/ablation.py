"""What each part and each choice of the model is worth: paired short trainings, scored on the validation split.

A variant changes one thing of the baseline. Every variant is trained with the same seeds, so with the same batches and
the same first weights wherever the change allows it, and compared with the baseline seed by seed. Each finished
training is one JSON file; a table is made of whatever files are there.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from spd.config import ModelConfig
from spd.data.rgbd import RGBDDataset
from spd.evaluation.predictions import data_checksum
from spd.evaluation.protocol import PROTOCOL_VERSION, askings, predict, valid_pixels
from spd.evaluation.scores import score
from spd.files import write_files
from spd.predictor import load
from spd.train_config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from spd.training.run import train

BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of the baseline; each mapping is of fields to their new values."""

    question: str
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)


VARIANTS: Mapping[str, Variant] = {
    BASELINE: Variant(question="the defaults"),
    "fixed-offsets": Variant(
        question="deformable points at fixed offsets (learned)", model={"without": ("learned_offsets",)}
    ),
    "no-query-attention": Variant(question="no attention between queries", model={"without": ("query_attention",)}),
    "no-canvas": Variant(question="no canvas", model={"without": ("canvas",)}),
    "no-auxiliary-loss": Variant(question="no dense auxiliary loss", loss={"auxiliary_weight": 0.0}),
    "no-depth-scale": Variant(question="no learned depth scale", model={"without": ("depth_scale",)}),
    "canvas-sum": Variant(question="canvas adds the sum of a cell (mean)", model={"canvas_write": "sum"}),
    "canvas-normed": Variant(question="LN(h) goes to the canvas (h)", model={"canvas_source": "normed"}),
    "corner": Variant(question="alignment corner (center)", model={"alignment": "corner"}),
    "half-period": Variant(
        question="Fourier code from half a period on (a whole one)", model={"fourier_lowest_octave": -1}
    ),
    "log-uniform-k": Variant(
        question="K log-uniform in a quarter to four times K (fixed)", data={"query_schedule": "log_uniform"}
    ),
    "edges": Variant(question="30 % of the points on depth edges (uniform)", data={"edge_fraction": 0.3}),
    "normalized-offsets": Variant(
        question="offsets in [-1, 1] of the whole map (in cells)", model={"offset_unit": "normalized"}
    ),
    "strong-augmentation": Variant(
        question="zoom 0.65-1.5, colour ±40 % (0.8-1.2, ±20 %)",
        data={"zoom": (0.65, 1.5), "color_jitter": (0.4, 0.4, 0.4, 0.1)},
    ),
    "plan-v14": Variant(
        question="the plan to the letter: sum, corner, offsets of the whole map",
        model={
            "canvas_write": "sum",
            "alignment": "corner",
            "offset_unit": "normalized",
            "canvas_source": "hidden",
            "fourier_lowest_octave": 0,
        },
    ),
}
"""By name; the baseline first. What the baseline does instead is in brackets."""


@dataclass(frozen=True, kw_only=True)
class AblationProtocol:
    """All that the trainings of a table have in common; files of another protocol are not mixed in."""

    preset: str = "atto"
    size: tuple[int, int] = (128, 160)
    """Height and width of the training images."""
    steps: int = 600
    batch_size: int = 8
    num_queries: int = 64
    """K of training."""
    learning_rate: float = 4e-4
    warmup_steps: int = 100
    scored_queries: tuple[int, ...] = (64, 256, 1024)
    """Numbers of points asked at once on the validation split; the first is the main one."""
    train_split: str = "train"
    val_split: str = "val"
    crop: str = "eigen"
    protocol_version: int = PROTOCOL_VERSION


class Row(NamedTuple):
    """One training of one variant."""

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


def row_config(row: Row, protocol: AblationProtocol, root: Path, output: Path) -> TrainConfig:
    """The training of a row: the baseline with the variant's change.

    Args:
        row: which.
        protocol: what all rows share.
        root: folder of the data set.
        output: folder of the run.
    """
    variant = VARIANTS[row.variant]
    quarter = max(1, protocol.num_queries // 4)
    data = DataConfig(
        root=root,
        train_splits=(protocol.train_split,),
        val_split=protocol.val_split,
        batch_size=protocol.batch_size,
        num_queries=protocol.num_queries,
        query_range=(quarter, 16 * quarter),
    )
    return TrainConfig(
        model=ModelConfig.preset(protocol.preset, **{"dropout": 0.0, "train_size": protocol.size, **variant.model}),
        data=replace(data, **variant.data),
        optimizer=OptimizerConfig(learning_rate=protocol.learning_rate, warmup_steps=protocol.warmup_steps),
        loss=replace(LossConfig(), **variant.loss),
        output=output,
        max_steps=protocol.steps,
        validate_every=0,
        # Nothing resumes a row: one that was cut off starts anew.
        checkpoint_every=protocol.steps,
        seed=row.seed,
    )


def require_trainable(rows: Sequence[Row], protocol: AblationProtocol, root: Path) -> None:
    """Find before the first training what would end a later one, or its scoring.

    Raises:
        ValueError: a setting is refused, a split has no frame, or the first frame does not fit the crop.
    """
    askings(protocol.scored_queries)
    for row in rows:
        row_config(row, protocol, root, root)
    RGBDDataset(root, [protocol.train_split])
    dataset = RGBDDataset(root, [protocol.val_split])
    crop: Any = protocol.crop
    valid_pixels(dataset[0].depth_m.numpy(), crop)


def row_path(folder: Path, row: Row) -> Path:
    """The file of a finished row."""
    return folder / f"{row.variant}-{row.seed}.json"


def run_row(row: Row, protocol: AblationProtocol, root: Path, folder: Path) -> None:
    """Train and score one row, and write its file.

    Raises:
        ValueError: the data cannot be read.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    run_folder = folder / f".{row.variant}-{row.seed}"
    shutil.rmtree(run_folder, ignore_errors=True)
    start = time.perf_counter()
    try:
        train(row_config(row, protocol, root, run_folder))
        seconds = time.perf_counter() - start
        scores = _scores(run_folder, protocol, root)
    finally:
        shutil.rmtree(run_folder, ignore_errors=True)
    document = {
        "variant": row.variant,
        "question": VARIANTS[row.variant].question,
        "seed": row.seed,
        "protocol": _as_json(protocol),
        "data_checksum": data_checksum(RGBDDataset(root, [protocol.val_split]), root),
        "training_seconds": round(seconds, 1),
        "scores": scores,
    }
    write_files({row_path(folder, row): f"{json.dumps(document, indent=2, allow_nan=False)}\n".encode()})


def _scores(checkpoint: Path, protocol: AblationProtocol, root: Path) -> dict[str, dict[str, float]]:
    dataset = RGBDDataset(root, [protocol.val_split])
    ways = askings(protocol.scored_queries)
    crop: Any = protocol.crop
    columns = zip(*predict(load(checkpoint), dataset, root, ways=ways, crop=crop), strict=True)
    return {way.name: score(predictions).mean._asdict() for way, predictions in zip(ways, columns, strict=True)}


def read_rows(folder: Path, protocol: AblationProtocol) -> dict[Row, dict[str, Any]]:
    """The finished rows of a folder.

    Raises:
        ValueError: a file is damaged, or of another protocol; the message names it and what differs.
    """
    rows = {}
    expected = _as_json(protocol)
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text("utf-8"))
            row, stored = Row(document["variant"], document["seed"]), document["protocol"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no finished row of an ablation, or a damaged one; delete it") from error
        if differing := sorted(key for key in {*stored, *expected} if stored.get(key) != expected.get(key)):
            told = ", ".join(f"{key} {stored.get(key)}, now {expected.get(key)}" for key in differing)
            raise ValueError(f"{path} is of another protocol ({told}); choose another --output")
        rows[row] = document
    return rows


def compare(rows: Mapping[Row, Mapping[str, Any]], variant: str, num_queries: int, metric: str) -> Comparison | None:
    """A variant's metric minus the baseline's, over the seeds that both have; None where there is no such seed."""
    # Imported here, since it takes as long as the rest of the command.
    from scipy.stats import t

    seeds = sorted(
        {row.seed for row in rows if row.variant == variant} & {row.seed for row in rows if row.variant == BASELINE}
    )
    if not seeds or variant == BASELINE:
        return None
    key = str(num_queries)
    differences = [
        rows[Row(variant, seed)]["scores"][key][metric] - rows[Row(BASELINE, seed)]["scores"][key][metric]
        for seed in seeds
    ]
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return Comparison(mean, math.inf)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return Comparison(mean, float(t.ppf(0.975, len(differences) - 1)) * error)


def pending(rows: Mapping[Row, Any], variants: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
    """The rows that are not finished, all variants of a seed before the next seed: comparisons come early."""
    return (Row(variant, seed) for seed in seeds for variant in variants if Row(variant, seed) not in rows)


def _as_json(protocol: AblationProtocol) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(protocol)))
