"""How near every engine and precision stays to PyTorch's own operators in float32, on a trained checkpoint and images.

Asks the same points of images of a data set and compares depths one by one. Limits are those of docs/runtimes.md:
float32 within 1e-4, bfloat16 within 0.5 % in the median, 2 % at the 99th percentile and 1 % in AbsRel. Prints a table,
then one JSON line; exit status 1 where a limit is passed.

Example:
  python benchmarks/parity.py --data "$SPD_NYU" --checkpoint spd-lite --images 10
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

import spd
from spd.data.rgbd import RGBDDataset
from spd.evaluation.protocol import Asking, Crop, predict
from spd.fast import operators
from spd.model.spd import SPD
from spd.predictor import Predictor
from spd.runtime.export import export
from spd.runtime.loading import load_exported, run_by_torch


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    data: Path
    """Folder with manifest.csv."""
    checkpoint: str
    split: str = "val"
    images: int = 10
    """Images of the split, evenly spaced; each is asked 1,024 points, but one at a time 64."""
    num_queries: int = 256
    """Points that are asked at once."""
    crop: Crop = "eigen"
    size: tuple[int, int] | None = None
    """Height and width at which the model sees the images; that of its training if not given."""
    engines: tuple[str, ...] = (
        "torch float32",
        "torch bfloat16",
        "compile float32",
        "compile bfloat16",
        "onnx float32",
        "openvino float32",
        "openvino bfloat16",
    )
    """Engine and precision; torch is eager, with SPD's kernels, which what is compared with does without."""


class Limits(NamedTuple):
    """Of |depth / reference - 1| and of the change of AbsRel, relative."""

    median: float
    percentile99: float
    abs_rel: float


LIMITS = {"float32": Limits(1e-4, 1e-4, 1e-4), "bfloat16": Limits(5e-3, 2e-2, 1e-2)}


def main(options: Options) -> int:
    """Compare; 1 where a limit is passed."""
    dataset = RGBDDataset(options.data, [options.split])
    loaded: Any = spd.load(options.checkpoint, device="cpu").model
    network = loaded.source if options.size is None else _resized(loaded.source, options.size)
    reference = Predictor.from_model(network)
    number = min(options.images, len(dataset))
    dataset.frames = [dataset.frames[index * len(dataset) // number] for index in range(number)]
    with operators.disabled():
        expected, true = _ask(reference, dataset, options)
    print(f"{number} images, {len(expected)} points; relative to PyTorch's own operators in float32")
    print(f"{'engine':<20} {'median':>9} {'99th':>9} {'largest':>9} {'AbsRel':>8} {'change':>9}")
    rows, passed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for engine in options.engines:
            found, _ = _ask(_predictor(reference, engine, Path(folder)), dataset, options)
            change = np.abs(found / expected - 1)
            scores = [float(np.mean(np.abs(depth - true) / true)) for depth in (found, expected)]
            row = {
                "engine": engine,
                "median": float(np.median(change)),
                "percentile99": float(np.percentile(change, 99)),
                "largest": float(change.max()),
                "abs_rel": scores[0],
                "abs_rel_change": abs(scores[0] / scores[1] - 1),
            }
            limits = LIMITS[engine.split()[1]]
            within = (
                row["median"] <= limits.median
                and row["percentile99"] <= limits.percentile99
                and row["abs_rel_change"] <= limits.abs_rel
            )
            passed = passed or not within
            print(
                f"{engine:<20} {row['median']:9.2e} {row['percentile99']:9.2e} {row['largest']:9.2e} "
                f"{row['abs_rel']:8.4f} {row['abs_rel_change']:9.2e}{'' if within else '  beyond the limits'}"
            )
            rows.append(row)
    print(json.dumps({"images": number, "points": len(expected), "rows": rows}))
    return int(passed)


def _ask(predictor: Predictor, dataset: RGBDDataset, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Depths and true depths at the protocol's points."""
    ways = [Asking(options.num_queries)]
    answers = [row for (row,) in predict(predictor, dataset, options.data, ways=ways, crop=options.crop)]
    depths = np.concatenate([answer.predicted_m for answer in answers])
    return depths.astype(np.float64), np.concatenate([answer.true_m for answer in answers]).astype(np.float64)


def _predictor(reference: Predictor, engine: str, folder: Path) -> Predictor:
    runtime, precision = engine.split()
    network: Any = reference.model
    if runtime in ("torch", "compile"):
        mode: Any = "eager" if runtime == "torch" else "compile"
        return run_by_torch(reference, mode, precision)  # type: ignore[arg-type]
    package = folder / runtime
    if not package.exists():
        export(network, package, runtime)  # type: ignore[arg-type]
    return load_exported(package, runtime, precision=precision)  # type: ignore[arg-type]


def _resized(network: SPD, size: tuple[int, int]) -> SPD:
    resized = SPD(replace(network.config, train_size=size))
    resized.load_state_dict(network.state_dict())
    return resized


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
