"""The floor: answers that do not look at the image, fitted to the true depths of training frames.

They are plain metres whatever the camera: a room is not farther away because the lens is longer, and no image is there
to be brought to another focal length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from spd.coordinates import pixels_to_cells, read_bilinear, resize_points
from spd.data.rgbd import RGBDDataset, read_depth
from spd.data.transforms import Geometry, resize_depth
from spd.depth_range import DepthRange
from spd.predictor import Predictor

_BINS_PER_M = 10_000


class MedianDepth(nn.Module):
    """The same depth, in metres, at every point of every image."""

    depth_m: Tensor

    def __init__(self, depth_m: float) -> None:
        super().__init__()
        self.register_buffer("depth_m", torch.tensor(depth_m))

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> None:
        """Nothing: no answer depends on the image."""

    def decode(self, memory: None, query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """The depth, once per point, float32."""
        return self.depth_m.expand(query_points.shape[:2])


class LogMeanMap(nn.Module):
    """A depth per place in the image, the same for every image: exp of a map of log depths laid over it.

    Args:
        log_depth: log metres; its edges are laid on the edges of the image, whatever the image's size.
    """

    log_depth: Tensor

    def __init__(self, log_depth: Float[Tensor, "H W"]) -> None:
        super().__init__()
        self.register_buffer("log_depth", log_depth)

    def encode(self, images: Float[Tensor, "B 3 Hi Wi"]) -> tuple[int, int]:
        """(height, width) of the images, all that is needed of them."""
        return images.shape[-2], images.shape[-1]

    def decode(self, memory: tuple[int, int], query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """The map read bilinearly at the points, clamped to its border; metres, float32."""
        height, width = self.log_depth.shape
        cells = pixels_to_cells(resize_points(query_points, memory, (height, width)), 1, "center")
        maps = self.log_depth.expand(len(query_points), 1, height, width)
        return read_bilinear(maps, cells).squeeze(-1).exp()


def fit_median(
    dataset: RGBDDataset, depth_range: DepthRange, *, progress: Callable[[int], None] | None = None
) -> Predictor:
    """The median over all valid pixels of all frames, exact to 0.05 mm; memory does not grow with the frames.

    Args:
        dataset: the training frames; only their depth files are read.
        depth_range: a pixel is valid if its depth lies in it.
        progress: called with 1 after each frame.

    Raises:
        ValueError: a depth cannot be read, or none is valid.
    """
    # Counts of the depths rounded to 0.1 mm: a PNG's millimetres are bins of their own.
    counts = np.zeros(1, np.int64)
    for depth_m in _depths(dataset, progress):
        valid_m = depth_m[depth_range.mask(depth_m)]
        of_frame = np.bincount(np.rint(valid_m * _BINS_PER_M).astype(np.int64), minlength=len(counts))
        of_frame[: len(counts)] += counts
        counts = of_frame
    _require_some(int(counts.sum()), dataset, depth_range)
    ranked = np.cumsum(counts)
    # The median of an even number of values is the mean of the middle two.
    middle = np.searchsorted(ranked, [(ranked[-1] - 1) // 2, ranked[-1] // 2], side="right")
    return _predictor(MedianDepth(float(middle.mean()) / _BINS_PER_M))


def fit_log_mean_map(
    dataset: RGBDDataset, depth_range: DepthRange, *, progress: Callable[[int], None] | None = None
) -> Predictor:
    """Per pixel the mean of the log depth over the frames where it is valid, which is what squared log error asks for.

    The map has the size of the first frame's depth; another size is brought to it by the nearest pixel. A pixel that
    is valid in no frame has the mean over all valid pixels.

    Args:
        dataset: the training frames; only their depth files are read.
        depth_range: a pixel is valid if its depth lies in it.
        progress: called with 1 after each frame.

    Raises:
        ValueError: a depth cannot be read, or none is valid.
    """
    map_size = (0, 0)
    total, count = np.zeros(map_size), np.zeros(map_size, np.int64)
    for number, depth_m in enumerate(_depths(dataset, progress)):
        size = (depth_m.shape[0], depth_m.shape[1])
        if number == 0:
            map_size = size
            total, count = np.zeros(map_size), np.zeros(map_size, np.int64)
        elif size != map_size:
            depth_m = resize_depth(torch.from_numpy(depth_m), Geometry(0, 0, size, map_size)).numpy()
        valid = depth_range.mask(depth_m)
        total[valid] += np.log(depth_m[valid], dtype=np.float64)
        count += valid
    _require_some(int(count.sum()), dataset, depth_range)
    mean = np.where(count > 0, total / np.maximum(count, 1), total.sum() / count.sum())
    return _predictor(LogMeanMap(torch.from_numpy(mean.astype(np.float32))))


def _depths(dataset: RGBDDataset, progress: Callable[[int], None] | None) -> Iterator[Float[np.ndarray, "H W"]]:
    for frame in dataset.frames:
        yield read_depth(frame)
        if progress is not None:
            progress(1)


def _require_some(num_valid: int, dataset: RGBDDataset, depth_range: DepthRange) -> None:
    if num_valid == 0:
        raise ValueError(f"a constant needs true depths of {depth_range}, got none in {len(dataset.frames)} frames")


def _predictor(model: MedianDepth | LogMeanMap) -> Predictor:
    return Predictor(model=model.eval(), train_size=None, focal_length=None, device=torch.device("cpu"))
