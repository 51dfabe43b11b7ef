"""Frames of a data set side by side, each above its depth: for a look at what is in it.

Example:
  spd data rooms near --num 8 --seed 6 --size 240 320 --near 1
  python benchmarks/contact_sheet.py --data near --output docs/images/near.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageOps

from spd.data.rgbd import RGBDDataset


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the sheet."""

    data: Path
    """Folder with manifest.csv."""
    output: Path
    """PNG file to write."""
    first: int = 0
    """The first frame."""
    num: int = 8
    """How many frames."""
    columns: int = 4
    """Frames side by side."""
    width: int = 240
    """Pixels across a frame; its height follows."""
    splits: tuple[str, ...] = ("train", "val")
    """Splits that the frames are taken from, in this order."""


def main(options: Options) -> None:
    """Write the sheet."""
    dataset = RGBDDataset(options.data, list(options.splits))
    pairs = []
    for index in range(options.first, min(options.first + options.num, len(dataset))):
        sample = dataset[index]
        image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        size = (options.width, round(options.width * image.height / image.width))
        # The low bits are noise, and noise is what makes a PNG large.
        small = ImageOps.posterize(image.resize(size, Image.Resampling.LANCZOS), 5)
        pairs.append((small, depth_picture(sample.depth_m.numpy()).resize(size, Image.Resampling.NEAREST)))
    if not pairs:
        raise SystemExit(f"no frame {options.first} in {options.data} ({len(dataset)} frames)")
    width, height = options.width, max(image.height for image, _ in pairs)
    rows = -(-len(pairs) // options.columns)
    sheet = Image.new("RGB", (options.columns * width, 2 * rows * height))
    for number, (image, depth) in enumerate(pairs):
        row, column = divmod(number, options.columns)
        sheet.paste(image, (column * width, 2 * row * height))
        sheet.paste(depth, (column * width, (2 * row + 1) * height))
    sheet.save(options.output, optimize=True)
    print(f"wrote {len(pairs)} frames to {options.output}")


def depth_picture(depth_m: np.ndarray) -> Image.Image:
    """Grey by the logarithm of depth: white at 0.25 m, black at 4 m and where there is none."""
    part = np.log(4 / np.maximum(depth_m, 1e-3)) / np.log(16)
    grey = np.where(depth_m > 0, np.clip(part, 0, 1) * 255, 0).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


if __name__ == "__main__":
    main(tyro.cli(Options))
