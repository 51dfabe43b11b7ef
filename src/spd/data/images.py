"""Image files and PIL images as 8-bit RGB; whatever cannot be read is one line."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from spd.messages import one_line

DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What PIL and its decoders raise on a file that is no image, is cut short or is damaged."""
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def read_image(
    source: Path | io.BytesIO, *, look: Callable[[Image.Image], None] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The image as displayed (EXIF orientation applied), as :func:`to_rgb` makes it RGB.

    Args:
        source: a path, or the bytes of a file.
        look: called with the opened image, before anything is made of it.

    Raises:
        ValueError: the file is missing, no image, truncated, or of a kind that :func:`to_rgb` refuses.
    """
    _learn_heic()
    try:
        with Image.open(source) as image:
            if look is not None:
                look(image)
            ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image)
    except DECODING_ERRORS as error:
        named = f" {source}" if isinstance(source, Path) else ""
        raise ValueError(f"cannot read the image{named}: {_why_unread(source, error)}") from error


@lru_cache
def _learn_heic() -> None:
    """Pillow reads a phone's HEIC where pillow-heif is installed."""
    if find_spec("pillow_heif") is not None:
        import pillow_heif  # pyright: ignore[reportMissingImports]

        pillow_heif.register_heif_opener()


def _why_unread(source: Path | io.BytesIO, error: BaseException) -> str:
    """Also of what is no damage: the address of a page, a phone's format."""
    if match := re.match(r"(https?):/+(.*)", str(source)):
        return f"{match[1]}://{match[2]} is an address; an image is a file, so download it first"
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                start = file.read(12)
        else:
            start = source.getvalue()[:12]
    except (OSError, ValueError):
        start = b""
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return "it is HEIC, which Pillow does not read; save it as JPEG or PNG, or pip install 'spd-depth[camera]'"
    return one_line(error)


def to_rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a PIL image of any mode as 8-bit RGB; the orientation is left as it is.

    Transparent images are laid on white, as a page shows them: what lies under a transparent pixel is arbitrary.
    16-bit greyscale is scaled to 8 bits (65535 → 255). Palette, CMYK and others go through PIL's own conversion.

    Raises:
        ValueError: greyscale beyond 16 bits or of floating point, whose range is unknown.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return np.array(image)
    if image.mode.startswith(("I", "F")):
        return _wide_grey_to_rgb(image)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        page = Image.new("RGBA", layers.size, "white")
        return np.array(Image.alpha_composite(page, layers).convert("RGB"))
    return np.array(image.convert("RGB"))


def _wide_grey_to_rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    values = np.array(image)
    if image.mode.startswith("F") or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"greyscale must have 8 or 16 bits, got PIL mode {image.mode}")
    grey = np.rint(values / 257.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
