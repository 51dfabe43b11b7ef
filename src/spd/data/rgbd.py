"""RGB-D frames on disk: a manifest's frames → images and depths; everything that trains or evaluates reads this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from spd.camera import Intrinsics
from spd.data.images import DECODING_ERRORS, read_image
from spd.data.images import to_rgb as to_rgb
from spd.data.manifest import Frame, read_manifest
from spd.files import read_npy
from spd.messages import one_line


class RGBDSample(NamedTuple):
    """A frame in memory."""

    image: UInt8[Tensor, "3 H W"]
    depth_m: Float[Tensor, "H W"]
    """Metres; 0 where there is no measurement."""
    intrinsics: Intrinsics | None = None
    depth_step: float = 0.0


class RGBDDataset(Dataset[RGBDSample]):
    """The frames of some splits of a data set, in the order of its manifest.

    Raises:
        ValueError: see :func:`read_manifest`; on access, an unreadable file or a depth of another size than its image.
    """

    def __init__(self, root: Path, splits: Sequence[str] | None = None) -> None:
        self.frames = read_manifest(root, splits)

    def keep(self, fraction: float) -> None:
        """Leave only this part of the frames, one at least, in their order: the first of one random order."""
        number = max(1, round(fraction * len(self.frames)))
        order = np.random.default_rng(0).permutation(len(self.frames))
        self.frames = [self.frames[index] for index in sorted(order[:number])]

    def leave_out_unknown_cameras(self) -> int:
        """Keep only the frames from which metres can be learnt.

        Returns:
            How many were left out.
        """
        before = len(self.frames)
        self.frames = [frame for frame in self.frames if frame.has_scale]
        return before - len(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> RGBDSample:
        frame = self.frames[index]
        image = read_image(frame.image)
        depth_m = read_depth(frame)
        if depth_m.shape != image.shape[:2]:
            raise ValueError(
                f"depth must have the size of its image, got {_size(depth_m)} in {frame.depth} "
                f"and {_size(image)} in {frame.image}"
            )
        return RGBDSample(
            torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(depth_m), frame.intrinsics, frame.depth_step
        )


def read_depth(frame: Frame) -> Float[np.ndarray, "H W"]:
    """Depth in metres, float32; 0 where there is no measurement (also for NaN, infinite and negative values).

    ``depth_scale`` applies to PNG only; ``.npy`` holds metres.

    Raises:
        ValueError: an unreadable file, a PNG that is not 16-bit greyscale, an array that is not (H, W) floats.
    """
    if frame.depth.suffix.lower() == ".npy":
        try:
            values = read_npy(frame.depth)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read the depth {frame.depth}: {one_line(error)}") from error
        if values.ndim != 2 or values.dtype.kind != "f":
            raise ValueError(f"{frame.depth} must hold (H, W) floats, got {values.shape} of {values.dtype}")
        depth_m = values.astype(np.float32)
        return np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(0))
    try:
        with Image.open(frame.depth) as image:
            mode = image.mode
            values = np.array(image)
    except DECODING_ERRORS as error:
        raise ValueError(f"cannot read the depth {frame.depth}: {one_line(error)}") from error
    if not mode.startswith("I"):
        raise ValueError(f"{frame.depth} must be a 16-bit greyscale PNG, got PIL mode {mode}")
    return values.astype(np.float32) / np.float32(frame.depth_scale)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
