"""Time side by side: one process, runs interleaved, so that a noisy machine is as noisy for every model.

Every round encodes one image with each model and asks it for each number of points; medians and ratios of the same run
are what counts. The rate of a plain matrix product, measured in every round too, says how near to the machine's limit a
model comes.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spd.predictor import DepthPredictor

GEMM_SIDE = 2048


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A model that is timed."""

    name: str
    runtime: str
    precision: str
    size: tuple[int, int]
    """(height, width) of the image as the network sees it."""
    model: DepthPredictor
    images: Tensor
    """What is encoded: one image."""
    image_size: tuple[int, int]
    """(height, width) of the image in whose pixels points are given."""
    encode_macs: int
    decode_macs: Callable[[int], int]
    """By number of points."""
    is_dense: bool = False
    """Whether all of the network's work makes a map, at any number of points."""


class Timing(NamedTuple):
    """Seconds over the rounds."""

    median: float
    p90: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of one contestant."""

    contestant: Contestant
    encode: Timing
    decode: Mapping[int, Timing]
    """By number of points asked of an image that is encoded."""
    gemm_rate: float
    """Multiply-accumulates per second of a product of 2048 by 2048 matrices, in the contestant's precision."""
    peak_bytes: int | None
    """Memory above what the process held before, at its highest while encoding and decoding; None where the system
    does not tell."""

    def total(self, num_queries: int) -> float:
        """Seconds to encode an image and decode its points."""
        return self.encode.median + self.decode[num_queries].median

    @property
    def gemm_fraction(self) -> float:
        """Of that rate which ``encode`` reaches, matrix products counted and nothing else."""
        return self.contestant.encode_macs / self.encode.median / self.gemm_rate


@dataclass
class _Samples:
    encode: list[float] = field(default_factory=list)
    decode: dict[int, list[float]] = field(default_factory=dict)


def measure(
    contestants: Sequence[Contestant],
    *,
    num_queries: Sequence[int],
    rounds: int,
    warmup: int = 2,
    progress: Callable[[int], None] | None = None,
) -> list[Result]:
    """Time all contestants.

    Args:
        contestants: in the order of their turns.
        num_queries: numbers of points K that each is asked for.
        rounds: that are timed.
        warmup: rounds before them that are not.
        progress: called with 1 after each turn.
    """
    samples = [_Samples() for _ in contestants]
    rates: dict[str, list[float]] = {}
    points = {number: [_points(contestant, number) for contestant in contestants] for number in num_queries}
    for round_number in range(warmup + rounds):
        timed = round_number >= warmup
        for precision in dict.fromkeys(contestant.precision for contestant in contestants):
            rate = _gemm_rate(contestants[0].images.device, precision)
            if timed:
                rates.setdefault(precision, []).append(rate)
        for turn, (contestant, sample) in enumerate(zip(contestants, samples, strict=True)):
            seconds, memory = _timed(contestant, lambda c=contestant: c.model.encode(c.images))
            if timed:
                sample.encode.append(seconds)
            for number in num_queries:
                asked = points[number][turn]
                seconds, _ = _timed(contestant, lambda c=contestant, m=memory, p=asked: c.model.decode(m, p))
                if timed:
                    sample.decode.setdefault(number, []).append(seconds)
            if progress is not None:
                progress(1)
    return [
        Result(
            contestant=contestant,
            encode=_timing(sample.encode),
            decode={number: _timing(values) for number, values in sample.decode.items()},
            gemm_rate=statistics.median(rates[contestant.precision]),
            peak_bytes=_peak_bytes(contestant, points[max(num_queries)][turn]),
        )
        for turn, (contestant, sample) in enumerate(zip(contestants, samples, strict=True))
    ]


def crossing(result: Result, dense: Result) -> float | None:
    """The number of points at which a sparse model takes as long as a dense one, by linear interpolation.

    None where it is faster at every number measured; 0 where it is slower at every one.
    """
    # Whatever is asked, a dense model has computed its map; reading it is measured with it.
    before: tuple[int, float] | None = None
    for number in sorted(result.decode):
        ahead = dense.total(number) - result.total(number)
        if ahead <= 0:
            if before is None:
                return 0.0
            last, was_ahead = before
            return last + (number - last) * was_ahead / (was_ahead - ahead)
        before = (number, ahead)
    return None


def _points(contestant: Contestant, number: int) -> Tensor:
    height, width = contestant.image_size
    generator = torch.Generator().manual_seed(number)
    points = torch.rand(1, number, 2, generator=generator) * torch.tensor([width - 1.0, height - 1.0])
    return points.to(contestant.images.device)


def _timed(contestant: Contestant, call: Callable[[], Any]) -> tuple[float, Any]:
    _wait(contestant.images.device)
    start = time.perf_counter()
    result = call()
    _wait(contestant.images.device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _gemm_rate(device: torch.device, precision: str) -> float:
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    left, right = (torch.ones(GEMM_SIDE, GEMM_SIDE, dtype=dtype, device=device) for _ in range(2))
    _wait(device)
    start = time.perf_counter()
    torch.mm(left, right)
    _wait(device)
    return GEMM_SIDE**3 / (time.perf_counter() - start)


def _timing(seconds: Sequence[float]) -> Timing:
    if len(seconds) == 1:
        return Timing(seconds[0], seconds[0])
    return Timing(statistics.median(seconds), statistics.quantiles(seconds, n=10, method="inclusive")[-1])


def _peak_bytes(contestant: Contestant, points: Tensor) -> int | None:
    def ask() -> None:
        contestant.model.decode(contestant.model.encode(contestant.images), points)

    device = contestant.images.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        ask()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = _reset_high_water()
    if before is None:
        return None
    ask()
    after = _status("VmHWM")
    return None if after is None else after - before


def _reset_high_water() -> int | None:
    """Bytes that the process holds now, from which on Linux will count its highest; None without Linux and glibc."""
    try:
        # What was freed and kept for later would hide what is needed.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
