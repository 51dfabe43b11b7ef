"""Batches for training and validation: what Lightning asks for them, across workers, processes and restarts."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from spd.config import ModelConfig
from spd.data.frame_sets import FrameSets
from spd.data.mixture import Mixture, Share
from spd.data.query_sampling import QuerySample, draw_num_queries, sample_generator, sample_queries
from spd.data.rgbd import CAMERA_COLUMNS, CANONICAL_CAMERA, RGBDDataset, read_splits
from spd.data.transforms import EvalTransform, TrainTransform, TransformedSample
from spd.train_config import DataConfig, TrainConfig

_log = logging.getLogger(__name__)

CACHE_FOLDER = "frames"
"""Of a run, for decoded frames."""


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


def _with_cameras(root: Path, splits: Sequence[str]) -> RGBDDataset:
    """The frames of a data set from which metres can be learnt; says how many are left out.

    Raises:
        ValueError: the manifest is refused, or there is no such frame.
    """
    frames = RGBDDataset(root, splits)
    number = frames.leave_out_unknown_cameras()
    names = ", ".join(splits)
    if not len(frames):
        raise ValueError(
            f"no frame of split {names} of {root} says its camera, so its depth cannot be brought to one focal length; "
            f"give {', '.join(CAMERA_COLUMNS)}, or {CANONICAL_CAMERA} in the column camera where one unknown camera "
            "took all images"
        )
    if number:
        _log.warning(
            "%s of %s frames of split %s of %s have no camera and are left out",
            number,
            number + len(frames),
            names,
            root,
        )
    return frames


class RGBDDataModule(pl.LightningDataModule):
    """The loaders of a training run.

    It shards by itself, so the Trainer takes ``use_distributed_sampler=False``. A run that continues starts with the
    batch after the trainer's ``global_step``, one optimiser step being one batch. Every process validates on the whole
    split: its figures need no reduction. There is no validation loader where ``config.validate_every`` is 0.

    Raises:
        ValueError: on ``setup``, there is no ``config.data.root``, a manifest is refused, or no data set has a frame to
            validate on.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.train_frames: FrameSets | None = None
        self.val_frames: FrameSets | None = None

    def setup(self, stage: str) -> None:
        """Reads the manifests, and decodes the frames that are to be kept in memory."""
        data = self.config.data
        if not data.root:
            raise ValueError("--data.root must name one folder with manifest.csv per data set, got none")
        if self.train_frames is not None:
            return
        self.train_frames = self._training_frames()
        if self.config.validate_every:
            self.val_frames = self._validation_frames()
        self._keep("train", self.train_frames)
        if self.val_frames is not None:
            self._keep("val", self.val_frames)

    def _training_frames(self) -> FrameSets:
        data = self.config.data
        sets = [_with_cameras(root, data.train_splits) for root in data.root]
        for frames in sets:
            frames.keep(data.train_fraction)
        return FrameSets(data.set_names, sets)

    def _validation_frames(self) -> FrameSets:
        """Of the data sets that have the split; one at least has."""
        data = self.config.data
        having = [
            (name, root)
            for name, root in zip(data.set_names, data.root, strict=True)
            if len(data.root) == 1 or data.val_split in read_splits(root)
        ]
        if not having:
            raise ValueError(
                f"no data set has a frame in split {data.val_split} to validate on; --data.val-split names another, "
                "--validate-every 0 goes without"
            )
        return FrameSets([name for name, _ in having], [_with_cameras(root, (data.val_split,)) for _, root in having])

    def _keep(self, name: str, frames: FrameSets) -> None:
        if self.config.data.cache == "memory":
            frames.keep_in_memory()
        elif self.config.data.cache == "disk":
            frames.keep_on_disk(self.config.output / CACHE_FOLDER / name)

    def train_dataloader(self) -> DataLoader[TrainingSample]:
        """This process's share of each training batch, from the trainer's step on."""
        trainer = self._trainer()
        config = self.config
        assert self.train_frames is not None, "setup comes first"
        sampler = EpochBatchSampler(
            self._mixture(self.train_frames),
            config.data,
            current_step=lambda: trainer.global_step,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        # Lightning cannot see that the sampler resumes by itself.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        transform = TrainTransform(data=config.data, model=config.model)
        return self._loader(TrainingSet(self.train_frames, transform, config.seed), sampler)

    def _mixture(self, frames: FrameSets) -> Mixture:
        data = self.config.data
        weights = data.weights or tuple(float(len(of_set)) for of_set in frames.sets)
        balances = data.scene_balance * (len(frames.sets) if len(data.scene_balance) == 1 else 1)
        shares = [
            Share(tuple(frame.scene or "" for frame in of_set.frames), weight, balance)
            for of_set, weight, balance in zip(frames.sets, weights, balances, strict=True)
        ]
        return Mixture(tuple(shares), self.config.seed)

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

    def val_prefix(self, data_set: int) -> str:
        """What goes before the name of a validation figure: the data set where training reads several."""
        assert self.val_frames is not None, "there is no validation"
        return f"{self.val_frames.names[data_set]}/" if len(self.config.data.root) > 1 else ""

    def val_scene_weight(self, index: int) -> float:
        """N / (S · n): with it, the mean over the N frames of a set is that over its S scenes, of n frames each.

        Frames without a label are one scene.
        """
        assert self.val_frames is not None, "there is no validation"
        frames = self.val_frames.sets[self.val_frames.set_of(index)].frames
        sizes = Counter(frame.scene for frame in frames)
        return len(frames) / (len(sizes) * sizes[self.val_frames.frame(index).scene])

    def frame_names(self, indices: Sequence[int]) -> list[str]:
        """The image files of a training batch's ``indices``, for messages."""
        assert self.train_frames is not None, "setup comes first"
        return [str(self.train_frames.frame(index).image) for index in indices]

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
            collate_fn=collate,
            persistent_workers=num_workers > 0,
            pin_memory=self._trainer().strategy.root_device.type == "cuda",
            # Its own, so that loading draws nothing from the generator that dropout uses.
            generator=torch.Generator(),
        )
