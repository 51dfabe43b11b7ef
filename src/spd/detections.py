"""Boxes, masks and keypoints as people have them: arrays, COCO dictionaries, results of Ultralytics and supervision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


def as_boxes(boxes: Any, size: tuple[int, int]) -> Float[np.ndarray, "N 4"]:
    """x0, y0, x1, y1 of boxes, cut at the borders of an image of ``size``, (height, width)."""
    if (annotations := _annotations(boxes)) is not None:
        found = [_numbers(_field(item, "bbox"), "a COCO bbox") for item in annotations]
        array = np.array(found, np.float64).reshape(len(found), -1)
        if array.shape[1:] == (4,):
            array = np.concatenate((array[:, :2], array[:, :2] + array[:, 2:]), axis=1)
    elif hasattr(boxes, "xyxy"):  # supervision.Detections, or the boxes of Ultralytics.
        array = _numbers(boxes.xyxy, "boxes")
    elif hasattr(boxes, "boxes"):
        array = _numbers(boxes.boxes.xyxy, "boxes")
    else:
        array = _numbers(boxes, "boxes")
    if array.size == 0:
        return np.zeros((0, 4))
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError(f"boxes must be (N, 4) finite numbers x0, y0, x1, y1, got shape {array.shape}")
    height, width = size
    inside = array.clip(0, np.array((width, height, width, height)))
    empty = (inside[:, 2:] <= inside[:, :2]).any(axis=1)
    if empty.any():
        index = int(empty.argmax())
        raise ValueError(
            f"boxes must be x0, y0, x1, y1 with x0 < x1 and y0 < y1 that meet an image of {width}x{height}, got "
            f"{array[index].tolist()} at index {index}"
        )
    return inside


def as_masks(masks: Any, size: tuple[int, int]) -> Bool[np.ndarray, "N H W"]:
    """Masks of an image of ``size``, (height, width)."""
    if (annotations := _annotations(masks)) is not None:
        array = np.array([decode_segmentation(_field(item, "segmentation"), size) for item in annotations], bool)
    elif getattr(masks, "mask", None) is not None:  # supervision.Detections
        array = _numbers(masks.mask, "masks") != 0
    elif hasattr(masks, "masks"):  # Ultralytics: outlines, since its bitmaps are of the size that its network sees.
        outlines = [] if masks.masks is None else masks.masks.xy
        array = np.array([_filled([np.asarray(outline)], size) for outline in outlines], bool)
    else:
        array = _numbers(masks, "masks") != 0
    if array.size == 0 and len(array) == 0:
        return np.zeros((0, *size), bool)
    array = array[None] if array.ndim == 2 else array
    if array.shape[1:] != size:
        raise ValueError(f"masks must be (N, {size[0]}, {size[1]}) as the image is, got shape {array.shape}")
    empty = ~array.any(axis=(1, 2))
    if empty.any():
        raise ValueError(f"a mask must have a pixel, that at index {int(empty.argmax())} has none")
    return array


def as_keypoints(keypoints: Any) -> list[Float[np.ndarray, "J 3"]]:
    """x, y and visibility (0 is hidden) of each instance."""
    if (annotations := _annotations(keypoints)) is not None:
        return [_numbers(_field(item, "keypoints"), "COCO keypoints").reshape(-1, 3) for item in annotations]
    visible = None
    if hasattr(keypoints, "keypoints"):  # Ultralytics
        keypoints = keypoints.keypoints
    if hasattr(keypoints, "xy"):  # Ultralytics' keypoints, or supervision.KeyPoints
        array = _numbers(keypoints.xy, "keypoints")
        # Both put undetected points at (0, 0).
        visible = (array != 0).any(axis=-1)
        array = np.concatenate((array, visible[..., None].astype(np.float64)), axis=-1)
    else:
        array = _numbers(keypoints, "keypoints")
    if array.size == 0:
        return []
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (2, 3):
        raise ValueError(f"keypoints must be (N, J, 2) xy or (N, J, 3) with visibility, got shape {array.shape}")
    if array.shape[2] == 2:
        array = np.concatenate((array, np.ones((*array.shape[:2], 1))), axis=2)
    return list(array)


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A COCO segmentation: polygons, or runs of pixels as numbers or as COCO's text.

    Source: ``rleFrString`` of COCO's API, Dollár and Lin, 2014.
    """
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str):
        return _filled([_numbers(outline, "a COCO polygon").reshape(-1, 2) for outline in segmentation], size)
    if not isinstance(segmentation, Mapping) or "counts" not in segmentation or "size" not in segmentation:
        raise ValueError("a COCO segmentation must be polygons, or have counts and size")
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"a COCO mask must be of size {list(size)} as the image is, got {list(segmentation['size'])}")
    counts = segmentation["counts"]
    runs = _text_runs(counts) if isinstance(counts, str | bytes) else [int(count) for count in counts]
    if sum(runs) != size[0] * size[1] or min(runs, default=0) < 0:
        raise ValueError(f"the runs of a COCO mask must cover {size[0] * size[1]} pixels, got {sum(runs)}")
    # Columns first, beginning outside of the mask.
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(size[1], size[0]).T


def _text_runs(text: str | bytes) -> list[int]:
    """Five bits a letter, the lowest first; from the third run on the difference to the one before the last."""
    letters = text.encode() if isinstance(text, str) else text
    runs: list[int] = []
    place = 0
    while place < len(letters):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(letters):
                raise ValueError("the text of a COCO mask is cut short")
            bits = letters[place] - 48
            value |= (bits & 31) << shift
            shift, place, more = shift + 5, place + 1, bool(bits & 32)
            if not more and bits & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _filled(outlines: Sequence[np.ndarray], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    from PIL import Image, ImageDraw

    page = Image.new("1", (size[1], size[0]))
    for outline in outlines:
        if len(outline) > 1:
            # From between the pixels to their indices.
            ImageDraw.Draw(page).polygon([(x - 0.5, y - 0.5) for x, y in np.asarray(outline).tolist()], fill=1)
    return np.array(page, bool)


def _annotations(given: Any) -> list[Any] | None:
    """COCO's annotations of one image; None where it is something else."""
    if isinstance(given, Mapping):
        given = given.get("annotations", [given])
    if not isinstance(given, list | tuple) or not given or not all(isinstance(item, Mapping) for item in given):
        return None
    if len({item.get("image_id") for item in given}) > 1:
        raise ValueError("COCO annotations must be those of one image, got several image_id")
    return list(given)


def _field(annotation: Mapping[str, Any], name: str) -> Any:
    if name not in annotation:
        raise ValueError(f"a COCO annotation must have {name}, got one with {', '.join(map(str, annotation))}")
    return annotation[name]


def _numbers(values: Any, what: str) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be an array of numbers, got {type(values).__name__}") from None
