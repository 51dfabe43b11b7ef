"""Batches for training and validation: what Lightning asks for them, across workers, processes and restarts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from spd.data.query_sampling import QuerySample, draw_num_queries, epoch_order, sample_generator, sample_queries
from spd.data.rgbd import RGBDDataset
from spd.data.sharing import collate_for
from spd.data.transforms import EvalTransform, TrainTransform
from spd.data.worker import ignore_stop_signals
from spd.train_config import DataConfig, TrainConfig


class SampleKey(NamedTuple):
    """All that determines a training sample, besides the seed of the run: workers hold no state."""

    epoch: int
    frame: int
    """Position in the data set."""
    num_queries: int


class TrainingSample(NamedTuple):
    """One image of a :class:`TrainingBatch`."""

    image: Float[Tensor, "3 H W"]
    depth_m: Float[Tensor, "H W"]
    queries: QuerySample
    frame: int
    """Position in the data set."""


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
    """Position of each image in its data set."""


def collate(samples: Sequence[TrainingSample]) -> TrainingBatch:
    """Stacks samples of one K."""
    return TrainingBatch(
        images=torch.stack([sample.image for sample in samples]),
        depth_m=torch.stack([sample.depth_m for sample in samples]),
        query_points=torch.stack([sample.queries.query_points for sample in samples]),
        query_depth_m=torch.stack([sample.queries.depth_m for sample in samples]),
        query_mask=torch.stack([sample.queries.valid_mask for sample in samples]),
        indices=torch.tensor([sample.frame for sample in samples]),
    )


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """The batches of an epoch as one process sees them: a pure function of seed, step, rank and world size.

    Each epoch is a permutation of all frames, cut into batches of ``config.batch_size``; the remainder is left out,
    and a set smaller than one batch is repeated to fill one. Rank r of n takes every n-th frame of a batch, from the
    r-th on, so that the batches of all ranks together are those of a single process.

    An iteration starts at the batch of the current step and ends with its epoch, so that a run which continues in
    mid-epoch needs no state but its step. ``len`` is always that of a full epoch: Lightning counts batches within it.

    Args:
        num_samples: frames in the data set.
        config: batch size and number of query points.
        seed: seed of the run.
        current_step: the optimiser steps done so far, one per batch. Asked at each iteration: the epoch that Lightning
            tells a sampler is off by one after some restarts.
        rank: this process.
        world_size: processes that share a batch.
    """

    def __init__(
        self,
        num_samples: int,
        config: DataConfig,
        seed: int,
        *,
        current_step: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert config.batch_size % world_size == 0, (config.batch_size, world_size)
        self.num_samples = num_samples
        self.config = config
        self.seed = seed
        self.current_step = current_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return max(1, self.num_samples // self.config.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, first = divmod(self.current_step(), len(self))
        order = epoch_order(self.num_samples, self.seed, epoch)
        batch_size = self.config.batch_size
        while len(order) < batch_size:
            order = order + order
        for batch in range(first, len(self)):
            num_queries = draw_num_queries(self.config, self.seed, epoch * len(self) + batch)
            frames = order[batch * batch_size : (batch + 1) * batch_size]
            yield [SampleKey(epoch, frame, num_queries) for frame in frames[self.rank :: self.world_size]]


class TrainingSet(Dataset[TrainingSample]):
    """Randomly transformed frames with query points; every draw is seeded by (seed, epoch, frame)."""

    def __init__(self, frames: RGBDDataset, transform: TrainTransform, seed: int) -> None:
        self.frames = frames
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: SampleKey) -> TrainingSample:
        generator = sample_generator(self.seed, key.epoch, key.frame)
        transformed = self.transform(self.frames[key.frame], generator)
        edge_fraction = self.transform.data.edge_fraction
        queries = sample_queries(transformed.depth_m, key.num_queries, generator, edge_fraction)
        return TrainingSample(transformed.image, transformed.depth_m, queries, key.frame)


class ValidationSet(Dataset[TrainingSample]):
    """Frames as they are, each with the same uniform query points at every epoch of every run."""

    def __init__(self, frames: RGBDDataset, transform: EvalTransform, num_queries: int) -> None:
        self.frames = frames
        self.transform = transform
        self.num_queries = num_queries

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> TrainingSample:
        transformed = self.transform(self.frames[index])
        queries = sample_queries(transformed.depth_m, self.num_queries, sample_generator(0, 0, index))
        return TrainingSample(transformed.image, transformed.depth_m, queries, index)


class RGBDDataModule(pl.LightningDataModule):
    """The loaders of a training run.

    It shards by itself, so the Trainer takes ``use_distributed_sampler=False``. A run that continues starts with the
    batch after the trainer's ``global_step``, one optimiser step being one batch. Every process validates on the whole
    split: its figures need no reduction. There is no validation loader where ``config.validate_every`` is 0.

    Raises:
        ValueError: on ``setup``, there is no ``config.data.root``, or its manifest is refused.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.train_frames: RGBDDataset | None = None
        self.val_frames: RGBDDataset | None = None

    def setup(self, stage: str) -> None:
        """Reads the manifest."""
        data = self.config.data
        if data.root is None:
            raise ValueError(
                "data.root must be a folder with manifest.csv, got none; give --data.root, or for the nyu recipes "
                "set SPD_NYU"
            )
        if self.train_frames is None:
            self.train_frames = RGBDDataset(data.root, data.train_splits)
            self.train_frames.keep(data.train_fraction)
            if self.config.validate_every:
                self.val_frames = RGBDDataset(data.root, (data.val_split,))

    def total_steps(self) -> int:
        """Optimiser steps of the whole run, once :meth:`setup` is done."""
        assert self.train_frames is not None, "setup comes first"
        if self.config.max_steps is not None:
            return self.config.max_steps
        return self.config.epochs * max(1, len(self.train_frames) // self.config.data.batch_size)

    def train_dataloader(self) -> DataLoader[TrainingSample]:
        """This process's share of each training batch, from the trainer's step on."""
        trainer = self._trainer()
        config = self.config
        assert self.train_frames is not None, "setup comes first"
        sampler = EpochBatchSampler(
            len(self.train_frames),
            config.data,
            config.seed,
            current_step=lambda: trainer.global_step,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        # Lightning cannot see that the sampler resumes by itself.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        transform = TrainTransform(data=config.data, model=config.model)
        return self._loader(TrainingSet(self.train_frames, transform, config.seed), sampler)

    def val_dataloader(self) -> DataLoader[TrainingSample] | list[DataLoader[TrainingSample]]:
        """The validation split in its order; an empty list where there is no validation."""
        if self.val_frames is None:
            return []
        data = self.config.data
        batch_size = data.batch_size // self._trainer().world_size
        indices = list(range(len(self.val_frames)))
        batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
        transform = EvalTransform(model=self.config.model)
        return self._loader(ValidationSet(self.val_frames, transform, data.num_queries), batches)

    def frame_names(self, indices: Sequence[int]) -> list[str]:
        """The image files of a training batch's ``indices``, for messages."""
        assert self.train_frames is not None, "setup comes first"
        return [str(self.train_frames.frames[index].image) for index in indices]

    def _batch_bytes(self) -> int:
        """Of one process, about: an image and a depth at four bytes, and the most query points."""
        data, (height, width) = self.config.data, self.config.model.train_size
        most_queries = max(data.num_queries, data.query_range[1] if data.query_schedule == "log_uniform" else 0)
        return data.batch_size * (16 * height * width + 16 * most_queries)

    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "loaders are made for a Trainer"
        return self.trainer

    def _loader(
        self, samples: Dataset[TrainingSample], batches: Sampler[list[SampleKey]] | list[list[int]]
    ) -> DataLoader[TrainingSample]:
        num_workers = self.config.data.num_workers
        return DataLoader(
            samples,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=collate_for(collate, num_workers, self._batch_bytes()),
            persistent_workers=num_workers > 0,
            pin_memory=self._trainer().strategy.root_device.type == "cuda",
            # Its own, so that loading draws nothing from the generator that dropout uses.
            generator=torch.Generator(),
            worker_init_fn=ignore_stop_signals,
        )
