"""Samples and batches for training and validation, and the order in which an epoch takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from spd.config import ModelConfig
from spd.data.frame_sets import FrameSets
from spd.data.mixture import Mixture
from spd.data.query_sampling import QuerySample, draw_num_queries, sample_generator, sample_queries
from spd.data.transforms import EvalTransform, TrainTransform, TransformedSample
from spd.train_config import DataConfig


class SampleKey(NamedTuple):
    """All that determines a training sample, besides the seed of the run: workers hold no state."""

    epoch: int
    frame: int
    """Position among the frames of all data sets."""
    num_queries: int
    repeat: int = 0
    """How often the epoch has drawn this frame before."""


class TrainingSample(NamedTuple):
    """One image of a :class:`TrainingBatch`."""

    image: Float[Tensor, "3 H W"]
    depth_m: Float[Tensor, "H W"]
    queries: QuerySample
    frame: int
    """Position among the frames of all data sets."""
    data_set: int
    """Position of its data set."""
    depth_scale: float
    """Focal length of the image's camera over the canonical one: depth of the scene itself over ``depth_m``."""


class TrainingBatch(NamedTuple):
    """What a step learns from; depths are metres at the canonical focal length."""

    images: Float[Tensor, "B 3 H W"]
    """RGB in [0, 1]."""
    depth_m: Float[Tensor, "B H W"]
    """0 is invalid."""
    query_points: Float[Tensor, "B K 2"]
    """xy pixel indices of the images."""
    query_depth_m: Float[Tensor, "B K"]
    """1 where ``query_mask`` is False."""
    query_mask: Bool[Tensor, "B K"]
    """False for the points of an image without a valid depth."""
    indices: Int[Tensor, "B"]
    """Position of each image among the frames of all data sets."""
    data_sets: Int[Tensor, "B"]
    """Position of each image's data set."""
    depth_scale: Float[Tensor, "B"]
    """Depth of the scene itself over that at the canonical focal length."""


def collate(samples: Sequence[TrainingSample]) -> TrainingBatch:
    """Stacks samples of one K."""
    return TrainingBatch(
        images=torch.stack([sample.image for sample in samples]),
        depth_m=torch.stack([sample.depth_m for sample in samples]),
        query_points=torch.stack([sample.queries.query_points for sample in samples]),
        query_depth_m=torch.stack([sample.queries.depth_m for sample in samples]),
        query_mask=torch.stack([sample.queries.valid_mask for sample in samples]),
        indices=torch.tensor([sample.frame for sample in samples]),
        data_sets=torch.tensor([sample.data_set for sample in samples]),
        depth_scale=torch.tensor([sample.depth_scale for sample in samples]),
    )


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """The batches of an epoch as one process sees them: a pure function of seed, step, rank and world size.

    Each epoch is what the mixture says, cut into batches of ``config.batch_size``; the remainder is left out, and an
    epoch smaller than one batch is repeated to fill one. Rank r of n takes every n-th frame of a batch, from the
    r-th on, so that the batches of all ranks together are those of a single process.

    An iteration starts at the batch of the current step and ends with its epoch, so that a run which continues in
    mid-epoch needs no state but its step. ``len`` is always that of a full epoch: Lightning counts batches within it.

    Args:
        mixture: the samples of each epoch.
        config: batch size and number of query points.
        current_step: the optimiser steps done so far, one per batch. Asked at each iteration: the epoch that Lightning
            tells a sampler is off by one after some restarts.
        rank: this process.
        world_size: processes that share a batch.
    """

    def __init__(
        self,
        mixture: Mixture,
        config: DataConfig,
        *,
        current_step: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert config.batch_size % world_size == 0, (config.batch_size, world_size)
        self.mixture = mixture
        self.config = config
        self.current_step = current_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return max(1, len(self.mixture) // self.config.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, first = divmod(self.current_step(), len(self))
        order = self.mixture.epoch(epoch)
        batch_size = self.config.batch_size
        while len(order) < batch_size:
            order = order + order
        for batch in range(first, len(self)):
            num_queries = draw_num_queries(self.config, self.mixture.seed, epoch * len(self) + batch)
            draws = order[batch * batch_size : (batch + 1) * batch_size]
            yield [
                SampleKey(epoch, draw.frame, num_queries, draw.repeat) for draw in draws[self.rank :: self.world_size]
            ]


class TrainingSet(Dataset[TrainingSample]):
    """Randomly transformed frames with query points; every draw is seeded by (seed, epoch, frame, repeat)."""

    def __init__(self, frames: FrameSets, transform: TrainTransform, seed: int) -> None:
        self.frames = frames
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: SampleKey) -> TrainingSample:
        generator = sample_generator(self.seed, key.epoch, key.frame, key.repeat)
        transformed = self.transform(self.frames[key.frame], generator)
        edge_fraction = self.transform.data.edge_fraction
        queries = sample_queries(transformed.depth_m, key.num_queries, generator, edge_fraction)
        return _sample(transformed, queries, key.frame, self.frames.set_of(key.frame), self.transform.model)


class ValidationSet(Dataset[TrainingSample]):
    """Frames as they are, each with the same uniform query points at every epoch of every run."""

    def __init__(self, frames: FrameSets, transform: EvalTransform, num_queries: int) -> None:
        self.frames = frames
        self.transform = transform
        self.num_queries = num_queries

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> TrainingSample:
        transformed = self.transform(self.frames[index])
        queries = sample_queries(transformed.depth_m, self.num_queries, sample_generator(0, 0, index))
        return _sample(transformed, queries, index, self.frames.set_of(index), self.transform.model)


def _sample(
    transformed: TransformedSample, queries: QuerySample, frame: int, data_set: int, model: ModelConfig
) -> TrainingSample:
    scale = transformed.intrinsics.focal_length / model.canonical_focal_length
    return TrainingSample(transformed.image, transformed.depth_m, queries, frame, data_set, scale)
