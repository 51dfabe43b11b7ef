"""From linear light to the numbers of a file: lens, exposure, white balance, tone curve, noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8


class Sensor(NamedTuple):
    """What a camera makes of the light that reaches it."""

    exposure: float
    """Linear brightness that the mean of the picture is brought to."""
    noise: float
    """Standard deviation of the noise in grey levels of 255, the same in all colours."""
    shot: float = 0.0
    """Standard deviation, in grey levels, of the noise of each colour where it is white; less where it is dark."""
    blur: int = 1
    """Passes of a filter of standard deviation 0.55 pixels."""
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gain of red, green and blue."""
    contrast: float = 1.0
    """Exponent around mid grey: above 1 the dark gets darker and the bright brighter."""
    vignette: float = 0.0
    """Part of the light that is lost in the corners."""
    jpeg_quality: int = 95
    """Quality of the file; at 95 colours keep their full resolution, else half of it."""


def draw_sensor(rng: np.random.Generator) -> Sensor:
    """A camera like those in phones and depth cameras: not quite sharp, not quite neutral, not free of noise."""
    warm, tint = rng.normal(0, 0.06), rng.normal(0, 0.02)
    return Sensor(
        exposure=float(np.exp(rng.uniform(np.log(0.13), np.log(0.42)))),
        noise=rng.uniform(0.3, 3.0),
        shot=rng.uniform(0.5, 5.0),
        blur=int(rng.choice((1, 1, 2, 3, 5), p=(0.3, 0.2, 0.25, 0.15, 0.1))),
        balance=(1 + warm, 1 + tint, 1 - warm),
        contrast=rng.uniform(0.85, 1.25),
        vignette=max(rng.uniform(-0.2, 0.3), 0.0),
        jpeg_quality=int(rng.integers(60, 96)),
    )


def develop(
    radiance: Float32[np.ndarray, "3 H W"], sensor: Sensor, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Exposure, a lens that is not quite sharp, a shoulder for the highlights, sRGB, noise.

    Args:
        radiance: linear light of every pixel; it is changed in place.
        sensor: the camera.
        rng: draws the noise.
    """
    radiance *= np.float32(sensor.exposure / max(float(np.minimum(radiance, 1.5).mean()), 1e-3))
    if sensor.balance != (1.0, 1.0, 1.0):
        radiance *= np.array(sensor.balance, np.float32)[:, None, None]
    if sensor.vignette:
        radiance *= _vignette(radiance.shape[1], radiance.shape[2], sensor.vignette)
    for _ in range(sensor.blur):
        radiance = _blurred(radiance)
    # Linear to 0.6, then an exponential shoulder that ends at 1.
    bright = 1 - np.float32(0.4) * np.exp((np.float32(0.6) - radiance) / np.float32(0.4))
    radiance = np.where(radiance > 0.6, bright, radiance)
    grey = 255 * radiance ** np.float32(1 / 2.2)
    if sensor.contrast != 1:
        part = grey / 255
        dark, light = part**sensor.contrast, (1 - part) ** sensor.contrast
        grey = 255 * dark / (dark + light)
    noise = rng.standard_normal(grey.shape[1:], np.float32) * np.float32(sensor.noise)
    if sensor.shot:
        noise = noise + rng.standard_normal(grey.shape, np.float32) * np.sqrt(grey * np.float32(sensor.shot**2 / 255))
    grey += noise
    return np.ascontiguousarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _blurred(radiance: Float32[np.ndarray, "3 H W"]) -> Float32[np.ndarray, "3 H W"]:
    """One pass of (0.15, 0.7, 0.15) along rows and columns, the border repeated."""
    for axis in (1, 2):
        blurred = radiance * np.float32(0.7)
        ahead, behind = np.roll(radiance, 1, axis), np.roll(radiance, -1, axis)
        edge = [slice(None)] * 3
        edge[axis] = slice(0, 1)
        ahead[tuple(edge)] = radiance[tuple(edge)]
        edge[axis] = slice(-1, None)
        behind[tuple(edge)] = radiance[tuple(edge)]
        radiance = blurred + np.float32(0.15) * (ahead + behind)
    return radiance


def _vignette(height: int, width: int, loss: float) -> Float32[np.ndarray, "H W"]:
    """1 in the middle, falling with the square of the distance from it to 1 - loss in the corners."""
    across = (np.arange(width, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / width) - 1
    down = (np.arange(height, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / height) - 1
    return 1 - np.float32(loss / 2) * (across**2 + down[:, None] ** 2)
