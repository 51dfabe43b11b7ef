"""The checkpoint that comes with the package."""

from __future__ import annotations

from pathlib import Path

BUNDLED = "spd-lite"
"""Its name, which stands for its folder wherever a checkpoint of SPD is asked for, unless a folder has that name."""


def bundled_folder() -> Path:
    """Where it is."""
    return Path(__file__).parent / "weights" / BUNDLED
