"""What moves image, depth, camera and points together: resize-crop, flip, colour, and the canonical focal length.

A transform cuts a box out of the stored image (or lays one around it), resizes that box to the model's size and may
mirror it: :class:`Geometry`. Every random draw comes from the generator that is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from spd.camera import Intrinsics
from spd.config import ModelConfig
from spd.coordinates import resize_points
from spd.data.rgbd import RGBDSample
from spd.depth_range import DepthRange
from spd.train_config import DataConfig

# A noisy depth stays a depth: log(0) would end a training.
_SMALLEST_DEPTH_M = 1e-3
# ITU-R BT.601, as in PIL and torchvision.
_LUMA = (0.299, 0.587, 0.114)


class Geometry(NamedTuple):
    """The map from the pixels of a stored image to those of a model image; sizes are (height, width)."""

    left: int
    top: int
    """First pixel of the box in the stored image; negative where the box reaches beyond it."""
    box_size: tuple[int, int]
    target_size: tuple[int, int]
    flip: bool = False
    """The resized box is mirrored left to right."""


class TransformedSample(NamedTuple):
    """What the model sees of a frame."""

    image: Float[Tensor, "3 H W"]
    """RGB in [0, 1]."""
    depth_m: Float[Tensor, "H W"]
    """Metres for a camera of the canonical focal length; 0 is invalid, as is the scene's depth outside of
    ``ModelConfig.depth_range``."""
    geometry: Geometry
    intrinsics: Intrinsics
    """Camera of the transformed image; ``depth_m · intrinsics.focal_length / f_c`` is the depth of the scene itself."""


@dataclass(frozen=True, kw_only=True)
class EvalTransform:
    """Resizes to the model's training size and brings the depth to the canonical focal length; nothing random."""

    model: ModelConfig

    def __call__(self, sample: RGBDSample) -> TransformedSample:
        height, width = sample.depth_m.shape
        geometry = Geometry(0, 0, (height, width), self.model.train_size)
        camera = move_camera(_camera(sample, self.model), geometry)
        depth_m = _canonical(_scene_depth(sample, geometry, self.model), camera, self.model)
        return TransformedSample(resize_image(sample.image, geometry), depth_m, geometry, camera)


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Random zoom, flip and colour, then as :class:`EvalTransform`.

    The zoom z is log-uniform in ``data.zoom``, so that zooming in by a factor is as likely as zooming out by it. z > 1
    shows 1/z of each side, at a random place; z < 1 shows the whole image on z of each side, at a random place, and
    pads the rest with invalid depth. Zooming by z multiplies the focal length by z; at the canonical focal length it
    therefore divides the depth by z, also for a frame without intrinsics, which is taken to have the canonical focal
    length before the zoom. Depth of a known quantisation step gets uniform noise of that width.
    """

    data: DataConfig
    model: ModelConfig

    def __call__(self, sample: RGBDSample, generator: Generator) -> TransformedSample:
        height, width = sample.depth_m.shape
        geometry = draw_geometry((height, width), self.data, self.model.train_size, generator)
        camera = move_camera(_camera(sample, self.model), geometry)
        image = jitter_color(resize_image(sample.image, geometry), self.data.color_jitter, generator)
        depth_m = add_depth_noise(_scene_depth(sample, geometry, self.model), sample.depth_step, generator)
        return TransformedSample(image, _canonical(depth_m, camera, self.model), geometry, camera)


def draw_geometry(
    source_size: tuple[int, int], data: DataConfig, target_size: tuple[int, int], generator: Generator
) -> Geometry:
    """A random zoom, place and flip; the box has whole pixels, so its zoom is that of ``box_size``, not exactly z."""
    zoom = math.exp(_uniform(math.log(data.zoom[0]), math.log(data.zoom[1]), generator))
    height, width = source_size
    box_height, box_width = max(1, round(height / zoom)), max(1, round(width / zoom))
    top = _integer_between(0, height - box_height, generator)
    left = _integer_between(0, width - box_width, generator)
    flip = data.flip and _uniform(0.0, 1.0, generator) < 0.5
    return Geometry(left, top, (box_height, box_width), target_size, flip)


def move_points(query_points: Float[Tensor, "*batch 2"], geometry: Geometry) -> Float[Tensor, "*batch 2"]:
    """xy pixels of the stored image to those of the model image.

    Example:
        >>> half = Geometry(0, 0, (480, 640), (240, 320))
        >>> move_points(torch.tensor([[0.5, 0.5], [639.5, 479.5]]), half)
        tensor([[  0.0000,   0.0000],
                [319.5000, 239.5000]])
    """
    corner = query_points.new_tensor((geometry.left, geometry.top))
    moved = resize_points(query_points - corner, geometry.box_size, geometry.target_size)
    if not geometry.flip:
        return moved
    u, v = moved.unbind(-1)
    return torch.stack((geometry.target_size[1] - 1 - u, v), dim=-1)


def move_camera(intrinsics: Intrinsics, geometry: Geometry) -> Intrinsics:
    """The camera of the stored image to that of the model image."""
    cropped = intrinsics.cropped(float(geometry.left), float(geometry.top))
    moved = cropped.resized(geometry.box_size, geometry.target_size)
    return moved.flipped(geometry.target_size[1]) if geometry.flip else moved


def resize_image(image: UInt8[Tensor, "3 Hs Ws"], geometry: Geometry) -> Float[Tensor, "3 H W"]:
    """The box of an image in one antialiased bilinear resample, as RGB in [0, 1].

    Beyond the image its border is repeated, as ``encode`` pads: no contour appears that the scene does not have, and
    the model meets no other kind of border than when it is asked.
    """
    (height, width), (box_height, box_width) = image.shape[1:], geometry.box_size
    top, left = geometry.top, geometry.left
    box = image[:, max(top, 0) : top + box_height, max(left, 0) : left + box_width]
    if box.shape[1:] != geometry.box_size:
        vertical = (max(-top, 0), max(top + box_height - height, 0))
        horizontal = (max(-left, 0), max(left + box_width - width, 0))
        # Channels last in memory, as the decoder left them: three times as fast here and in the resampling.
        padded = np.pad(box.permute(1, 2, 0).numpy(), (vertical, horizontal, (0, 0)), mode="edge")
        box = torch.from_numpy(padded).permute(2, 0, 1)
    resized = F.interpolate(box[None], geometry.target_size, mode="bilinear", antialias=True)[0]
    return (resized.flip(-1) if geometry.flip else resized).float() / 255


def resize_depth(depth_m: Float[Tensor, "Hs Ws"], geometry: Geometry) -> Float[Tensor, "H W"]:
    """The box of a depth map by the nearest stored pixel, 0 beyond it: nothing blends over an edge or a hole."""
    height, width = depth_m.shape
    rows = _nearest(geometry.top, geometry.box_size[0], geometry.target_size[0])
    columns = _nearest(geometry.left, geometry.box_size[1], geometry.target_size[1])
    resized = depth_m.index_select(0, rows.clamp(0, height - 1)).index_select(1, columns.clamp(0, width - 1))
    resized[(rows < 0) | (rows >= height)] = 0
    resized[:, (columns < 0) | (columns >= width)] = 0
    return resized.flip(-1) if geometry.flip else resized


def add_depth_noise(depth_m: Float[Tensor, "H W"], step: float, generator: Generator) -> Float[Tensor, "H W"]:
    """Uniform noise of width ``step`` (metres) on the valid depths: undoes their quantisation on average."""
    if step == 0:
        return depth_m
    noise = (torch.rand(depth_m.shape, generator=generator) - 0.5) * step
    return torch.where(depth_m > 0, (depth_m + noise).clamp_min(_SMALLEST_DEPTH_M), depth_m)


def jitter_color(
    image: Float[Tensor, "3 H W"], amounts: tuple[float, float, float, float], generator: Generator
) -> Float[Tensor, "3 H W"]:
    """Random brightness, contrast, saturation and hue in random order, drawn as torchvision's ``ColorJitter`` does.

    Args:
        image: RGB in [0, 1].
        amounts: brightness, contrast, saturation a: factor uniform in [1 - a, 1 + a]; hue h: turn in [-h, h].
        generator: source of the draws.
    """
    brightness, contrast, saturation = (_uniform(1 - a, 1 + a, generator) for a in amounts[:3])
    hue = _uniform(-amounts[3], amounts[3], generator)
    for operation in torch.randperm(4, generator=generator).tolist():
        if amounts[operation] == 0:
            continue
        if operation == 0:
            image = (image * brightness).clamp_(0, 1)
        elif operation == 1:
            # The mean row by row: a sum over the whole image depends on the number of threads in its last bits.
            image = torch.lerp(_grey(image).mean(dim=-1).mean(), image, contrast).clamp_(0, 1)
        elif operation == 2:
            image = torch.lerp(_grey(image), image, saturation).clamp_(0, 1)
        else:
            image = turn_hue(image, hue)
    return image


def turn_hue(image: Float[Tensor, "3 H W"], turn: float) -> Float[Tensor, "3 H W"]:
    """Adds ``turn`` (1 is the whole circle) to the hue in HSV; value and saturation stay.

    The same as torchvision's ``adjust_hue`` in a third of the time, which is that of decoding an image: with hue h in
    sixths, value v and chroma c, a channel is v - c · clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1.
    """
    red, green, blue = image
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sector = torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    hue = torch.where(value == red, green - blue, sector).div_(chroma.clamp_min(1e-12)).add_(6 * turn)
    turned = torch.empty_like(image)
    for channel, offset in zip(turned, (5, 3, 1), strict=True):
        k = hue + offset
        k.sub_(torch.floor(k / 6), alpha=6)
        torch.sub(value, torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma), out=channel)
    return turned


def _camera(sample: RGBDSample, model: ModelConfig) -> Intrinsics:
    """The frame's camera, or the one that has the canonical focal length once the whole frame is resized."""
    if sample.intrinsics is not None:
        return sample.intrinsics
    height, width = sample.depth_m.shape
    focal = model.canonical_focal_length
    assumed = Intrinsics(focal, focal, (model.train_size[1] - 1) / 2, (model.train_size[0] - 1) / 2)
    return assumed.resized(model.train_size, (height, width))


