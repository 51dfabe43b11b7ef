"""Shared by all tests: shapes in annotations are checked at run time, and torch uses a fixed number of threads."""

from __future__ import annotations

import sys

from jaxtyping import install_import_hook

assert not [name for name in sys.modules if name.startswith("spd.")], "spd was imported before the shape check was on"
install_import_hook("spd", "beartype.beartype")

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

# Sums are split by thread: with a fixed number, a test sees the same figures on every machine. The models of the tests
# are small, and two threads that wait for each other on a busy machine are slower than one.
torch.set_num_threads(1)


@pytest.fixture
def image() -> np.ndarray:
    """A small RGB image, (48, 80, 3) uint8: a different ramp in each channel and on each axis."""
    rows, columns = np.mgrid[0:48, 0:80]
    return np.stack((rows * 5, columns * 3, (rows + columns) * 2), axis=-1).astype(np.uint8)


@pytest.fixture
def image_path(image: np.ndarray, tmp_path: Path) -> Path:
    """The same image as a PNG file."""
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    return path
