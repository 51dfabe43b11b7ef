"""Pictures of answers: coloured points with their metres on the image that was asked."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

# Below this the longer side is enlarged, so that text can be read.
_SMALLEST_LONG_SIDE = 640
# All of few points are labelled where there is room, some of many: more labels would hide the image.
_FEW_POINTS = 60
_LABELS_OF_MANY = 25
_BAR_BACKGROUND = (24, 24, 28)
_TEXT = (255, 255, 255)
_RIM = (0, 0, 0)
_PLATE = (0, 0, 0, 150)
_RAINBOW = (
    *((64, 56, 160), (70, 110, 230), (50, 160, 245), (35, 205, 200), (80, 235, 130)),
    *((165, 245, 70), (225, 215, 55), (250, 165, 50), (240, 95, 30), (195, 40, 20)),
)
"""From far to near, at equal steps."""


def draw_depths(
    image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "K 2"], depth_m: Float[np.ndarray, "K"]
) -> UInt8[np.ndarray, "Hp Wp 3"]:
    """The image with a disc at every point, coloured by its depth, and a colour bar in metres to its right.

    Warm is near and cold is far, logarithmically between the nearest and the farthest of the points. Discs are
    labelled with their metres where there is room; of many points some are labelled, spread over the image. An image
    whose longer side is below 640 pixels is enlarged by a whole factor.

    Args:
        image: RGB.
        points: xy pixel indices of ``image``.
        depth_m: their depths in metres, positive and finite.

    Returns:
        RGB picture: the image, enlarged or not, and the bar. Without points, without the bar.

    Raises:
        ValueError: a depth is not a positive number, or there are not as many depths as points.
    """
    if depth_m.shape != points.shape[:1]:
        raise ValueError(f"there must be one depth per point, got {len(depth_m)} depths for {len(points)} points")
    if not (np.isfinite(depth_m) & (depth_m > 0)).all():
        raise ValueError("depth_m must be positive and finite to be drawn")
    factor = math.ceil(_SMALLEST_LONG_SIDE / max(image.shape[:2]))
    picture = Image.fromarray(image)
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    if len(points) == 0:
        return np.array(picture)
    centres = (points + 0.5) * factor - 0.5
    radius = _disc_radius(picture.size, len(points))
    low, high = _depth_range(depth_m)
    _draw_discs(picture, centres, colours(depth_m, low, high), radius)
    _draw_labels(picture, centres, depth_m, radius)
    return np.array(_with_bar(picture, low, high))


def colours(depth_m: Float[np.ndarray, "*shape"], low: float, high: float) -> UInt8[np.ndarray, "*shape 3"]:
    """Depths to RGB, logarithmically along a rainbow: red at ``low`` metres, blue at ``high``."""
    nearness = 1 - (np.log(depth_m) - math.log(low)) / (math.log(high) - math.log(low))
    places = np.linspace(0, 1, len(_RAINBOW))
    channels = [np.interp(nearness, places, channel) for channel in np.transpose(_RAINBOW)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _depth_range(depth_m: Float[np.ndarray, "K"]) -> tuple[float, float]:
    """Nearest and farthest, at least a fifth of their middle apart, so that equal depths do not look far apart."""
    low, high = float(depth_m.min()), float(depth_m.max())
    widening = math.sqrt(max(1.0, 1.2 * low / high))
    return low / widening, high * widening


def _disc_radius(size: tuple[int, int], count: int) -> float:
    """1 % of the image's middle size, less where many points would cover the image."""
    middle = math.sqrt(size[0] * size[1])
    return max(1.5, min(0.011 * middle, 0.22 * middle / math.sqrt(count)))


def _draw_discs(
    picture: Image.Image, centres: Float[np.ndarray, "K 2"], rgb: UInt8[np.ndarray, "K 3"], radius: float
) -> None:
    """Discs with a dark rim, smooth at their edges, onto ``picture``."""
    rim = max(1.0, 0.22 * radius)
    outer, inner = _disc(radius + rim), _disc(radius)
    for (x, y), colour in zip(centres.round().astype(int).tolist(), rgb.tolist(), strict=True):
        for mask, fill in ((outer, _RIM), (inner, tuple(colour))):
            half = mask.width // 2
            picture.paste(fill, (x - half, y - half), mask)


def _disc(radius: float) -> Image.Image:
    """A smooth disc as a mask of odd size, so that it has a middle pixel."""
    half = math.ceil(radius)
    offsets = np.arange(-half, half + 1)
    distance = np.hypot(offsets[:, None], offsets)
    return Image.fromarray((np.clip(radius + 0.5 - distance, 0, 1) * 255).astype(np.uint8))


