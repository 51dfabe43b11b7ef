"""Times one optimisation step of a preset, with and without dropout, interleaved in one process.

Prints a table of medians, then one JSON line.

Example:
  python benchmarks/train_step.py --preset atto --steps 8
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass

import torch
import tyro

from spd.config import ModelConfig
from spd.model.spd import SPD
from spd.training.run import keep_freed_memory


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    preset: str = "atto"
    batch_size: int = 8
    num_queries: int = 256
    steps: int = 8
    """Timed steps of each variant, after one that is not."""
    keep_memory: bool = True
    """As ``spd train`` does: let glibc keep what a step frees."""


def main(options: Options) -> None:
    """Medians per part of the step."""
    if options.keep_memory:
        keep_freed_memory()
    variants = {dropout: Step(options, dropout) for dropout in (0.0, 0.1)}
    seconds: dict[float, list[tuple[float, ...]]] = {dropout: [] for dropout in variants}
    for number in range(options.steps + 1):
        for dropout, step in variants.items():
            parts = step()
            if number:
                seconds[dropout].append(parts)
    print(f"{'dropout':>8} {'encode':>8} {'decode':>8} {'backward':>8} {'optimiser':>9} {'total':>8}   seconds, median")
    medians = {}
    for dropout, rows in seconds.items():
        parts = [statistics.median(column) for column in zip(*rows, strict=True)]
        total = statistics.median(sum(row) for row in rows)
        print(f"{dropout:>8} {parts[0]:8.3f} {parts[1]:8.3f} {parts[2]:8.3f} {parts[3]:9.3f} {total:8.3f}")
        medians[str(dropout)] = {"parts": parts, "total": total}
    print(json.dumps({"preset": options.preset, "batch_size": options.batch_size, "seconds": medians}))


class Step:
    """A model that is trained on noise: encode, decode, backward, AdamW."""

    def __init__(self, options: Options, dropout: float) -> None:
        torch.manual_seed(0)
        self.model = SPD(ModelConfig.preset(options.preset, dropout=dropout)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        height, width = self.model.config.train_size
        self.images = torch.rand(options.batch_size, 3, height, width)
        self.points = torch.rand(options.batch_size, options.num_queries, 2) * torch.tensor([width - 1.0, height - 1.0])

    def __call__(self) -> tuple[float, float, float, float]:
        """Seconds of encode, decode, backward and optimiser."""
        marks = [time.perf_counter()]
        memory = self.model.encode(self.images)
        marks.append(time.perf_counter())
        log_depth = self.model.decode_log_depth(memory, self.points)
        marks.append(time.perf_counter())
        log_depth.square().mean().backward()
        marks.append(time.perf_counter())
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(time.perf_counter())
        return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2], marks[4] - marks[3]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
