"""Bytes of images and depth maps, as the layouts have them and as the imports write them."""

from __future__ import annotations

import io
import struct

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, UnidentifiedImageError

from spd.data.nyu.source import SIZE
from spd.messages import one_line

_LARGEST = np.iinfo(np.uint16).max


def encode_png(pixels: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W"]) -> bytes:
    """The pixels as PNG, without loss."""
    buffer = io.BytesIO()
    # On NYU's images level 1 gives files an eighth larger than level 6 in a quarter of its time.
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def to_millimetres(depth_m: Float[np.ndarray, "H W"], name: str) -> UInt16[np.ndarray, "H W"]:
    """Depth in metres to the nearest millimetre; 0 where it is 0, negative or not finite: no measurement.

    Raises:
        ValueError: a depth is beyond 65.535 m, so that these can be no metres; ``name`` says where.
    """
    millimetres = np.rint(np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, 0).astype(np.float64) * 1000)
    if millimetres.max() > _LARGEST:
        raise ValueError(f"{name} must hold metres up to 65.535, got {millimetres.max() / 1000:g}")
    return millimetres.astype(np.uint16)


def check_image(data: bytes, name: str) -> None:
    """Decode an image and check its size.

    Raises:
        ValueError: it is no image, is cut short or is not 640x480; ``name`` says which.
    """
    _decode(data, name)


def check_depth(data: bytes, name: str) -> None:
    """Decode a 16-bit depth map and check its size.

    Raises:
        ValueError: it is no image, is cut short, or is not 640x480 of 16-bit greyscale; ``name`` says which.
    """
    picture = _decode(data, name)
    if not picture.mode.startswith("I"):
        raise ValueError(f"{name} must be a 16-bit greyscale PNG, got PIL mode {picture.mode}")


def decode_depth_8bit(data: bytes, name: str) -> UInt8[np.ndarray, "H W"]:
    """The values of an 8-bit depth map.

    Raises:
        ValueError: it is no image, is cut short, or is not 640x480 of 8-bit greyscale; ``name`` says which.
    """
    picture = _decode(data, name)
    if picture.mode != "L":
        raise ValueError(f"{name} must be an 8-bit greyscale PNG, got PIL mode {picture.mode}")
    return np.array(picture)


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        # PIL names the buffer, which tells nobody anything.
        reason = "no image" if isinstance(error, UnidentifiedImageError) else one_line(error)
        raise ValueError(f"cannot read the image {name}, {len(data):,} bytes: {reason}") from error
    if picture.size != (SIZE[1], SIZE[0]):
        raise ValueError(f"{name} must be {SIZE[1]}x{SIZE[0]}, got {picture.width}x{picture.height}")
    return picture
