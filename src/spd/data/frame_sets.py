"""The frames of several data sets as one sequence, decoded once where that is asked for."""

from __future__ import annotations

import io
import itertools
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from spd.data.manifest import Frame
from spd.data.rgbd import RGBDDataset, RGBDSample
from spd.files import write_files

_GIGABYTE = 1e9
_MOST_OF_FREE = 0.8
"""Part of the free memory that frames may take; the training needs some too."""


class FrameSets(Dataset[RGBDSample]):
    """Frames of several data sets, one set after the other.

    Args:
        names: of the data sets.
        sets: their frames.
    """

    def __init__(self, names: Sequence[str], sets: Sequence[RGBDDataset]) -> None:
        self.names = tuple(names)
        self.sets = tuple(sets)
        self._ends = list(itertools.accumulate(len(frames) for frames in sets))
        self._kept: list[RGBDSample] | None = None
        self._folder: Path | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def frames(self) -> list[Frame]:
        """What the manifests say of all frames."""
        return [frame for frames in self.sets for frame in frames.frames]

    def frame(self, index: int) -> Frame:
        """What the manifest says of a frame."""
        frames, position = self._place(index)
        return frames.frames[position]

    def set_of(self, index: int) -> int:
        """Position of the data set that a frame belongs to."""
        return bisect_right(self._ends, index)

    def __getitem__(self, index: int) -> RGBDSample:
        if self._kept is not None:
            return self._kept[index]
        if self._folder is not None:
            return self._from_disk(index, self._folder)
        return self._decode(index)

    def keep_in_memory(self, progress: Callable[[int], None] | None = None) -> None:
        """Decode every frame now. Processes that are forked afterwards share the memory.

        Args:
            progress: called with the number of frames that have just been decoded.

        Raises:
            ValueError: the frames need more memory than is free, or one cannot be read.
        """
        self._require_memory()

        def decode(index: int) -> RGBDSample:
            sample = self._decode(index)
            if progress is not None:
                progress(1)
            return sample

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._kept = list(pool.map(decode, range(len(self))))

    def keep_on_disk(self, folder: Path) -> None:
        """Decode every frame once, when it is first read, into files of ``folder`` that later reads take."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def _decode(self, index: int) -> RGBDSample:
        frames, position = self._place(index)
        return frames[position]

    def _place(self, index: int) -> tuple[RGBDDataset, int]:
        """The data set of a frame, and its position there."""
        number = self.set_of(index)
        frames = self.sets[number]
        return frames, index - (self._ends[number] - len(frames))

    def _from_disk(self, index: int, folder: Path) -> RGBDSample:
        frame = self.frame(index)
        image_file, depth_file = folder / f"{index}-image.npy", folder / f"{index}-depth.npy"
        if image_file.exists() and depth_file.exists():
            image, depth_m = np.load(image_file), np.load(depth_file)
            return RGBDSample(torch.from_numpy(image), torch.from_numpy(depth_m), frame.intrinsics, frame.depth_step)
        sample = self._decode(index)
        # Each file is moved to its place when it is whole: several processes may be at it.
        write_files({image_file: _npy(sample.image.numpy()), depth_file: _npy(sample.depth_m.numpy())})
        return sample

    def _require_memory(self) -> None:
        """By the first frame of each set: frames of one set have about one size."""
        needed = 0
        for number, frames in enumerate(self.sets):
            sample = self._decode(self._ends[number] - len(frames))
            needed += len(frames) * (sample.image.nbytes + sample.depth_m.nbytes)
        free = _free_memory()
        if needed > _MOST_OF_FREE * free:
            raise ValueError(
                f"the decoded frames need about {needed / _GIGABYTE:.1f} GB of memory, {free / _GIGABYTE:.1f} GB are "
                "free; keep them on disk with --data.cache disk"
            )


def _free_memory() -> int:
    """Bytes that can be had without swapping, as Linux estimates them; elsewhere those of free pages."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
