"""Draws true depth, prediction and their ratio on a grid of points of test images, without the images themselves.

Example:
  python benchmarks/truth_beside_prediction.py --data "$SPD_NYU" --checkpoint CHECKPOINT --frames 20 --output a.png
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image

import spd
from spd.data.manifest import Frame, read_manifest
from spd.data.rgbd import read_depth, read_image
from spd.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    data: Path
    """Folder with manifest.csv."""
    checkpoint: str
    frames: tuple[int, ...]
    """Positions within the split."""
    split: str = "test"
    step: int = 16
    """Pixels between two points."""
    output: Path


def main(options: Options) -> None:
    """One row per frame: truth, prediction, prediction over truth."""
    predictor = spd.load(options.checkpoint)
    frames = read_manifest(options.data, (options.split,))
    figure = Figure(figsize=(12, 3.1 * len(options.frames)), layout="constrained")
    rows = figure.subplots(len(options.frames), 3, squeeze=False)
    for axes, index in zip(rows, options.frames, strict=True):
        points, truth, predicted = ask(predictor, frames[index], options.step)
        near, far = np.log(truth).min(), np.log(truth).max()
        error = np.abs(predicted / truth - 1).mean()
        for axis, values, title in (
            (axes[0], truth, f"true depth, {options.split} image {index}"),
            (axes[1], predicted, f"SPD, AbsRel {error:.3f}"),
        ):
            marks = axis.scatter(*points.T, c=values, s=22, cmap="turbo_r", vmin=np.exp(near), vmax=np.exp(far))
            axis.set_title(title)
        figure.colorbar(marks, ax=axes[:2], label="metres")
        ratio = axes[2].scatter(*points.T, c=np.log2(predicted / truth), s=22, cmap="RdBu_r", vmin=-1, vmax=1)
        axes[2].set_title("prediction / truth")
        bar = figure.colorbar(ratio, ax=axes[2], ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["½", "1", "2"])
        for axis in axes:
            axis.set_aspect("equal")
            axis.invert_yaxis()
            axis.set_xticks([])
            axis.set_yticks([])
    picture = io.BytesIO()
    figure.savefig(picture, dpi=80)
    # Thousands of smoothed discs pack badly: 256 colours take a quarter of the bytes.
    Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(options.output, optimize=True)


def ask(predictor: Predictor, frame: Frame, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid points (K, 2) with a true depth, that depth (K,) and the predicted one (K,), metres."""
    depth_m = read_depth(frame)
    v, u = np.mgrid[step // 2 : depth_m.shape[0] : step, step // 2 : depth_m.shape[1] : step]
    points = np.stack((u.ravel(), v.ravel()), axis=1)
    truth = depth_m[points[:, 1], points[:, 0]]
    points, truth = points[truth > 0], truth[truth > 0]
    return points, truth, predictor(read_image(frame.image), points, intrinsics=frame.intrinsics)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
