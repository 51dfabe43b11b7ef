"""How fast a preset trains: optimisation steps in each precision, interleaved, and the loader by itself.

Prints a table of medians, the images/s of the loader where --data names a data set, then one JSON line.

Example:
  python benchmarks/train_step.py --presets atto --precisions float32 bfloat16 --data "$SPD_NYU"
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch.utils.data import DataLoader

from spd.allocator import keep_freed_memory
from spd.config import Interaction, ModelConfig
from spd.data.batches import EpochBatchSampler, TrainingSet, collate
from spd.data.frame_sets import FrameSets
from spd.data.mixture import Mixture, Share
from spd.data.rgbd import RGBDDataset
from spd.data.transforms import TrainTransform
from spd.inputs import choose_device
from spd.model.spd import SPD
from spd.training.recipes import nyu_atto


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    presets: tuple[str, ...] = ("atto",)
    interactions: tuple[Interaction, ...] = ("anchored",)
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    dropouts: tuple[float, ...] = (0.0,)
    size: tuple[int, int] = (256, 320)
    """Height and width of the images."""
    batch_size: int = 8
    num_queries: int = 256
    steps: int = 8
    """Timed steps of each variant, after one that is not."""
    keep_memory: bool = True
    """As ``spd train`` does: let glibc keep what a step frees."""
    device: str | None = None
    data: Path | None = None
    """Data set whose loader is timed, with the transforms of the recipe nyu-atto."""
    num_workers: int = 2
    """Processes of the loader."""


Variant = tuple[str, Interaction, str, float]


def main(options: Options) -> None:
    """Medians per part of the step, then the loader."""
    if options.keep_memory:
        keep_freed_memory()
    names: list[Variant] = [
        (preset, interaction, precision, dropout)
        for preset in options.presets
        for interaction in options.interactions
        for precision in options.precisions
        for dropout in options.dropouts
    ]
    steps = {name: Step(options, *name) for name in names}
    seconds: dict[Variant, list[tuple[float, ...]]] = {name: [] for name in names}
    for number in range(options.steps + 1):
        for name, step in steps.items():
            parts = step()
            if number:
                seconds[name].append(parts)
    print(f"{'preset, queries, precision, dropout':<38} encode decode backward optimiser total images/s   s, medians")
    rows = []
    for name, parts_of_steps in seconds.items():
        parts = [statistics.median(column) for column in zip(*parts_of_steps, strict=True)]
        total = statistics.median(map(sum, parts_of_steps))
        rate = options.batch_size / total
        encode, decode, backward, optimiser = parts
        named = ", ".join(map(str, name))
        print(f"{named:<38} {encode:6.3f} {decode:6.3f} {backward:8.3f} {optimiser:9.3f} {total:5.3f} {rate:8.1f}")
        rows.append({"variant": name, "parts_s": parts, "total_s": total, "images_per_s": rate})
    document: dict[str, Any] = {"batch_size": options.batch_size, "size": options.size, "steps": rows}
    document["threads"] = torch.get_num_threads()
    document["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if len(names) == 1:
        peak = document["peak_memory_bytes"]
        print(f"peak memory of the process: {peak / 1e9:.2f} GB, {peak / options.batch_size / 1e6:.0f} MB an image")
    if options.data is not None:
        document["loader_images_per_s"] = loader_rate(options, options.data)
        print(f"loader alone, {options.num_workers} processes: {document['loader_images_per_s']:.1f} images/s")
    print(json.dumps(document))


class Step:
    """A model that is trained on noise: encode, decode, backward, AdamW."""

    def __init__(self, options: Options, preset: str, interaction: Interaction, precision: str, dropout: float) -> None:
        torch.manual_seed(0)
        self.device = choose_device(options.device)
        self.autocast = precision == "bfloat16"
        config = ModelConfig.preset(preset, dropout=dropout, interaction=interaction, train_size=options.size)
        self.model = SPD(config).to(self.device)
        # As in fine-tuning: batch norms, where there are any, keep their statistics.
        self.model.encoder.freeze_statistics()
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        height, width = options.size
        self.images = torch.rand(options.batch_size, 3, height, width, device=self.device)
        last = torch.tensor([width - 1.0, height - 1.0])
        self.points = (torch.rand(options.batch_size, options.num_queries, 2) * last).to(self.device)

    def __call__(self) -> tuple[float, float, float, float]:
        """Seconds of encode, decode, backward and optimiser."""
        marks = [self._now()]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            memory, anchors = self.model.encode_with_anchors(self.images)
            marks.append(self._now())
            log_depth = self.model.decode_log_depth(memory, self.points)
        marks.append(self._now())
        loss = log_depth.square().mean()
        if anchors is not None:
            loss = loss + anchors.square().mean()
        loss.backward()
        marks.append(self._now())
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(self._now())
        return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2], marks[4] - marks[3]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def loader_rate(options: Options, root: Path) -> float:
    """Images per second of the training loader with nothing behind it, over one epoch of a hundred batches at most."""
    config = nyu_atto()
    model = replace(config.model, train_size=options.size)
    data = replace(config.data, root=(root,), batch_size=options.batch_size)
    frames = FrameSets((root.name,), (RGBDDataset(root, data.train_splits),))
    mixture = Mixture((Share(("",) * len(frames), weight=1.0),), seed=0)
    loader = DataLoader(
        TrainingSet(frames, TrainTransform(data=data, model=model), seed=0),
        batch_sampler=EpochBatchSampler(mixture, data, current_step=lambda: 0),
        num_workers=options.num_workers,
        collate_fn=collate,
    )
    batches = iter(loader)
    next(batches)  # The processes have started.
    start, images = time.perf_counter(), 0
    for _, batch in zip(range(100), batches, strict=False):
        images += len(batch.images)
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
