"""Which depth of a box is that of the object in it: methods side by side, on drawn rooms whose objects are known.

The truth about a box is the median depth of the object's visible pixels; the box is the smallest around them.

Example:
  python benchmarks/box_depth.py --rooms 60
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable

import numpy as np

import spd
from spd.boxes import box_grid
from spd.data.rooms.dataset import _draw
from spd.data.rooms.geometry import SHELL, cast

SIZE = (240, 320)
SMALLEST_SIDE, SMALLEST_AREA = 16, 300


def quantile(share: float) -> Callable[[np.ndarray], float]:
    return lambda depth_m: float(np.quantile(depth_m, share))


def inner(depth_m: np.ndarray) -> float:
    """The median of the points in the box's middle half."""
    side = round(len(depth_m) ** 0.5)
    cut = side // 4
    return float(np.median(depth_m.reshape(side, side)[cut : side - cut, cut : side - cut]))


WIDTH, CENTRAL = 0.1, 0.25
"""Of the kernel in log depth, and of the weight of the middle, over the box's sides."""


def central_mode(depth_m: np.ndarray) -> float:
    """Of the depths at :func:`box_grid`, the one that most of the others agree with, those in the middle first.

    What lies behind an object shows in the corners of its box, and each at another depth.
    """
    return float(np.exp(_mode(np.log(depth_m))))


def _mode(log_depth: np.ndarray) -> float:
    weights = _central_weights(round(len(log_depth) ** 0.5))
    kernel = np.exp(-0.5 * ((log_depth[:, None] - log_depth) / WIDTH) ** 2)
    peak = (kernel * weights).sum(axis=1).argmax()
    near = kernel[peak] * weights
    order = np.argsort(log_depth)
    middle = np.searchsorted(near[order].cumsum(), near.sum() / 2)
    return float(log_depth[order][min(int(middle), len(order) - 1)])


def _central_weights(side: int) -> np.ndarray:
    offset = (np.arange(side) + 0.5) / side - 0.5
    along = np.exp(-0.5 * (offset / CENTRAL) ** 2)
    return (along[:, None] * along).ravel()


METHODS: dict[str, tuple[int, Callable[[np.ndarray], float]]] = {
    "centre": (1, quantile(0.5)),
    "median of 5x5": (5, quantile(0.5)),
    "median of 9x9": (9, quantile(0.5)),
    "nearest 15 % of 9x9": (9, quantile(0.15)),
    "nearest 25 % of 9x9": (9, quantile(0.25)),
    "nearest 35 % of 9x9": (9, quantile(0.35)),
    "nearest 35 % of 5x5": (5, quantile(0.35)),
    "median of the middle, 8x8": (8, inner),
    "central mode of 5x5": (5, central_mode),
    "central mode of 7x7": (7, central_mode),
    "central mode of 9x9": (9, central_mode),
}


def objects(seed: int, index: int) -> tuple[spd.Camera, np.ndarray, np.ndarray, list[np.ndarray]]:
    """A room: camera, picture, depth, and the mask of every piece of furniture or thing that is large enough."""
    room, scene = _draw(seed, index, SIZE, 0.5)
    _, owner = cast(scene.size, scene.primitives, scene.camera, SIZE)
    pieces = np.array([primitive.piece for primitive in scene.primitives] + [SHELL])
    of_pixel = pieces[owner]
    masks = [of_pixel == piece for piece in np.unique(of_pixel) if piece >= 0]
    camera = spd.Camera(**{name: float(value) for name, value in room.intrinsics._asdict().items()}, size=SIZE)
    return camera, room.image, room.depth_m, [mask for mask in masks if mask.sum() >= SMALLEST_AREA]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=60)
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args()
    predictor = spd.load(device="cpu")
    exact: dict[str, list[float]] = defaultdict(list)
    of_model: dict[str, list[float]] = defaultdict(list)
    for index in range(options.rooms):
        camera, image, depth_m, masks = objects(options.seed, index)
        boxes = []
        for mask in masks:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
            if min(box[2:] - box[:2]) >= SMALLEST_SIDE:
                boxes.append((box, float(np.median(depth_m[mask]))))
        if not boxes:
            continue
        scene = predictor.encode(image, camera=camera)
        for name, (side, method) in METHODS.items():
            points = np.concatenate([box_grid(box, side) for box, _ in boxes])
            answers = scene(points).reshape(len(boxes), -1)
            u, v = points.round().astype(int).T
            truths = depth_m[v.clip(0, SIZE[0] - 1), u.clip(0, SIZE[1] - 1)].reshape(len(boxes), -1)
            for (_, truth_m), answer, truth in zip(boxes, answers, truths, strict=True):
                exact[name].append(abs(method(truth) / truth_m - 1))
                of_model[name].append(abs(method(answer) / truth_m - 1))
    print(f"{len(next(iter(exact.values())))} objects in {options.rooms} rooms; mean |relative error|, and over 25 %")
    print(f"{'method':28}{'points':>7}{'exact map':>11}{'> 25 %':>8}{'spd-lite':>10}{'> 25 %':>8}")
    for name, (side, _) in METHODS.items():
        a, b = np.array(exact[name]), np.array(of_model[name])
        print(
            f"{name:28}{side * side:7d}{a.mean():11.3f}{(a > 0.25).mean():8.3f}{b.mean():10.3f}{(b > 0.25).mean():8.3f}"
        )


if __name__ == "__main__":
    main()
