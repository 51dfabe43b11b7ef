"""Where depth is asked during training, how often per image, and the seeds of every random draw."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from spd.train_config import DataConfig

EDGE_SHARE = 0.1
"""Part of the valid pixels that counts as depth edges: those where log depth changes most."""

# Streams of random numbers that must not repeat one another where their keys are equal.
_SAMPLE_STREAM, _ORDER_STREAM, _COUNT_STREAM, _MIXTURE_STREAM = range(4)


class QuerySample(NamedTuple):
    """K query points of one image with their true depth."""

    query_points: Float[Tensor, "K 2"]
    """xy pixel indices, whole numbers."""
    depth_m: Float[Tensor, "K"]
    """Metres; 1 where ``valid_mask`` is False, so that a logarithm stays finite."""
    valid_mask: Bool[Tensor, "K"]


def sample_queries(
    depth_m: Float[Tensor, "H W"], num_queries: int, generator: Generator, edge_fraction: float = 0.0
) -> QuerySample:
    """Random pixels with a depth: ``edge_fraction`` of them on depth edges, the others uniform.

    Pixels of one kind are drawn without replacement where there are enough of them, else with. An image without a valid
    pixel gives K masked points at (0, 0).

    Args:
        depth_m: metres, 0 where there is no measurement.
        num_queries: K.
        generator: source of the draws.
        edge_fraction: part of K drawn among :func:`edge_pixels`; uniform where the image has none.
    """
    width = depth_m.shape[1]
    flat = depth_m.reshape(-1)
    valid = torch.nonzero(flat > 0).squeeze(1)
    if len(valid) == 0:
        nothing = torch.zeros(num_queries, dtype=torch.bool)
        return QuerySample(torch.zeros(num_queries, 2), torch.ones(num_queries), nothing)
    num_edge = round(num_queries * edge_fraction)
    edges = edge_pixels(depth_m) if num_edge else valid
    if len(edges) == 0:
        edges = valid
    chosen = torch.cat((_draw(edges, num_edge, generator), _draw(valid, num_queries - num_edge, generator)))
    xy = torch.stack((chosen % width, torch.div(chosen, width, rounding_mode="floor")), dim=1)
    return QuerySample(xy.float(), flat[chosen], torch.ones(num_queries, dtype=torch.bool))


def edge_pixels(depth_m: Float[Tensor, "H W"]) -> Int[Tensor, "N"]:
    """Row-major indices of the pixels on depth edges, at most a tenth of the valid ones (more only among equals).

    A pixel's step is the largest |Δ log depth| to its four neighbours, so that both sides of an edge count; a neighbour
    without a depth gives no step, since the border of a hole is no edge. A pixel without any step is never an edge.
    """
    valid = depth_m > 0
    log_depth = torch.where(valid, depth_m, 1.0).log()
    step = torch.zeros_like(log_depth)
    # Down the columns, then along the rows: the transposes are views of the same memory.
    for log, known, largest in ((log_depth, valid, step), (log_depth.T, valid.T, step.T)):
        change = (log[1:] - log[:-1]).abs() * (known[1:] & known[:-1])
        largest[1:] = torch.maximum(largest[1:], change)
        largest[:-1] = torch.maximum(largest[:-1], change)
    count = int(valid.sum())
    if count == 0:
        return torch.zeros(0, dtype=torch.long)
    num_edges = max(1, int(count * EDGE_SHARE))
    threshold = step[valid].kthvalue(count - num_edges + 1).values
    return torch.nonzero(((step >= threshold) & (step > 0)).reshape(-1)).squeeze(1)


def draw_num_queries(config: DataConfig, seed: int, step: int) -> int:
    """K of one step, the same in every process: fixed, or log-uniform over the integers of ``config.query_range``.

    K has probability log((K + 1) / K) / log((high + 1) / low).
    """
    if config.query_schedule == "fixed":
        return config.num_queries
    low, high = config.query_range
    draw = np.random.default_rng(_mixed_seed(_COUNT_STREAM, seed, step)).uniform(math.log(low), math.log(high + 1))
    return min(max(int(math.exp(draw)), low), high)


def sample_generator(seed: int, epoch: int, index: int, repeat: int = 0) -> Generator:
    """The source of every draw of one sample; the same in any worker of any process.

    Args:
        seed: of the run.
        epoch: number of the epoch.
        index: position of the frame.
        repeat: how often the epoch has drawn the frame before.
    """
    key = (seed, epoch, index, repeat) if repeat else (seed, epoch, index)
    return torch.Generator().manual_seed(_mixed_seed(_SAMPLE_STREAM, *key))


def mixture_seed(seed: int, epoch: int, position: int) -> int:
    """Of the frames that an epoch takes from the data set at ``position``."""
    return _mixed_seed(_MIXTURE_STREAM, seed, epoch, position)


def epoch_order(num_samples: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a permutation of the indices, the same in every process."""
    generator = torch.Generator().manual_seed(_mixed_seed(_ORDER_STREAM, seed, epoch))
    return torch.randperm(num_samples, generator=generator).tolist()


def _mixed_seed(stream: int, *key: int) -> int:
    """64 well-mixed bits of a key: neighbouring seeds, epochs or indices share nothing."""
    return int(np.random.SeedSequence(key, spawn_key=(stream,)).generate_state(1, np.uint64)[0])


def _draw(pixels: Int[Tensor, "N"], count: int, generator: Generator) -> Int[Tensor, "count"]:
    if count > len(pixels):
        return pixels[torch.randint(len(pixels), (count,), generator=generator)]
    return pixels[torch.randperm(len(pixels), generator=generator)[:count]]
