"""What a data set holds, before a training begins: how much depth, how far, from which cameras; and what is odd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spd.camera import odd_focal_length
from spd.data.rgbd import Frame, RGBDDataset, read_depth

FRAMES_READ = 64
"""Depths that are read of a data set, evenly over its frames."""
_PIXELS_KEPT = 4096
_PERCENTILES = (1, 50, 99)
NEAREST_MEDIAN_M, FARTHEST_MEDIAN_M = 0.05, 300.0
"""A median depth outside these is that of other units."""


class Summary(NamedTuple):
    """Of some frames, by a part of their depths."""

    frames: int
    frames_read: int
    without_depth: tuple[str, ...]
    """Depth files that were read and have no valid pixel."""
    valid_share: float
    """Part of the pixels read that has depth."""
    percentiles_m: tuple[float, float, float]
    """1, 50 and 99 %, metres."""
    cameras: int
    """Different ones."""
    without_camera: int
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        low, middle, high = self.percentiles_m
        cameras = f"{self.cameras} camera{'s' if self.cameras != 1 else ''}"
        if self.without_camera:
            cameras += f", {self.without_camera} frames without"
        empty = f", {len(self.without_depth)} of {self.frames_read} without any" if self.without_depth else ""
        return (
            f"{self.frames} frames, depth at {100 * self.valid_share:.3g} % of pixels{empty}, from {low:.3g} m over "
            f"{middle:.3g} m to {high:.3g} m (1, 50, 99 %), {cameras}"
        )


def summarize(datasets: Sequence[RGBDDataset]) -> Summary:
    """Look at all cameras, and at the depths of some frames; at those of all where none of these has a valid one.

    Raises:
        ValueError: no frame has a valid depth, or a depth cannot be read; the message names files.
    """
    frames = [frame for dataset in datasets for frame in dataset.frames]
    if not frames:
        raise ValueError("there must be frames to summarise, got none")
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES_READ).round().astype(int)).tolist()
    kept: list[np.ndarray] = []
    empty: list[str] = []
    pixels = valid_pixels = 0
    odd_lenses: list[str] = []
    others = [index for index in range(len(frames)) if index not in set(chosen)]
    for number, index in enumerate([*chosen, *others]):
        if number >= len(chosen) and kept:
            break
        frame = frames[index]
        depth_m = read_depth(frame)
        if frame.intrinsics is not None and (odd := odd_focal_length(frame.intrinsics, depth_m.shape[1])):
            odd_lenses.append(f"{frame.image.name}: {odd}")
        valid = depth_m[depth_m > 0]
        pixels, valid_pixels = pixels + depth_m.size, valid_pixels + valid.size
        if valid.size == 0:
            empty.append(str(frame.depth))
            continue
        kept.append(valid[:: max(1, valid.size // _PIXELS_KEPT)])
    if not kept:
        raise ValueError(f"none of the {len(frames)} frames has a valid depth: {_some(empty)}; check depth_scale")
    low, middle, high = np.percentile(np.concatenate(kept), _PERCENTILES).tolist()
    return Summary(
        frames=len(frames),
        frames_read=len(kept) + len(empty),
        without_depth=tuple(empty),
        valid_share=valid_pixels / pixels,
        percentiles_m=(low, middle, high),
        cameras=len({frame.intrinsics for frame in frames} - {None}),
        without_camera=sum(frame.intrinsics is None for frame in frames),
        warnings=tuple(_warnings(middle, odd_lenses, frames)),
    )


def _warnings(median_m: float, odd_lenses: Sequence[str], frames: Sequence[Frame]) -> list[str]:
    told = []
    if median_m > FARTHEST_MEDIAN_M:
        told.append(f"the median depth is {median_m:.4g} m: are these millimetres? depth is in metres over depth_scale")
    if median_m < NEAREST_MEDIAN_M:
        scales = sorted({frame.depth_scale for frame in frames})
        told.append(
            f"the median depth is {median_m:.3g} m: is depth_scale, now {scales[0]:g}, the units of a file per metre?"
        )
    if odd_lenses:
        told.append(odd_lenses[0] + (f" (and {len(odd_lenses) - 1} more frames)" if len(odd_lenses) > 1 else ""))
    return told


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
