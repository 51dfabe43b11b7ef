"""Batches for training and validation: what Lightning asks for them, across workers, processes and restarts."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from spd.data.batches import (
    EpochBatchSampler,
    SampleKey,
    TrainingSample,
    TrainingSet,
    ValidationSet,
    collate,
)
from spd.data.frame_sets import FrameSets
from spd.data.manifest import CAMERA_COLUMNS, CANONICAL_CAMERA, read_splits
from spd.data.mixture import Mixture, Share
from spd.data.rgbd import RGBDDataset
from spd.data.sharing import collate_for
from spd.data.transforms import EvalTransform, TrainTransform
from spd.data.worker import ignore_stop_signals
from spd.train_config import TrainConfig

_log = logging.getLogger(__name__)

CACHE_FOLDER = ".frames"
"""Of a run, for decoded frames."""


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
            raise ValueError(
                "--data.root must name one folder with manifest.csv per data set, got none; recipes of known sets take "
                "those of SPD_NYU and SPD_RGBD"
            )
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
