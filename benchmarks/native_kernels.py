"""What SPD's own kernels save on a CPU: eager PyTorch with and without them, interleaved in one process.

Prints a table of medians, then one JSON line. Status 2 where there is no compiler for the kernels.

Example:
  python benchmarks/native_kernels.py --presets tiny atto --rounds 12
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import tyro

from spd.allocator import keep_freed_memory
from spd.config import Interaction, ModelConfig
from spd.fast import operators
from spd.fast.library import library
from spd.model.spd import SPD
from spd.runtime.torch_runtime import Precision, TorchModel


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    presets: tuple[str, ...] = ("tiny",)
    interactions: tuple[Interaction, ...] = ("joint", "anchored")
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    size: tuple[int, int] = (480, 640)
    """Height and width of the image."""
    num_queries: tuple[int, ...] = (1, 256)
    rounds: int = 12
    """Timed turns of each variant, after two that are not."""


def main(options: Options) -> int:
    """Time every variant with and without the kernels."""
    if library() is None:
        print("the kernels need Linux and a C++ compiler such as g++, and SPD_NATIVE must not be 0", file=sys.stderr)
        return 2
    keep_freed_memory()
    torch.manual_seed(0)
    images = torch.rand(1, 3, *options.size)
    points = {number: torch.rand(1, number, 2) * (min(options.size) - 1) for number in options.num_queries}
    variants = list(product(options.presets, options.interactions, options.precisions))
    models = {
        (variant, kernels): _model(*variant, options.size, kernels) for variant in variants for kernels in (True, False)
    }
    seconds: dict[tuple[Any, ...], list[float]] = {}
    for turn in range(-2, options.rounds):
        for variant in variants:
            # The order turns too: the second finds the weights in the cache.
            for kernels in (True, False) if turn % 2 else (False, True):
                found = _times(models[variant, kernels], images, points, kernels)
                if turn >= 0:
                    for part, value in found.items():
                        seconds.setdefault((*variant, part, kernels), []).append(value)
    rows = [_row(variant, part, seconds) for variant in variants for part in ("encode", *(f"K={n}" for n in points))]
    print(f"{'model':<16} {'precision':<9} {'part':<8} {'PyTorch':>9} {'kernels':>9} {'ratio':>6}    milliseconds")
    for row in rows:
        model = f"{row['preset']} {row['interaction']}"
        print(
            f"{model:<16} {row['precision']:<9} {row['part']:<8} {1e3 * row['pytorch_s']:9.2f} "
            f"{1e3 * row['kernels_s']:9.2f} {row['kernels_s'] / row['pytorch_s']:6.3f}"
        )
    print(json.dumps({"size": options.size, "threads": torch.get_num_threads(), "rows": rows}))
    return 0


def _model(
    preset: str, interaction: Interaction, precision: Precision, size: tuple[int, int], kernels: bool
) -> TorchModel:
    if not kernels:
        with operators.disabled():
            return _model(preset, interaction, precision, size, True)
    config = ModelConfig.preset(preset, train_size=size, interaction=interaction)
    return TorchModel(SPD(config).eval(), precision=precision)


def _times(model: TorchModel, images: torch.Tensor, points: dict[int, torch.Tensor], kernels: bool) -> dict[str, float]:
    if not kernels:
        with operators.disabled():
            return _times(model, images, points, True)
    start = time.perf_counter()
    memory = model.encode(images)
    found = {"encode": time.perf_counter() - start}
    for number, asked in points.items():
        start = time.perf_counter()
        model.decode(memory, asked)
        found[f"K={number}"] = time.perf_counter() - start
    return found


def _row(
    variant: tuple[str, Interaction, Precision], part: str, seconds: dict[tuple[Any, ...], list[float]]
) -> dict[str, Any]:
    pytorch, kernels = (statistics.median(seconds[(*variant, part, served)]) for served in (False, True))
    names = dict(zip(("preset", "interaction", "precision"), variant, strict=True))
    return {**names, "part": part, "pytorch_s": pytorch, "kernels_s": kernels}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
