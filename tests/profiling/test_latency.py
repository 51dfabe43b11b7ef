"""The benchmark's order of turns and its arithmetic; what it measures is for the machine to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from spd.profiling.latency import Contestant, Result, Timing, crossing, measure
from spd.profiling.latency_plot import draw_latency


class Recorder:
    """A model that notes what is asked of it."""

    def __init__(self, name: str, log: list[tuple[str, Any]]) -> None:
        self.name = name
        self.log = log

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.log.append((self.name, "encode"))
        return images.mean()

    def decode(self, memory: torch.Tensor, query_points: torch.Tensor) -> torch.Tensor:
        self.log.append((self.name, query_points.shape[1]))
        assert query_points[..., 0].max() <= 95
        assert query_points[..., 1].max() <= 63
        return memory.expand(query_points.shape[:2])


def contestant(name: str, log: list[tuple[str, Any]], encode_macs: int = 0) -> Contestant:
    return Contestant(
        name=name,
        runtime="torch",
        precision="float32",
        size=(64, 96),
        model=Recorder(name, log),
        images=torch.rand(1, 3, 64, 96),
        image_size=(64, 96),
        encode_macs=encode_macs,
        decode_macs=lambda number: number,
    )


def result(name: str, encode: float, decode: Mapping[int, float], **changes: Any) -> Result:
    timings = {number: Timing(seconds, seconds) for number, seconds in decode.items()}
    settings = {"gemm_rate": 1e9, "peak_bytes": None, **changes}
    return Result(contestant=contestant(name, [], 500), encode=Timing(encode, encode), decode=timings, **settings)


def test_every_round_gives_every_model_one_turn() -> None:
    log: list[tuple[str, Any]] = []
    turns: list[int] = []
    both = [contestant("a", log), contestant("b", log)]
    results = measure(both, num_queries=(1, 7), rounds=3, warmup=1, progress=turns.append)
    one_round = [(name, asked) for name in "ab" for asked in ("encode", 1, 7)]
    # Then each once more, for its memory.
    assert log[: 4 * 6] == one_round * 4
    assert log[4 * 6 :] == [("a", "encode"), ("a", 7), ("b", "encode"), ("b", 7)]
    assert turns == [1] * 8
    for found in results:
        assert sorted(found.decode) == [1, 7]
        assert 0 < found.encode.median <= found.encode.p90
        assert found.gemm_rate > 0


def test_a_fraction_is_of_the_product_s_rate() -> None:
    # 500 multiply-accumulates in a microsecond are half of 1e9 a second.
    assert result("a", 1e-6, {1: 0.0}).gemm_fraction == pytest.approx(0.5)


def test_the_crossing_is_interpolated() -> None:
    dense = result("dense", 1.0, {1: 0.0, 100: 0.0, 200: 0.0})
    assert crossing(result("slower", 1.1, {1: 0.0, 100: 0.1, 200: 0.2}), dense) == 0.0
    assert crossing(result("faster", 0.5, {1: 0.0, 100: 0.1, 200: 0.2}), dense) is None
    # Totals .9 and 1.1 at 100 and 200 points: 1.0 at 150.
    assert crossing(result("between", 0.5, {1: 0.1, 100: 0.4, 200: 0.6}), dense) == pytest.approx(150)


def test_the_plot_is_a_picture() -> None:
    results = [result("spd", 0.5, {1: 0.1, 256: 0.2}), result("depth-anything", 1.0, {1: 0.0, 256: 0.0})]
    assert draw_latency(results).startswith(b"\x89PNG")
