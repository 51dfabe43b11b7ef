"""The checkpoint that comes with the package."""

from __future__ import annotations

from pathlib import Path

BUNDLED = "spd-nyu-atto"
"""Its name, which stands for its folder wherever a checkpoint is asked for."""


def bundled_folder() -> Path:
    """Where it is."""
    return Path(__file__).parent / "weights" / BUNDLED
