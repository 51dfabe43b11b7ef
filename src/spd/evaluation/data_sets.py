"""Which frames an evaluation is about: the data sets of one run, each with its split, crop and depth range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from spd.data.rgbd import RGBDDataset
from spd.depth_range import DepthRange
from spd.evaluation.predictions import data_checksum
from spd.evaluation.protocol import Crop, depth_range_of, image_name

Value = TypeVar("Value")


class EvaluatedData(NamedTuple):
    """A split of a data set, and what of it is asked."""

    root: Path
    split: str
    crop: Crop
    depth_range: DepthRange
    frames: RGBDDataset
    checksum: str

    @property
    def name(self) -> str:
        """``nyu-test``: the data set's folder and the split."""
        return f"{self.root.resolve().name}-{self.split}"

    def image_names(self) -> list[str]:
        """The images as predictions name them, in their order."""
        return [image_name(frame, self.root) for frame in self.frames.frames]


def evaluated_data(
    roots: Sequence[Path], splits: Sequence[str], crops: Sequence[Crop], depth_range: DepthRange | None = None
) -> tuple[EvaluatedData, ...]:
    """The data sets in their order.

    Args:
        roots: their folders, at least one.
        splits: one for all of them, or one for each.
        crops: likewise.
        depth_range: for all of them; None is that of each one's crop.

    Raises:
        ValueError: there is no data set, there are more or fewer splits or crops than data sets, two would have the
            same name, or a manifest is refused.
    """
    if not roots:
        raise ValueError("--data must name at least one data set, got none")
    rows = zip(roots, _one_for_each("split", splits, roots), _one_for_each("crop", crops, roots), strict=True)
    found = []
    for root, split, crop in rows:
        frames = RGBDDataset(root, [split])
        limits = depth_range or depth_range_of(crop)
        found.append(EvaluatedData(root, split, crop, limits, frames, data_checksum(frames, root)))
    names = [data.name for data in found]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two data sets would both be called {doubled[0]}; rename a folder, or evaluate them in turn")
    return tuple(found)


def _one_for_each(option: str, values: Sequence[Value], roots: Sequence[Path]) -> Sequence[Value]:
    if len(values) == 1:
        return list(values) * len(roots)
    if len(values) != len(roots):
        raise ValueError(
            f"--{option} must be given once, or once for each of the {len(roots)} data sets, got {len(values)}"
        )
    return values