def _draw_labels(
    picture: Image.Image, centres: Float[np.ndarray, "K 2"], depth_m: Float[np.ndarray, "K"], radius: float
) -> None:
    """Metres on dark plates beside the discs, inside the picture and over no other label; few points, over no disc."""
    unit = _font_size(picture.size)
    font = ImageFont.load_default(unit)
    draw = ImageDraw.Draw(picture, "RGBA")
    height = 1.2 * unit
    few = len(centres) <= _FEW_POINTS
    taken = np.concatenate((centres - 1.2 * radius, centres + 1.2 * radius), axis=1) if few else np.zeros((0, 4))
    for index in _spread(centres, _FEW_POINTS if few else _LABELS_OF_MANY):
        text = f"{depth_m[index]:.2f}"
        boxes = _places(centres[index], (font.getlength(text) + 0.5 * unit, height), 1.4 * radius + 1)
        inside = ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= np.array(picture.size))).all(axis=1)
        free = [box for box in boxes[inside] if not _meets(box, taken)]
        if free:
            taken = np.concatenate((taken, free[:1]))
            left, top, right, bottom = free[0].tolist()
            draw.rounded_rectangle((left, top, right, bottom), radius=0.3 * unit, fill=_PLATE)
            draw.text(((left + right) / 2, (top + bottom) / 2), text, font=font, fill=_TEXT, anchor="mm")


def _places(centre: Float[np.ndarray, "2"], size: tuple[float, float], gap: float) -> Float[np.ndarray, "8 4"]:
    """Where a label of ``size`` (width, height) may go around a disc, as (left, top, right, bottom); the best first."""
    width, height = size
    near, above, below = 0.9 * gap, -0.9 * gap - height, 0.9 * gap
    corners = [
        (gap, -height / 2),
        (-gap - width, -height / 2),
        (-width / 2, -gap - height),
        (-width / 2, gap),
        (near, above),
        (near, below),
        (-near - width, above),
        (-near - width, below),
    ]
    top_left = centre + np.array(corners)
    return np.concatenate((top_left, top_left + np.array(size)), axis=1)


def _meets(box: Float[np.ndarray, "4"], others: Float[np.ndarray, "N 4"]) -> bool:
    """Whether a rectangle (left, top, right, bottom) overlaps any of the others."""
    return bool(((box[:2] < others[:, 2:]) & (box[2:] > others[:, :2])).all(axis=1).any())


def _spread(centres: Float[np.ndarray, "K 2"], count: int) -> list[int]:
    """Indices of at most ``count`` points, each as far as can be from those before it."""
    distance = np.hypot(*(centres - centres.mean(axis=0)).T)
    chosen: list[int] = []
    for _ in range(min(count, len(centres))):
        index = int(distance.argmax())
        chosen.append(index)
        distance = np.minimum(distance, np.hypot(*(centres - centres[index]).T))
        distance[chosen] = -1
    return chosen


def _with_bar(picture: Image.Image, low: float, high: float) -> Image.Image:
    """The picture with a colour bar at its right, near at the bottom, and round metres beside it."""
    unit = _font_size(picture.size)
    font = ImageFont.load_default(unit)
    width = round(5.2 * unit)
    whole = Image.new("RGB", (picture.width + width, picture.height), _BAR_BACKGROUND)
    whole.paste(picture, (0, 0))
    top, bottom = 2 * unit, picture.height - unit
    if bottom - top < 2 * unit:
        return whole
    rows = np.arange(int(top), int(bottom))
    fraction = (bottom - rows) / (bottom - top)
    depths = low * (high / low) ** fraction
    strip = np.repeat(colours(depths, low, high)[:, None], round(unit), axis=1)
    left = picture.width + round(0.8 * unit)
    whole.paste(Image.fromarray(strip), (left, int(top)))
    draw = ImageDraw.Draw(whole)
    draw.text((left, 0.9 * unit), "metres", font=font, fill=_TEXT, anchor="lm")
    last = math.inf
    for tick in _ticks(low, high):
        y = bottom - (bottom - top) * math.log(tick / low) / math.log(high / low)
        if last - y < 1.2 * unit:
            continue
        last = y
        draw.line((left + unit, y, left + 1.3 * unit, y), fill=_TEXT, width=max(1, round(0.08 * unit)))
        draw.text((left + 1.5 * unit, y), f"{tick:g}", font=font, fill=_TEXT, anchor="lm")
    return whole


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers of metres in [low, high], about six, evenly spread by their logarithm where the range is wide."""
    if high / low > 4:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        tried = [digit * 10.0**power for power in decades for digit in (1, 1.5, 2, 3, 4, 5, 7)]
    else:
        rough = (high - low) / 5
        decade = 10.0 ** math.floor(math.log10(rough))
        step = min((digit * decade for digit in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / rough)))
        tried = [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [round(tick, 6) for tick in tried if low <= tick <= high]


def _font_size(size: tuple[int, int]) -> float:
    """Height of the text in pixels, in proportion to the picture."""
    return max(14.0, 0.024 * math.sqrt(size[0] * size[1]))