def _scene_depth(sample: RGBDSample, geometry: Geometry, model: ModelConfig) -> Float[Tensor, "H W"]:
    """The true depth of the box in metres of the scene; 0 where it is missing or outside of the model's range."""
    depth_m = resize_depth(sample.depth_m, geometry)
    return torch.where(DepthRange(*model.depth_range).mask(depth_m), depth_m, 0.0)


def _canonical(depth_m: Float[Tensor, "H W"], camera: Intrinsics, model: ModelConfig) -> Float[Tensor, "H W"]:
    return depth_m * (model.canonical_focal_length / camera.focal_length)


def _grey(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 H W"]:
    return _LUMA[0] * image[0:1] + _LUMA[1] * image[1:2] + _LUMA[2] * image[2:3]


def _nearest(start: int, box_length: int, target_length: int) -> Int[Tensor, "length"]:
    """The stored pixel that holds the centre of each target pixel: floor((i + 1/2) · box / target), in integers."""
    doubled = 2 * torch.arange(target_length) + 1
    return start + torch.div(doubled * box_length, 2 * target_length, rounding_mode="floor")


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _integer_between(one: int, other: int, generator: Generator) -> int:
    """Uniform over the integers from one to the other, both included, whichever is the larger."""
    low, high = min(one, other), max(one, other)
    return int(torch.randint(low, high + 1, (), generator=generator).item())
