"""Many images: read a few at a time, encoded together where they have one size, and taken apart again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from spd.depth_predictor import DepthPredictor

BATCH_SIZE = 8
"""Images that are encoded before the first of them is answered."""
Item = TypeVar("Item")
_NOTHING = object()


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of ``size``, the last of them shorter.

    Example:
        >>> [*windows("abcde", 2)]
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    window: list[Item] = []
    for item in items:
        window.append(item)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def pairs_of(images: Iterable[Any], camera: Any) -> Iterator[tuple[Any, Any]]:
    """Each image with its camera: one for all, or a list of one per image (four bare numbers are one camera)."""
    several = isinstance(camera, list) and (not camera or not isinstance(camera[0], int | float))
    # A matrix as nested lists is one camera.
    if several and len(camera) == 3 and all(isinstance(row, list | tuple) and len(row) == 3 for row in camera):
        several = False
    return one_by_one(images, camera, what="cameras") if several else ((image, camera) for image in images)


def one_by_one(
    images: Iterable[Any], others: Iterable[Any], what: str = "lists of points"
) -> Iterator[tuple[Any, Any]]:
    """Pairs; refuses more of the one than of the other."""
    rest = iter(others)
    count = 0
    for image in images:
        other = next(rest, _NOTHING)
        if other is _NOTHING:
            raise ValueError(f"there must be as many {what} as images, got {count} for more images")
        count += 1
        yield image, other
    if next(rest, _NOTHING) is not _NOTHING:
        raise ValueError(f"there must be as many {what} as images, got more than {count} for {count} images")


def encode_together(model: DepthPredictor, images: Sequence[Tensor], device: torch.device) -> list[Any]:
    """The memory of each image, (3, H, W) float32; those of one size go through the model at once.

    Models whose memories are no tensors, such as those of other engines, get one image at a time.
    """
    by_size: dict[torch.Size, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_size[image.shape].append(index)
    memories: list[Any] = [None] * len(images)
    for group in by_size.values():
        first = model.encode(images[group[0]].unsqueeze(0).to(device)) if len(group) == 1 else None
        if len(group) > 1 and _takes_batches(model):
            together = model.encode(torch.stack([images[index] for index in group]).to(device))
            parts = [_part(together, place, len(group)) for place in range(len(group))]
        elif len(group) > 1:
            parts = [model.encode(images[index].unsqueeze(0).to(device)) for index in group]
        else:
            parts = [first]
        for index, part in zip(group, parts, strict=True):
            memories[index] = part
    return memories


def _takes_batches(model: Any) -> bool:
    """Graphs of other engines are of one image; SPD's networks, also as PyTorch runs them, are not."""
    return isinstance(model, torch.nn.Module) or isinstance(getattr(model, "source", None), torch.nn.Module)


def _part(memory: Any, place: int, batch: int) -> Any:
    """One image's part of what a model keeps of several."""
    if isinstance(memory, Tensor):
        rows = memory.shape[0] // batch
        return memory[place * rows : (place + 1) * rows]
    if isinstance(memory, tuple) and hasattr(memory, "_fields"):
        return type(memory)(*(_part(value, place, batch) for value in memory))
    if isinstance(memory, tuple | list):
        return type(memory)(_part(value, place, batch) for value in memory)
    return memory
